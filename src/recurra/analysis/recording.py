"""Every state and gate of the recurrent layers of a model over texts.

The states are those of the very pass in which the model reads the text: each `Recurrent` is asked to return all its
states, which changes nothing else of what it computes. Gates are computed from these states by the cell's equations.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from ..cells import Cell
from ..data.places import Places
from ..errors import ConfigError
from ..layers import Recurrent
from ..systems.reading import Reading, Side
from .gate_recording import gates_of_steps, looked_at

__all__ = [
    "MOST_NUMBERS",
    "LayerPlace",
    "LayerRecord",
    "SideRecord",
    "layer_places",
    "most_steps",
    "numbers_per_step",
    "record",
]

MOST_NUMBERS = 1 << 26
"""The most numbers of a recording, 256 MiB: an LSTM of 2 x 512 units records 6,144 a step, so 10,922 steps fit."""

_CLOSE = 10
"""Units of a layer whose gates there is room for beside all states."""

Array = npt.NDArray[np.float32]


@dataclass(frozen=True)
class LayerPlace:
    """One direction of one recurrent layer of a model.

    Attributes:
        module: the name of its `Recurrent` among the model's modules.
        index: of the layer in that module, from 0.
        direction: 0 runs forward in time, 1 backward.
        number: of the layer among those that read the text, from 1.
        cell: its equations.
        units: H.
    """

    module: str
    index: int
    direction: int
    number: int
    cell: Cell
    units: int

    @property
    def name(self) -> str:
        """What people call it, such as "layer 2 backward"."""
        return f"layer {self.number}" + (" backward" if self.direction else "")


@dataclass(frozen=True)
class LayerRecord:
    """What a layer did at each token.

    Attributes:
        place: which layer.
        states: by name, (T, H).
        gates: between 0 and 1, by name, (T, H).
        candidates: what gates let in, by name, (T, H).
    """

    place: LayerPlace
    states: dict[str, Array]
    gates: dict[str, Array]
    candidates: dict[str, Array]


@dataclass(frozen=True)
class SideRecord:
    """What the layers did that read one side of the texts.

    Attributes:
        name: of the side.
        text: all texts, one after another, each with a line end between it and the next one.
        places: (T, 2), of all tokens in `text`.
        starts: the first token of each text.
        layers: from the bottom up.
    """

    name: str
    text: str
    places: Places
    starts: tuple[int, ...]
    layers: tuple[LayerRecord, ...]


def layer_places(model: nn.Module, sides: Sequence[Side]) -> list[LayerPlace]:
    """Every direction of every recurrent layer of a model that reads one of the sides, in the order of its modules."""
    found: list[LayerPlace] = []
    number = 0
    for name, module in model.named_modules():
        if not isinstance(module, Recurrent) or not any(name.startswith(side.modules) for side in sides):
            continue
        for index in range(module.num_layers):
            number += 1
            units = module.state_shapes(index, 1)[-1][2]
            for direction in range(module.num_directions):
                found.append(LayerPlace(name, index, direction, number, module.cell, units))
    return found


def numbers_per_step(places: Iterable[LayerPlace]) -> int:
    """How many numbers a step of these layers records."""
    quantities = {
        place: len(place.cell.states) + sum(not is_state for _, is_state in looked_at(place.cell)) for place in places
    }
    return sum(count * place.units for place, count in quantities.items())


def most_steps(reading: Reading, layer: int | None, bytes_too: int | None = None, one_state: bool = False) -> int:
    """Over how many steps the states and gates of a model can be recorded.

    Args:
        reading: of any text.
        layer: the one layer to record, from 1; None: all.
        bytes_too: how many numbers of states alone there may be too, and gates of a few units; None: any.
        one_state: whether only one state counts for these.

    Raises:
        ConfigError: if there is no such layer.
    """
    places = _chosen(layer_places(reading.model, reading.sides), None if layer is None else [layer])
    most = MOST_NUMBERS // max(numbers_per_step(places), 1)
    if bytes_too is None:
        return most
    states = sum((1 if one_state else len(place.cell.states)) * place.units for place in places)
    gates = _CLOSE * sum(len(looked_at(place.cell)) for place in places)
    return min(most, bytes_too // max(states + gates, 1))


def record(readings: Sequence[Reading], layers: Sequence[int] | None = None) -> list[SideRecord]:
    """Let a model read texts, and record every state and gate of its layers.

    Args:
        readings: of one model, each with the same sides.
        layers: the numbers of the layers to record, from 1; None: all of them.

    Returns:
        For each side that recurrent layers read, in the order of the readings' sides.

    Raises:
        ConfigError: if there is nothing to read, no such layer, or more than `MOST_NUMBERS` would be recorded.
    """
    filled = [reading for reading in readings if any(len(side.places) for side in reading.sides)]
    if not filled:
        raise ConfigError("there is no text to read: give a text or a file with text in it.")
    wanted = _chosen(layer_places(filled[0].model, filled[0].sides), layers)
    steps = max(sum(reading.sides[i].steps for reading in filled) for i in range(len(filled[0].sides)))
    if steps * numbers_per_step(wanted) > MOST_NUMBERS:
        most = MOST_NUMBERS // numbers_per_step(wanted)
        raise ConfigError(f"the text has {steps:,} tokens, and these layers can be recorded over {most:,}; cut it.")
    passes = [_read(reading, wanted) for reading in filled]
    records = []
    for number, side in enumerate(filled[0].sides):
        own = [place for place in wanted if place.module.startswith(side.modules)]
        parts = [each[number] for each in passes]
        found = tuple(_joined(place, [part[place] for part in parts]) for place in own if place in parts[0])
        if found:
            records.append(_with_texts([reading.sides[number] for reading in filled], found))
    if not records:
        raise ConfigError("no recurrent layer reads this text token by token, so there are no states to show.")
    return records


def _chosen(places: list[LayerPlace], layers: Sequence[int] | None) -> list[LayerPlace]:
    numbers = {place.number for place in places}
    for number in layers or ():
        if number not in numbers:
            raise ConfigError(
                f"--layer {number}: the model has layers 1 to {max(numbers, default=0)}; name one of them."
            )
    return [place for place in places if layers is None or place.number in layers]


def _read(reading: Reading, wanted: Sequence[LayerPlace]) -> list[dict[LayerPlace, LayerRecord]]:
    """For each side of a reading, what its layers did at its tokens."""
    with _listening(reading.model, wanted) as heard:
        reading.run()
    found: list[dict[LayerPlace, LayerRecord]] = []
    for side in reading.sides:
        layers = {}
        for place in wanted:
            values = _of_tokens(side, heard[place]) if place.module.startswith(side.modules) else None
            if values is not None:
                layers[place] = _record(place, values)
        found.append(layers)
    return found


def _record(place: LayerPlace, values: dict[str, Array]) -> LayerRecord:
    found: dict[str, dict[str, Array]] = {"gate": {}, "candidate": {}}
    for each, is_state in looked_at(place.cell):
        found[each.kind][each.name] = values[each.name if is_state else f"gate {each.name}"]
    return LayerRecord(place, {name: values[name] for name in place.cell.states}, found["gate"], found["candidate"])


def _of_tokens(side: Side, calls: Sequence[dict[str, Array]]) -> dict[str, Array] | None:
    """Values at a side's tokens; None if the layer took other steps than one for each of them."""
    if sum(len(next(iter(call.values()))) for call in calls) != side.steps:
        return None
    found = {}
    for name in calls[0] if calls else ():
        steps = np.concatenate([call[name] for call in calls])
        if side.backwards:
            steps = steps[::-1]
        found[name] = np.ascontiguousarray(steps[side.before : side.steps - side.after])
    return found or None


@contextmanager
def _listening(model: nn.Module, wanted: Sequence[LayerPlace]) -> Iterator[dict[LayerPlace, list[dict[str, Array]]]]:
    """What each call of a layer computes while the context lasts, for calls with one row."""
    heard: dict[LayerPlace, list[dict[str, Array]]] = {place: [] for place in wanted}
    modules = dict(model.named_modules())
    with ExitStack() as stack:
        for name in dict.fromkeys(place.module for place in wanted):
            module, own = modules[name], [place for place in wanted if place.module == name]
            assert isinstance(module, Recurrent)

            def ask(_: nn.Module, given: tuple[Any, ...], options: dict[str, Any]) -> Any:
                return given, options | {"return_all_states": True}

            def hear(
                module: Recurrent, given: tuple[Any, ...], options: dict[str, Any], result: Any,
                own: Sequence[LayerPlace] = own,
            ) -> Any:  # fmt: skip
                output, final, states = result
                for place, values in zip(own, _call_values(module, own, given, options, states), strict=False):
                    heard[place].append(values)
                return output, final

            for handle in (
                module.register_forward_pre_hook(ask, with_kwargs=True),
                module.register_forward_hook(hear, with_kwargs=True),
            ):
                stack.callback(handle.remove)
        yield heard


def _call_values(
    module: Recurrent, own: Sequence[LayerPlace], given: tuple[Any, ...], options: dict[str, Any], states: Any
) -> list[dict[str, Array]]:
    """The states and gates of each wanted layer in one call; none if the call has several rows."""
    input = given[0]
    if not isinstance(input, Tensor) or input.is_nested or input.dim() != 3 or options.get("resets") is not None:
        return []
    if module.batch_first:
        input = input.transpose(0, 1)
        states = [tuple(state.transpose(0, 1) for state in layer) for layer in states]
    if input.shape[1] != 1:
        return []
    hx = given[1] if len(given) > 1 else options.get("hx")
    lengths = options.get("lengths")
    count = len(input) if lengths is None else int(torch.as_tensor(lengths)[0])
    first = module.layer_states(hx, 1, input)
    inputs = [input]
    for layer in range(module.num_layers - 1):
        inputs.append(module.after_layer(layer, inputs[-1], states[layer][0]))
    found = []
    with torch.inference_mode():
        for place in own:
            layer, direction = place.index, place.direction
            after = {
                name: value[:count, 0].chunk(module.num_directions, -1)[direction]
                for name, value in zip(place.cell.states, states[layer], strict=True)
            }
            begins = {name: value[direction] for name, value in zip(place.cell.states, first[layer], strict=True)}
            gates = gates_of_steps(
                place.cell,
                module.layer_weights(layer)[direction],
                inputs[layer][:count, 0],
                {name: _before(value, begins[name], direction) for name, value in after.items()},
            )
            values = after | {f"gate {name}": value for name, value in gates.items()}
            found.append({name: value.float().cpu().numpy().copy() for name, value in values.items()})
    return found


def _before(after: Tensor, first: Tensor, direction: int) -> Tensor:
    """A state before each step, of the state after each step and the first one, (1, H)."""
    return torch.cat([after[1:], first] if direction else [first, after[:-1]])


def _joined(place: LayerPlace, parts: Sequence[LayerRecord]) -> LayerRecord:
    if len(parts) == 1:
        return parts[0]
    return LayerRecord(
        place,
        *(
            {name: np.concatenate([getattr(part, kind)[name] for part in parts]) for name in getattr(parts[0], kind)}
            for kind in ("states", "gates", "candidates")
        ),
    )


def _with_texts(sides: Sequence[Side], layers: tuple[LayerRecord, ...]) -> SideRecord:
    offsets = [0, *accumulate(len(side.text) + 1 for side in sides)]
    places = np.concatenate([side.places + offset for side, offset in zip(sides, offsets, strict=False)])
    starts = [0, *accumulate(len(side.places) for side in sides)][:-1]
    return SideRecord(sides[0].name, "\n".join(side.text for side in sides), places, tuple(starts), layers)
