"""Inspected states as a page and as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..pages.states import ShownLayer, ShownRanking, ShownSide, ShownUnit, write_states
from ..pictures.states import DrawnUnit, draw_states
from .contexts import THRESHOLD
from .inspection import InspectedSide
from .properties import BUILT_IN
from .ranking import RankedUnit, Ranking
from .recording import LayerRecord

__all__ = ["draw_inspection", "score_text", "write_inspection"]


def score_text(ranking: Ranking, value: float) -> str:
    """A score as tables have it; a correlation with its sign."""
    return f"{value:.3f}" if ranking.score == "auc" else f"{value:+.3f}"


def write_inspection(path: str | Path, title: str, sides: Sequence[InspectedSide]) -> None:
    """Write the page of `recurra.pages.states`.

    Raises:
        ConfigError: if there are too many states for a page.
        RunError: if it cannot be written.
    """
    write_states(path, title, [_side(side) for side in sides], _first(sides), THRESHOLD)


def draw_inspection(path: Path, sides: Sequence[InspectedSide]) -> None:
    """Draw the units that are looked at closely on the first side, and the gates of its layers.

    Raises:
        RunError: if it cannot be written.
    """
    side = sides[0]
    units = [
        DrawnUnit(f"{state} {unit}, {layer.place.name}", layer.states[state][:, unit])
        for layer, close in zip(side.record.layers, side.close, strict=True)
        for state, unit in close
    ]
    if not units:
        layer = side.record.layers[0]
        state = list(layer.states)[-1]
        units = [DrawnUnit(f"{state} 0, {layer.place.name}", layer.states[state][:, 0])]
    tokens = [side.record.text[start:stop] for start, stop in side.record.places.tolist()]
    gates = {
        f"gate {name}, {layer.place.name}": (found.closed, found.open)
        for layer, own in zip(side.record.layers, side.saturation, strict=True)
        for name, found in own.items()
    }
    draw_states(path, tokens, units, gates)


def _side(side: InspectedSide) -> ShownSide:
    found = side.record
    layers = []
    for layer, gates, close in zip(found.layers, side.saturation, side.close, strict=True):
        units = list(dict.fromkeys(unit for _, unit in close))
        layers.append(
            ShownLayer(
                layer.place.name,
                layer.states,
                {name: values[:, units] for name, values in layer.gates.items()} if units else {},
                units,
                {name: (each.closed, each.open) for name, each in gates.items()},
            )
        )
    return ShownSide(found.name, found.text, found.places, layers, [_ranking(r, found.layers) for r in side.rankings])


def _ranking(ranking: Ranking, layers: Sequence[LayerRecord]) -> ShownRanking:
    about = BUILT_IN.get(ranking.property, "from the file of labels")
    places = {layer.place: place for place, layer in enumerate(layers)}
    units = [
        ShownUnit(
            places[unit.layer], unit.state, unit.unit,
            score_text(ranking, unit.chosen), score_text(ranking, unit.held_out), f"{unit.p:.2g}",
        )
        for unit in ranking.units
    ]  # fmt: skip
    untrained = "" if ranking.untrained is None else score_text(ranking, ranking.untrained.held_out)
    return ShownRanking(ranking.property, about, ranking.score, units, ranking.remark, untrained)


def _first(sides: Sequence[InspectedSide]) -> dict[str, object]:
    """What a page shows at first: the unit that follows a property best."""
    best: RankedUnit | None = None
    strength = -1.0
    for ranking in sides[0].rankings:
        for unit in ranking.units[:1]:
            own = abs(2 * unit.held_out - 1) if ranking.score == "auc" else abs(unit.held_out)
            if own > strength:
                best, strength = unit, own
    layers = sides[0].record.layers
    if best is None:
        return {"side": 0, "layer": 0, "state": list(layers[0].states)[-1], "unit": 0}
    place = next(place for place, layer in enumerate(layers) if layer.place == best.layer)
    return {"side": 0, "layer": place, "state": best.state, "unit": best.unit}
