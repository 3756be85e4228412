"""One layer as one operator, so that torch.compile and torch.export see a call and not a loop over time.

The operator's backward runs the layer again inside: nothing but its inputs has to be saved in the compiled graph. Where
the fused CPU engine trains, the operator of training_op.py, whose backward does not, takes its place.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from . import training_op
from .call import LayerCall, LayerResult, autocast_dtype
from .dispatch import run_eagerly
from .flat_call import flatten, key_of, register, unflatten
from .recompute import gradients_by_running_again, run_inside
from .torch_fused import widens_autocast

__all__ = ["key_of", "register", "run_layer"]


def run_layer(call: LayerCall) -> LayerResult:
    """Run a layer on the first backend that takes it; while torch compiles or exports, as one operator.

    Raises:
        RuntimeError: if a forced backend refuses it.
    """
    if not torch.compiler.is_compiling():
        return run_eagerly(call)
    if training_op.applies(call):
        return training_op.run(call)
    narrow = autocast_dtype(call.input)
    results = torch.ops.recurra.layer(*flatten(call if narrow is None else call.to(narrow)))
    if narrow is not None and widens_autocast(call):
        results = [result.to(call.input.dtype) for result in results]
    wanted = len(results) - len(call.states)
    return LayerResult(tuple(results[:wanted]), tuple(results[wanted:]))


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
    call = unflatten(
        cell, input, states, weights, lengths, recurrent_mask, zoneout, zoneout_masks, all_states, bias, projection
    )
    return run_inside(call)


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
    call = unflatten(
        cell, input, states, weights, lengths, recurrent_mask, zoneout, zoneout_masks, all_states, bias, projection
    )
    return gradients_by_running_again(call, gradients)


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
