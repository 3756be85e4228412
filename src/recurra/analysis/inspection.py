"""What a model's units do on texts, put together: recordings, saturation, and the units that follow properties."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from ..errors import ConfigError
from ..names import nearest
from ..systems.reading import Reading
from .contexts import Contexts, nearest_contexts
from .labels import read_labels
from .properties import BUILT_IN, Property, properties
from .ranking import RankedUnit, Ranking, adjusted, rank_units
from .recording import SideRecord, record
from .saturation import Saturation, saturation

__all__ = ["LABEL", "InspectedSide", "UnitChoice", "check_property", "inspect_states"]

LABEL = "label"
"""The name of what a file of labels says, or with a colon and a label what begins its name."""


@dataclass(frozen=True)
class UnitChoice:
    """Which units are looked at closely.

    Attributes:
        units: by their numbers, in every layer.
        best_of: the names of properties whose best unit is looked at.
    """

    units: tuple[int, ...] = ()
    best_of: tuple[str, ...] = ()

    @classmethod
    def parse(cls, text: str) -> UnitChoice:
        """Read "3,17" or "best:quotes" or a mixture of both.

        Raises:
            ConfigError: if it is something else.
        """
        units, best_of = [], []
        for part in (each.strip() for each in text.split(",")):
            if re.fullmatch(r"[0-9]{1,9}", part):
                units.append(int(part))
            elif part.startswith("best:"):
                best_of.append(part.removeprefix("best:"))
                check_property(best_of[-1])
            else:
                raise ConfigError(f"--units {text}: give numbers and best:PROPERTY, such as 3,17,best:quotes.")
        return cls(tuple(dict.fromkeys(units)), tuple(dict.fromkeys(best_of)))


def check_property(name: str) -> None:
    """Refuse a property that there is not.

    Raises:
        ConfigError: naming the nearest one.
    """
    if name not in BUILT_IN and name != LABEL and not name.startswith(f"{LABEL}:"):
        known = [*BUILT_IN, LABEL]
        guess = nearest(name, known)
        raise ConfigError(
            f"there is no property {name}; " + (f"did you mean {guess}?" if guess else f"known are {', '.join(known)}.")
        )


@dataclass(frozen=True)
class InspectedSide:
    """What the units did on one side of the texts.

    Attributes:
        record: their states and gates.
        saturation: for each layer its gates' by name.
        rankings: of properties, the best units first.
        close: for each layer the units that are looked at closely, each with the state that it was chosen for.
        span: the tokens whose like was looked for; None: none.
        contexts: for each layer and state, in their order, places where the same units are on as throughout the span.
    """

    record: SideRecord
    saturation: tuple[Mapping[str, Saturation], ...]
    rankings: tuple[Ranking, ...]
    close: tuple[tuple[tuple[str, int], ...], ...]
    span: tuple[int, int] | None = None
    contexts: tuple[tuple[str, str, Contexts], ...] = ()

    def text_of(self, start: int, stop: int) -> str:
        """The text of tokens, with what stands between them; of tokens beyond the text nothing."""
        places = self.record.places[max(start, 0) : stop]
        return self.record.text[places[0, 0] : places[-1, 1]] if len(places) else ""

    def json(self) -> dict[str, Any]:
        """Everything but the states and gates themselves, as JSON holds it."""
        return {
            "side": self.record.name,
            "tokens": len(self.record.places),
            "layers": [
                {
                    "layer": layer.place.number,
                    "direction": "backward" if layer.place.direction else "forward",
                    "module": layer.place.module,
                    "units": layer.place.units,
                    "states": list(layer.states),
                    "gates": {
                        name: {
                            "closed": found.layer[0],
                            "open": found.layer[1],
                            "units_closed": found.closed.round(4).tolist(),
                            "units_open": found.open.round(4).tolist(),
                        }
                        for name, found in gates.items()
                    },
                }
                for layer, gates in zip(self.record.layers, self.saturation, strict=True)
            ],
            "properties": [
                {
                    "property": ranking.property,
                    "score": ranking.score,
                    "remark": ranking.remark or None,
                    "units": [_unit_json(unit) for unit in ranking.units],
                    "untrained": None if ranking.untrained is None else _unit_json(ranking.untrained),
                }
                for ranking in self.rankings
            ],
            "span": self.span,
            "contexts": [
                {
                    "layer": layer,
                    "state": state,
                    "units": list(found.units),
                    "places": [{**place._asdict(), "text": self.text_of(*place[:2])} for place in found.places],
                }
                for layer, state, found in self.contexts
            ],
        }


def _unit_json(unit: RankedUnit) -> dict[str, Any]:
    return {
        "layer": unit.layer.number,
        "direction": "backward" if unit.layer.direction else "forward",
        "state": unit.state,
        "unit": unit.unit,
        "first_half": unit.chosen,
        "second_half": unit.held_out,
        "p": unit.p,
    }


def inspect_states(
    readings: Sequence[Reading],
    *,
    layer: int | None = None,
    state: str | None = None,
    names: Iterable[str] = tuple(BUILT_IN),
    labels: str | Path | None = None,
    units: UnitChoice | None = None,
    count: int = 5,
    span: tuple[int, int] | None = None,
    untrained: Mapping[str, Tensor] | None = None,
) -> list[InspectedSide]:
    """Record what a model does on texts, and find the units that follow properties of them.

    Args:
        readings: of the texts; see `recurra.systems.reading`.
        layer: the one layer to look at, from 1; None: all.
        state: the one state to look at, such as "c"; None: all.
        names: properties; see `recurra.analysis.properties`.
        labels: a file of labels of the first side's tokens; see `recurra.analysis.labels`.
        units: that are looked at closely; None: the best unit of each property.
        count: units that are shown for each property, and places that are shown for the span.
        span: tokens of the first side, for which places with the same units on are looked for; None: none.
        untrained: new weights of the model, as `state_dict` names them, with which its best units are found too; the
            model has its own weights again afterwards. None: they are not.

    Raises:
        ConfigError: as `record` does, or for a state, property or unit that there is not.
        DataError: if the labels cannot be read or do not fit.
    """
    layers = None if layer is None else [layer]
    records = [_with_state(side, state) for side in record(readings, layers)]
    wanted = list(names)
    own = [name for name in wanted if name in BUILT_IN]
    compared: list[list[Property]] = []
    for number, side in enumerate(records):
        given = properties(side, own)
        if labels is not None and number == 0:
            # A file of labels is asked for by its name; some of its labels can be.
            chosen = {name for name in wanted if name.startswith(f"{LABEL}:")}
            given += [each for each in read_labels(labels, side) if not chosen or each.name in chosen]
        compared.append(given)
    rankings = [
        [rank_units(side, each, count) for each in given] for side, given in zip(records, compared, strict=True)
    ]
    if untrained is not None:
        with _weights(readings[0].model, untrained):
            fresh = [_with_state(side, state) for side in record(readings, layers)]
        for side, own_rankings, given in zip(fresh, rankings, compared, strict=True):
            for place, each in enumerate(given):
                best = next(iter(rank_units(side, each, 1).units), None)
                own_rankings[place] = replace(own_rankings[place], untrained=best)
    flat = iter(adjusted([each for some in rankings for each in some]))
    done = [[next(flat) for _ in some] for some in rankings]
    return [
        InspectedSide(
            side,
            tuple(saturation(each) for each in side.layers),
            tuple(some),
            _close(side, some, units, first=number == 0),
            span if number == 0 else None,
            () if span is None or number else _contexts(side, span, count),
        )
        for number, (side, some) in enumerate(zip(records, done, strict=True))
    ]


@contextmanager
def _weights(model: nn.Module, other: Mapping[str, Tensor]) -> Iterator[None]:
    """Other weights in place of a model's own while the context lasts."""
    own = {name: value.clone() for name, value in model.state_dict().items()}
    model.load_state_dict(other)
    try:
        yield
    finally:
        model.load_state_dict(own)


def _contexts(side: SideRecord, span: tuple[int, int], count: int) -> tuple[tuple[str, str, Contexts], ...]:
    start, stop = span
    if not start < stop <= len(side.places):
        raise ConfigError(f"--span {start}:{stop}: give tokens of 0:{len(side.places)}, the first below the second.")
    return tuple(
        (layer.place.name, state, nearest_contexts(values, start, stop, count))
        for layer in side.layers
        for state, values in layer.states.items()
    )


def _with_state(side: SideRecord, state: str | None) -> SideRecord:
    """The same with one of its states alone, if one is named."""
    if state is None:
        return side
    known = list(dict.fromkeys(name for layer in side.layers for name in layer.states))
    if state not in known:
        raise ConfigError(f"--state {state}: the layers have the states {' and '.join(known)}; name one of them.")
    return replace(side, layers=tuple(replace(layer, states={state: layer.states[state]}) for layer in side.layers))


def _close(
    side: SideRecord, rankings: Sequence[Ranking], units: UnitChoice | None, first: bool
) -> tuple[tuple[tuple[str, int], ...], ...]:
    """For each layer the states and numbers of the units that are looked at closely."""
    found: list[list[tuple[str, int]]] = [[] for _ in side.layers]
    for number in () if units is None else units.units:
        fitting = [place for place, layer in enumerate(side.layers) if number < layer.place.units]
        if not fitting and first:
            most = max(layer.place.units for layer in side.layers)
            raise ConfigError(f"--units {number}: the layers have the units 0 to {most - 1}; name others.")
        for place in fitting:
            found[place].append((list(side.layers[place].states)[-1], number))
    known = {ranking.property: ranking for ranking in rankings}
    places = {layer.place: place for place, layer in enumerate(side.layers)}
    wanted = list(known) if units is None else units.best_of
    for name in wanted:
        named = [known[each] for each in known if each == name or (name == LABEL and each.startswith(f"{LABEL}:"))]
        if not named and first:
            raise ConfigError(f"--units best:{name}: this property was not asked for; add it to --property.")
        for ranking in named:
            for unit in ranking.units[:1]:
                found[places[unit.layer]].append((unit.state, unit.unit))
    return tuple(tuple(dict.fromkeys(each)) for each in found)
