"""Layer calls as operators take them: strings, numbers, tensors and lists of these."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from ..cells import CELLS, Cell
from .call import LayerCall, weight_names

__all__ = ["cell_of", "flatten", "key_of", "leaves_of", "register", "unflatten"]

# Operators take strings, not cells. A key says class and options, so it is the same in every process.
_CELLS: dict[str, Cell] = {}


def key_of(cell: Cell) -> str:
    """The string by which the operators know a cell."""
    return f"{type(cell).__module__}.{type(cell).__qualname__}:{cell!r}"


def register(cell: Cell) -> str:
    """Make a cell known to the operators, and return its key."""
    key = key_of(cell)
    _CELLS[key] = cell
    return key


for _cell in CELLS.values():
    register(_cell)


def cell_of(key: str) -> Cell:
    """The cell of a key.

    Raises:
        RuntimeError: if it was never registered here.
    """
    if key not in _CELLS:
        raise RuntimeError(f"{key} is not registered here; construct a recurra.Recurrent with this cell first.")
    return _CELLS[key]


def flatten(call: LayerCall) -> tuple[Any, ...]:
    """A padded call as arguments of an operator, in the order of `unflatten`."""
    return (
        key_of(call.cell),
        call.input,
        list(call.states),
        [tensor for direction in call.weights for tensor in direction.values()],
        call.lengths,
        call.recurrent_mask,
        call.zoneout,
        list(call.zoneout_masks),
        call.all_states,
        call.bias,
        call.projection,
    )


def unflatten(
    cell: str,
    input: Tensor,
    states: Sequence[Tensor],
    weights: Sequence[Tensor],
    lengths: Tensor | None,
    recurrent_mask: Tensor | None,
    zoneout: float,
    zoneout_masks: Sequence[Tensor],
    all_states: bool,
    bias: bool,
    projection: bool,
) -> LayerCall:
    """The call of an operator's arguments."""
    the_cell = cell_of(cell)
    names = weight_names(the_cell, bias, projection)
    directions = [weights[start : start + len(names)] for start in range(0, len(weights), len(names))]
    return LayerCall(
        the_cell,
        input,
        tuple(states),
        tuple(dict(zip(names, direction, strict=True)) for direction in directions),
        lengths,
        recurrent_mask,
        zoneout,
        tuple(zoneout_masks),
        all_states,
    )


def leaves_of(call: LayerCall) -> list[Tensor]:
    """Whatever can have a gradient: input, initial states and each direction's weights."""
    return [call.input, *call.states, *(weight for direction in call.weights for weight in direction.values())]
