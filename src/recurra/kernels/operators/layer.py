"""The operator `recurra::layer`: one layer over a whole sequence, on the backend that is chosen when the graph runs.

Its backward pass runs the layer again, so that a compiled graph saves nothing but the operator's inputs. Where the
fused CPU engine is to train the layer, `recurra::layer_training` takes its place, whose backward pass does not run the
layer again.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .arguments import SCHEMA, gradients_of, save, saved, unflatten
from .recompute import gradients_by_running_again, run_inside

__all__: list[str] = []


@torch.library.custom_op("recurra::layer", mutates_args=(), schema=f"({SCHEMA}) -> Tensor[]")
def _layer(*arguments: Any) -> list[Tensor]:
    """Outputs, then final states."""
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
    """The gradients of the call's leaves."""
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
    return gradients_of(arguments, torch.ops.recurra.layer_backward(full, *arguments))


_layer.register_autograd(_backward, setup_context=_save)
