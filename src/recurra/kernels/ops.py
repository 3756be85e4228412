"""One layer as one operator, so that torch.compile and torch.export see a call and not a loop over time.

The operator's backward runs the layer again inside: nothing but its inputs has to be saved in the compiled graph. Where
the fused CPU engine trains, the operator of training_op.py, whose backward does not, takes its place.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import register_flop_formula

from . import reference, training_op
from .call import LayerCall, LayerResult, autocast_dtype
from .dispatch import run_eagerly
from .flat_call import SCHEMA, flatten, gradients_of, save, saved, unflatten
from .flops import flops, flops_backward
from .recompute import gradients_by_running_again, run_inside
from .surroundings import transformed, watched
from .torch_fused import widens_autocast

__all__ = ["run_layer"]


def run_layer(call: LayerCall) -> LayerResult:
    """Run a layer on the first backend that takes it; where torch looks at operators (`watched`), as one operator.

    Raises:
        RuntimeError: if a forced backend refuses it.
    """
    if not watched():
        return run_eagerly(call)
    if transformed():
        # An operator has no rule for batches within batches or forward-mode derivatives; the loop over time needs none.
        return reference.run(call)
    # A traced graph is looked at twice, with and without gradients, and has to be the same.
    if not torch.jit.is_tracing() and training_op.applies(call):
        return training_op.run(call)
    narrow = autocast_dtype(call.input)
    results = torch.ops.recurra.layer(*flatten(call if narrow is None else call.to(narrow)))
    if narrow is not None and widens_autocast(call):
        results = [result.to(call.input.dtype) for result in results]
    wanted = len(results) - len(call.states)
    return LayerResult(tuple(results[:wanted]), tuple(results[wanted:]))


@torch.library.custom_op("recurra::layer", mutates_args=(), schema=f"({SCHEMA}) -> Tensor[]")
def _layer(*arguments: Any) -> list[Tensor]:
    return run_inside(unflatten(*arguments))


@_layer.register_fake
def _(*arguments: Any) -> list[Tensor]:
    call = unflatten(*arguments)
    wanted = call.states if call.all_states else call.states[:1]
    shape = call.input.shape[:2]
    outputs = [state.new_empty((*shape, state.shape[0] * state.shape[2])) for state in wanted]
    return outputs + [state.new_empty(state.shape) for state in call.states]


@torch.library.custom_op(
    "recurra::layer_backward", mutates_args=(), schema=f"(Tensor[] gradients, {SCHEMA}) -> Tensor[]"
)
def _layer_backward(gradients: list[Tensor], *arguments: Any) -> list[Tensor]:
    return gradients_by_running_again(unflatten(*arguments), gradients)


@_layer_backward.register_fake
def _(gradients: list[Tensor], *arguments: Any) -> list[Tensor]:
    return [leaf.new_empty(leaf.shape) for leaf in unflatten(*arguments).leaves()]


def _save(ctx: Any, inputs: tuple[Any, ...], output: list[Tensor]) -> None:
    save(ctx, inputs)
    ctx.shapes = [(tuple(tensor.shape), tensor.dtype, tensor.device) for tensor in output]


def _backward(ctx: Any, gradients: list[Tensor | None]) -> tuple[Any, ...]:
    arguments, _ = saved(ctx)
    full = [
        torch.zeros(shape, dtype=dtype, device=device) if g is None else g
        for g, (shape, dtype, device) in zip(gradients, ctx.shapes, strict=True)
    ]
    return gradients_of(unflatten(*arguments), torch.ops.recurra.layer_backward(full, *arguments))


_layer.register_autograd(_backward, setup_context=_save)


@register_flop_formula([torch.ops.recurra.layer, torch.ops.recurra.layer_training], get_raw=True)
def _(*arguments: Any, out_val: Any = None) -> int:
    return flops(unflatten(*arguments[:_ARGUMENTS]))


_ARGUMENTS = len(SCHEMA.split(", "))


@register_flop_formula(torch.ops.recurra.layer_backward, get_raw=True)
def _(gradients: Any, *arguments: Any, out_val: Any = None) -> int:
    # What was run again is counted too, for it is done.
    call = unflatten(*arguments)
    return flops(call) + flops_backward(call)


@register_flop_formula(torch.ops.recurra.layer_training_backward, get_raw=True)
def _(gradients: Any, recorded: Any, kept: Any, ran: Any, needs: Any, *arguments: Any, out_val: Any = None) -> int:
    return flops_backward(unflatten(*arguments[:_ARGUMENTS]))
