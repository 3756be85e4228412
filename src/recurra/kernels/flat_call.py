"""Layer calls as operators take them: strings, numbers, tensors and lists of these."""

from __future__ import annotations

import hashlib
from typing import Any

from torch import Tensor
from torch.utils import _pytree

from ..cells import CELLS, Cell
from ..cells.trace import trace
from .call import LayerCall, weight_names
from .reference import gates_on_h

__all__ = ["SCHEMA", "cell_of", "flatten", "gradients_of", "key_of", "register", "save", "saved", "unflatten"]

# The arguments of a call in the order of `flatten` and `unflatten`.
SCHEMA = (
    "str cell, Tensor input, Tensor[] states, Tensor[] weights, Tensor? lengths, Tensor? recurrent_mask, "
    "float zoneout, Tensor[] zoneout_masks, bool all_states, bool bias, bool projection, Tensor? resets, "
    "Tensor[] restart"
)

# Operators take strings, not cells.
_CELLS: dict[str, Cell] = {}
_KEYS: dict[Cell, str] = {}


def key_of(cell: Cell) -> str:
    """The string by which the operators know a cell: its class, its options and a digest of its equations.

    It is the same in every process, and another one for a class of the same name with other equations, such as a class
    that a notebook defines twice.
    """
    key = _KEYS.get(cell)
    if key is None:
        digest = hashlib.sha256(repr(_equations(cell)).encode()).hexdigest()[:16]
        key = _KEYS[cell] = f"{type(cell).__module__}.{type(cell).__qualname__}:{cell!r}:{digest}"
    return key


def _equations(cell: Cell) -> list[Any]:
    """What a cell computes, in plain values."""
    step = trace(cell)
    nodes = step.nodes()
    places = {node.order: place for place, node in enumerate(nodes)}
    made = [(node.op, [places[argument.order] for argument in node.args], node.name, node.values) for node in nodes]
    new = [(state, places[node.order]) for state, node in step.outputs.items()]
    return [list(cell.gates), list(cell.vectors), list(cell.matrices), made, new]


def register(cell: Cell) -> str:
    """Make a cell known to the operators, and return its key."""
    key = key_of(cell)
    _CELLS[key] = cell
    gates_on_h(cell)
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
    """A padded call as arguments of an operator, in the order of `SCHEMA`."""
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
        call.resets,
        list(call.restart),
    )


def unflatten(*arguments: Any) -> LayerCall:
    """The call of an operator's arguments, in the order of `SCHEMA`.

    Raises:
        RuntimeError: if weights are missing; `LayerCall.check` looks at the rest.
    """
    key, input, states, weights, lengths, mask, zoneout, masks, all_states, bias, projection, *others = arguments
    resets, restart = others
    cell = cell_of(key)
    names = weight_names(cell, bias, projection)
    if len(weights) not in (len(names), 2 * len(names)):
        raise RuntimeError(f"a direction has the weights {', '.join(names)}, but {len(weights)} tensors were given")
    directions = [weights[start : start + len(names)] for start in range(0, len(weights), len(names))]
    return LayerCall(
        cell,
        input,
        tuple(states),
        tuple(dict(zip(names, direction, strict=True)) for direction in directions),
        lengths,
        mask,
        zoneout,
        tuple(masks),
        all_states,
        None,
        resets,
        tuple(restart),
    )


def gradients_of(call: LayerCall, gradients: list[Tensor | None]) -> tuple[Any, ...]:
    """Gradients of a call's leaves, in their order, as an operator returns them for each of its arguments."""
    states, restart = len(call.states), len(call.restart)
    weights = gradients[1 + states : len(gradients) - restart]
    none_masks = [None] * len(call.zoneout_masks)
    of_restart = gradients[len(gradients) - restart :]
    before = (None, gradients[0], gradients[1 : 1 + states], weights, None, None, None, none_masks)
    return *before, None, None, None, None, of_restart


def save(ctx: Any, arguments: tuple[Any, ...], *others: Tensor) -> None:
    """Keep an operator's arguments, and other tensors, for its way back."""
    leaves, ctx.structure = _pytree.tree_flatten(arguments)
    tensors = [leaf if isinstance(leaf, Tensor) else None for leaf in leaves]
    ctx.constants = [None if isinstance(leaf, Tensor) else leaf for leaf in leaves]
    ctx.save_for_backward(*tensors, *others)


def saved(ctx: Any) -> tuple[tuple[Any, ...], list[Tensor]]:
    """What `save` kept."""
    tensors = ctx.saved_tensors
    count = len(ctx.constants)
    leaves = [
        constant if tensor is None else tensor for tensor, constant in zip(tensors[:count], ctx.constants, strict=True)
    ]
    return _pytree.tree_unflatten(leaves, ctx.structure), list(tensors[count:])
