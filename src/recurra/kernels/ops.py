"""One layer as one operator, so that torch.compile and torch.export see a call and not a loop over time.

The operator's backward runs the layer again inside: nothing but its inputs has to be saved in the compiled graph.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..cells import CELLS, Cell
from .call import LayerCall, LayerResult, autocast_dtype, check_range, weight_names
from .dispatch import run_eagerly
from .torch_fused import widens_autocast

__all__ = ["key_of", "register", "run_layer"]

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


def _cell_of(key: str) -> Cell:
    if key not in _CELLS:
        raise RuntimeError(f"{key} is not registered here; construct a recurra.Recurrent with this cell first.")
    return _CELLS[key]


def run_layer(call: LayerCall) -> LayerResult:
    """Run a layer on the first backend that takes it; while torch compiles or exports, as one operator.

    Raises:
        RuntimeError: if a forced backend refuses it.
    """
    if not torch.compiler.is_compiling():
        return run_eagerly(call)
    narrow = autocast_dtype(call.input)
    dtype = narrow or call.input.dtype
    mask = call.recurrent_mask
    results = torch.ops.recurra.layer(
        key_of(call.cell),
        call.input.to(dtype),
        [state.to(dtype) for state in call.states],
        [tensor.to(dtype) for direction in call.weights for tensor in direction.values()],
        call.lengths,
        None if mask is None else mask.to(dtype),
        call.zoneout,
        list(call.zoneout_masks),
        call.all_states,
        call.bias,
        call.projection,
    )
    if narrow is not None and widens_autocast(call):
        results = [result.to(call.input.dtype) for result in results]
    wanted = len(results) - len(call.states)
    return LayerResult(tuple(results[:wanted]), tuple(results[wanted:]))


def _call(
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
    the_cell = _cell_of(cell)
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


@torch.library.custom_op("recurra::layer", mutates_args=())
def _layer(
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
) -> list[Tensor]:
    call = _call(
        cell, input, states, weights, lengths, recurrent_mask, zoneout, zoneout_masks, all_states, bias, projection
    )
    if lengths is not None and lengths.device.type == "cpu":
        # While compiling their values could not be looked at.
        check_range(lengths, input.shape[0])
    result = run_eagerly(call)
    # An operator may not return its own input, which the final state of an empty sequence is.
    final = [tensor.clone(memory_format=torch.contiguous_format) for tensor in result.final]
    return [tensor.contiguous() for tensor in result.outputs] + final


@_layer.register_fake
def _(
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
) -> list[Tensor]:
    wanted = states if all_states else states[:1]
    shape = input.shape[:2]
    outputs = [state.new_empty((*shape, state.shape[0] * state.shape[2])) for state in wanted]
    return outputs + [state.new_empty(state.shape) for state in states]


@torch.library.custom_op("recurra::layer_backward", mutates_args=())
def _layer_backward(
    gradients: Sequence[Tensor],
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
) -> list[Tensor]:
    # An operator's body runs below autograd, which has to be let in again before anything is recorded.
    below = torch._C._SetExcludeDispatchKeyGuard
    keys = torch._C.DispatchKey
    with below(keys.AutogradFunctionality, False), below(keys.ADInplaceOrView, False), torch.enable_grad():
        leaves = [tensor.detach().requires_grad_() for tensor in (input, *states, *weights)]
        call = _call(
            cell, leaves[0], leaves[1 : 1 + len(states)], leaves[1 + len(states) :], lengths, recurrent_mask,
            zoneout, zoneout_masks, all_states, bias, projection,
        )  # fmt: skip
        result = run_eagerly(call)
        results = [*result.outputs, *result.final]
        # Without a step the outputs are empty and depend on nothing.
        used = [(value, g) for value, g in zip(results, gradients, strict=True) if value.requires_grad]
        found = torch.autograd.grad([v for v, _ in used], leaves, [g for _, g in used], allow_unused=True)
    # Compiled code relies on the strides that the fake kernel promised, whatever those of the input are.
    return [leaf.new_zeros(leaf.shape) if g is None else g.contiguous() for leaf, g in zip(leaves, found, strict=True)]


@_layer_backward.register_fake
def _(
    gradients: Sequence[Tensor],
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
) -> list[Tensor]:
    return [tensor.new_empty(tensor.shape) for tensor in (input, *states, *weights)]


def _save(ctx: Any, inputs: tuple[Any, ...], output: list[Tensor]) -> None:
    cell, input, states, weights, lengths, recurrent_mask, zoneout, zoneout_masks, *flags = inputs
    tensors = [input, *states, *weights, *zoneout_masks]
    ctx.save_for_backward(*tensors, lengths, recurrent_mask)
    ctx.sizes = (len(states), len(weights), len(zoneout_masks))
    ctx.options = (cell, zoneout, flags)
    ctx.shapes = [(tuple(tensor.shape), tensor.dtype, tensor.device) for tensor in output]


def _backward(ctx: Any, gradients: list[Tensor | None]) -> tuple[Any, ...]:
    *tensors, lengths, recurrent_mask = ctx.saved_tensors
    n_states, n_weights, n_masks = ctx.sizes
    cell, zoneout, flags = ctx.options
    input, rest = tensors[0], tensors[1:]
    states, weights, masks = rest[:n_states], rest[n_states : n_states + n_weights], rest[n_states + n_weights :]
    full = [
        torch.zeros(shape, dtype=dtype, device=device) if g is None else g
        for g, (shape, dtype, device) in zip(gradients, ctx.shapes, strict=True)
    ]
    grad_input, *others = torch.ops.recurra.layer_backward(
        full, cell, input, states, weights, lengths, recurrent_mask, zoneout, masks, *flags
    )
    none_masks = [None] * n_masks
    return None, grad_input, others[:n_states], others[n_states:], None, None, None, none_masks, None, None, None


_layer.register_autograd(_backward, setup_context=_save)
