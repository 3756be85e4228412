"""The arguments of the operators: a `LayerCall` as strings, numbers, tensors and lists of tensors, and back.

`ARGUMENTS` is the only list of the arguments; everything else here is derived from it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any

from torch import Tensor
from torch.utils import _pytree

from ..call import LayerCall, weight_names
from ..known_cells import cell_of, key_of

__all__ = ["ARGUMENTS", "SCHEMA", "flatten", "gradients_of", "needs_of", "save", "saved", "unflatten"]

# Type by name, in order. Stored graphs hold calls with these arguments, so that a change here breaks them. But for
# `cell`, which is the cell's key, and `weights`, which are one list, the arguments are attributes of `LayerCall`.
ARGUMENTS = {
    "cell": "str",
    "input": "Tensor",
    "states": "Tensor[]",
    "weights": "Tensor[]",
    "lengths": "Tensor?",
    "recurrent_mask": "Tensor?",
    "zoneout": "float",
    "zoneout_masks": "Tensor[]",
    "all_states": "bool",
    "bias": "bool",
    "projection": "bool",
    "resets": "Tensor?",
    "restart": "Tensor[]",
}

SCHEMA = ", ".join(f"{type} {name}" for name, type in ARGUMENTS.items())
"""The arguments as a schema of torch.library lists them."""

# The lists that are tuples in a call.
_TUPLES = [name for name, type in ARGUMENTS.items() if type == "Tensor[]" and name != "weights"]

# The arguments that can have a gradient, in the order of `LayerCall.leaves`.
_LEAVES = ("input", "states", "weights", "restart")


def flatten(call: LayerCall) -> tuple[Any, ...]:
    """The arguments of a padded call; a packed call has to be padded first."""
    given: dict[str, Any] = {
        "cell": call.key or key_of(call.cell),
        "weights": [weight for direction in call.weights for weight in direction.values()],
    }
    for name in _TUPLES:
        given[name] = list(getattr(call, name))
    return tuple(given[name] if name in given else getattr(call, name) for name in ARGUMENTS)


def unflatten(*arguments: Any) -> LayerCall:
    """The call of an operator's arguments.

    Raises:
        RuntimeError: if weights are missing; `LayerCall.check` looks at everything else.
    """
    given: dict[str, Any] = dict(zip(ARGUMENTS, arguments, strict=True))
    key, weights = given.pop("cell"), given.pop("weights")
    for name in _TUPLES:
        given[name] = tuple(given[name])
    names = _names(key, given.pop("bias"), given.pop("projection"))
    if len(weights) not in (len(names), 2 * len(names)):
        raise RuntimeError(f"a direction has the weights {', '.join(names)}, but {len(weights)} tensors were given")
    directions = [weights[start : start + len(names)] for start in range(0, len(weights), len(names))]
    by_name = tuple(dict(zip(names, direction, strict=True)) for direction in directions)
    return LayerCall(cell_of(key), weights=by_name, key=key, **given)


@lru_cache(maxsize=256)
def _names(key: str, bias: bool, projection: bool) -> list[str]:
    """The names of one direction's weights."""
    return weight_names(cell_of(key), bias, projection)


def needs_of(needs_input_grad: Sequence[Any]) -> list[bool]:
    """For each leaf of a call, whether its gradient is needed.

    Args:
        needs_input_grad: autograd's answer for each argument, a list where the argument is a list; answers for further
            arguments may follow.
    """
    needs: list[bool] = []
    for name, need in zip(ARGUMENTS, needs_input_grad, strict=False):
        if name in _LEAVES:
            needs += need if isinstance(need, list | tuple) else [need]
    return needs


def gradients_of(arguments: Sequence[Any], gradients: Iterable[Tensor | None]) -> tuple[Any, ...]:
    """A gradient for each argument, as autograd expects them from an operator.

    Args:
        arguments: the operator's arguments.
        gradients: a gradient for each leaf of the call.
    """
    rest = iter(gradients)
    given: list[Any] = []
    for name, argument in zip(ARGUMENTS, arguments, strict=True):
        if isinstance(argument, list | tuple):
            given.append([next(rest) if name in _LEAVES else None for _ in argument])
        else:
            given.append(next(rest) if name in _LEAVES else None)
    return tuple(given)


def save(ctx: Any, arguments: tuple[Any, ...], *others: Tensor) -> None:
    """Keep an operator's arguments, and other tensors, for the backward pass."""
    leaves, ctx.structure = _pytree.tree_flatten(arguments)
    tensors = [leaf if isinstance(leaf, Tensor) else None for leaf in leaves]
    ctx.constants = [None if isinstance(leaf, Tensor) else leaf for leaf in leaves]
    ctx.save_for_backward(*tensors, *others)


def saved(ctx: Any) -> tuple[tuple[Any, ...], list[Tensor]]:
    """The arguments and the other tensors that `save` kept."""
    tensors = ctx.saved_tensors
    count = len(ctx.constants)
    leaves = [
        constant if tensor is None else tensor for tensor, constant in zip(tensors[:count], ctx.constants, strict=True)
    ]
    return _pytree.tree_unflatten(leaves, ctx.structure), list(tensors[count:])
