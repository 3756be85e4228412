"""The operator `recurra::layer_training`: one layer that keeps what its backward pass needs.

It stands in a graph where the fused CPU engine is to train the layer, so that a compiled training step runs the layer
once. When the graph runs, another backend may be forced, or the engine may be missing where a stored graph was loaded.
The operator then keeps empty tensors, and the operator of the backward pass runs the layer again.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from .. import dispatch
from ..call import LayerCall
from ..cpu import run as engine
from ..cpu.generator.plan import Plan, plan
from ..cpu.layer_run import kept_shape
from .arguments import SCHEMA, gradients_of, needs_of, save, saved, unflatten
from .recompute import gradients_by_running_again, refuse_tangents, run_inside

__all__: list[str] = []

_plan = lru_cache(maxsize=256)(plan)


def _autocast(on: bool) -> torch.autocast:
    """The autocast under which the graph was made; the graph itself may run without autocast, or under another."""
    return torch.autocast("cpu", torch.bfloat16, enabled=on)


def _narrow(call: LayerCall, autocast: bool) -> bool:
    return autocast or call.input.dtype == torch.bfloat16


def _extra(call: LayerCall, autocast: bool) -> tuple[int, torch.dtype]:
    """How many states' sequences the backward pass can take from the outputs, and the dtype that it computes in.

    The sequences of the other states are kept beside the outputs. Where the outputs are rounded, the backward pass can
    take none from them, and the sequences of all states are kept.
    """
    narrow = _narrow(call, autocast)
    inside = torch.float32 if narrow else call.input.dtype
    rounded = engine.result_dtype(call, narrow) != inside
    return 0 if rounded else len(call.states) if call.all_states else 1, inside


def _kept(call: LayerCall, inside: torch.dtype) -> Tensor:
    """Memory for the values that the engine keeps, for all rows, because lengths are known only when the graph runs."""
    steps, batch = call.input.shape[:2]
    the_plan: Plan = _plan(call.cell)
    shape = kept_shape(
        the_plan, len(call.weights), steps * batch, call.hidden, zoneout=bool(call.zoneout), projected=call.projection
    )
    return call.input.new_empty(shape, dtype=inside)


def _sequences(call: LayerCall, states: Sequence[Tensor], dtype: torch.dtype) -> list[Tensor]:
    """Memory for the values of each state at every step, (T, B, D*H)."""
    steps, directions = call.input.shape[:2], len(call.weights)
    return [call.input.new_empty((*steps, directions * state.shape[2]), dtype=dtype) for state in states]


@torch.library.custom_op("recurra::layer_training", mutates_args=(), schema=f"({SCHEMA}, bool autocast) -> Tensor[]")
def _layer_training(*arguments: Any) -> list[Tensor]:
    """Outputs, final states, sequences of states that `_extra` asks for, what the engine kept, and whether it ran."""
    *flat, autocast = arguments
    call = unflatten(*flat)
    call.check()
    refuse_tangents(call)
    start, inside = _extra(call, autocast)
    kept = _kept(call, inside)
    with _autocast(autocast):
        layer_run = dispatch.engine_run(call)
        if layer_run is not None:
            dtype = engine.result_dtype(call, _narrow(call, autocast))
            results = [result.to(dtype) for result in layer_run.forward(kept)]
            extra = layer_run.states[start:]
        else:
            results = run_inside(call)
            extra = _sequences(call, call.states[start:], inside)
    return [*results, *extra, kept, torch.tensor(layer_run is not None, device="cpu")]


@_layer_training.register_fake
def _(*arguments: Any) -> list[Tensor]:
    *flat, autocast = arguments
    call = unflatten(*flat)
    start, inside = _extra(call, autocast)
    dtype = engine.result_dtype(call, _narrow(call, autocast))
    outputs = _sequences(call, call.states if call.all_states else call.states[:1], dtype)
    final = [state.new_empty(state.shape, dtype=dtype) for state in call.states]
    extra = _sequences(call, call.states[start:], inside)
    return [*outputs, *final, *extra, _kept(call, inside), call.input.new_empty((), dtype=torch.bool)]


@torch.library.custom_op(
    "recurra::layer_training_backward",
    mutates_args=(),
    schema=(
        f"(Tensor?[] gradients, Tensor[] recorded, Tensor kept, Tensor ran, bool[] needs, {SCHEMA}, bool autocast) "
        "-> Tensor[]"
    ),
)
def _layer_training_backward(
    gradients: Sequence[Tensor | None],
    recorded: Sequence[Tensor],
    kept: Tensor,
    ran: Tensor,
    needs: Sequence[bool],
    *arguments: Any,
) -> list[Tensor]:
    """The gradients of those of the call's leaves that need one.

    Args:
        gradients: of outputs and final states; None for zero.
        recorded: each state at every step.
        kept: what the engine kept.
        ran: whether the engine ran.
        needs: for each leaf, whether its gradient is needed.
        arguments: those of the forward pass.
    """
    *flat, autocast = arguments
    call = unflatten(*flat)
    call.check()
    with _autocast(autocast):
        if bool(ran):
            layer_run = engine.ready(call)
            given = [None if g is None else g.to(kept.dtype) for g in gradients]
            outputs = len(given) - len(call.states)
            # Nothing is spent, because an operator must not change its inputs.
            found = layer_run.backward(
                recorded, kept, given[:outputs], given[outputs:], needs, spend=False, contiguous=True
            )
        else:
            found = gradients_by_running_again(call, gradients)
    return [gradient.to(leaf.dtype) for gradient, leaf, need in zip(found, call.leaves(), needs, strict=True) if need]


@_layer_training_backward.register_fake
def _(
    gradients: Sequence[Tensor | None],
    recorded: Sequence[Tensor],
    kept: Tensor,
    ran: Tensor,
    needs: Sequence[bool],
    *arguments: Any,
) -> list[Tensor]:
    leaves = unflatten(*arguments[:-1]).leaves()
    return [leaf.new_empty(leaf.shape) for leaf, need in zip(leaves, needs, strict=True) if need]


def _save(ctx: Any, inputs: tuple[Any, ...], output: list[Tensor]) -> None:
    call = unflatten(*inputs[:-1])
    states = len(call.states)
    outputs = states if call.all_states else 1
    ctx.results = outputs + states
    kept = output[ctx.results :]
    ctx.mark_non_differentiable(*kept)
    ctx.set_materialize_grads(False)
    # The sequences of states are the outputs and the sequences kept beside them; or only these if outputs are rounded.
    recorded = [*output[:outputs], *kept[:-2]][-states:]
    save(ctx, inputs, *recorded, *kept[-2:])


def _backward(ctx: Any, gradients: list[Tensor | None]) -> tuple[Any, ...]:
    arguments, others = saved(ctx)
    *recorded, kept, ran = others
    needs = needs_of(ctx.needs_input_grad)
    found = iter(
        torch.ops.recurra.layer_training_backward(gradients[: ctx.results], recorded, kept, ran, needs, *arguments)
    )
    return *gradients_of(arguments[:-1], [next(found) if need else None for need in needs]), None


_layer_training.register_autograd(_backward, setup_context=_save)
