"""Layer calls as operators take them: strings, numbers, tensors and lists of these."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.utils import _pytree

from .call import LayerCall, weight_names
from .known_cells import cell_of, key_of

__all__ = ["SCHEMA", "flatten", "gradients_of", "save", "saved", "unflatten"]

# The arguments of a call in the order of `flatten` and `unflatten`.
SCHEMA = (
    "str cell, Tensor input, Tensor[] states, Tensor[] weights, Tensor? lengths, Tensor? recurrent_mask, "
    "float zoneout, Tensor[] zoneout_masks, bool all_states, bool bias, bool projection, Tensor? resets, "
    "Tensor[] restart"
)


def flatten(call: LayerCall) -> tuple[Any, ...]:
    """A padded call as arguments of an operator, in the order of `SCHEMA`."""
    return (
        call.key or key_of(call.cell),
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
        key,
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
