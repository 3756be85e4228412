"""One layer as an operator that keeps what its way back needs, so that a compiled training step runs it once.

It stands in a graph where the fused CPU engine is to train the layer. Another backend may be forced by the time that
the graph runs, or the engine be missing where a stored graph is loaded: then what is kept is empty and the operator of
the way back runs the layer again.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from .call import LayerCall, LayerResult, autocast_dtype
from .cpu import run as engine
from .cpu.generator.plan import Plan, plan
from .cpu.layer_run import kept_shape
from .dispatch import engine_runs, note
from .flat_call import SCHEMA, flatten, gradients_of, save, saved, unflatten
from .known_cells import cell_of, key_of
from .recompute import gradients_by_running_again, refuse_tangents, run_inside
from .surroundings import constant

__all__ = ["applies", "run"]

# Missing in the oldest torch that is supported, where exported graphs then hold this operator, which is as right.
_exporting = getattr(torch.compiler, "is_exporting", lambda: False)
_plan = lru_cache(maxsize=256)(plan)


def applies(call: LayerCall) -> bool:
    """Whether a layer that is being compiled will be trained on the fused CPU engine, as far as can be known then.

    An exported graph is for inference and keeps nothing.
    """
    if _exporting() or not torch.is_grad_enabled() or not any(leaf.requires_grad for leaf in call.leaves()):
        return False
    if not (engine.alike(call) and engine.computes(call.input)):
        return False
    masked, key = call.recurrent_mask is not None, call.key or key_of(call.cell)
    # Branched on, for a probability that changed between calls is a symbol.
    if call.zoneout:
        return _offered(key, call.projection, masked, True)
    return _offered(key, call.projection, masked, False)


@constant
def _offered(key: str, projection: bool, masked: bool, zoneout: bool) -> bool:
    cell = cell_of(key)
    return engine.compiles(cell) and engine.refused_options(cell, projection, masked, zoneout) is None


def run(call: LayerCall) -> LayerResult:
    """The layer as this operator, where it `applies`."""
    count = len(call.states)
    outputs = count if call.all_states else 1
    results = torch.ops.recurra.layer_training(*flatten(call), autocast_dtype(call.input) is not None)
    return LayerResult(tuple(results[:outputs]), tuple(results[outputs : outputs + count]))


def _autocast(on: bool) -> torch.autocast:
    """The autocast under which the graph was made; the graph itself runs without it, or under another."""
    return torch.autocast("cpu", torch.bfloat16, enabled=on)


def _narrow(call: LayerCall, autocast: bool) -> bool:
    return autocast or call.input.dtype == torch.bfloat16


def _extra(call: LayerCall, autocast: bool) -> tuple[int, torch.dtype]:
    """How many of the states stand among the outputs as the way back needs them, and the dtype of all that is kept.

    The other states of every step are kept beside the outputs; so are all of them where outputs are rounded.
    """
    narrow = _narrow(call, autocast)
    inside = torch.float32 if narrow else call.input.dtype
    rounded = engine.result_dtype(call, narrow) != inside
    return 0 if rounded else len(call.states) if call.all_states else 1, inside


def _kept(call: LayerCall, inside: torch.dtype) -> Tensor:
    """Memory for what the engine keeps, for all rows: how many count is only known when the graph runs."""
    steps, batch = call.input.shape[:2]
    the_plan: Plan = _plan(call.cell)
    shape = kept_shape(
        the_plan, len(call.weights), steps * batch, call.hidden, zoneout=bool(call.zoneout), projected=call.projection
    )
    return call.input.new_empty(shape, dtype=inside)


def _sequences(call: LayerCall, states: Sequence[Tensor], dtype: torch.dtype) -> list[Tensor]:
    """Memory for each state of every step."""
    steps, directions = call.input.shape[:2], len(call.weights)
    return [call.input.new_empty((*steps, directions * state.shape[2]), dtype=dtype) for state in states]


@torch.library.custom_op("recurra::layer_training", mutates_args=(), schema=f"({SCHEMA}, bool autocast) -> Tensor[]")
def _layer_training(*arguments: Any) -> list[Tensor]:
    """Outputs, final states, the states of every step that the way back needs beside the outputs, what the engine
    kept, and whether it was the engine that ran.
    """
    *flat, autocast = arguments
    call = unflatten(*flat)
    call.check()
    refuse_tangents(call)
    start, inside = _extra(call, autocast)
    kept = _kept(call, inside)
    with _autocast(autocast):
        ran = engine_runs(call)
        if ran:
            note(engine.name)
            layer_run = engine.ready(call)
            dtype = engine.result_dtype(call, _narrow(call, autocast))
            results = [result.to(dtype) for result in layer_run.forward(kept)]
            extra = layer_run.states[start:]
        else:
            results = run_inside(call)
            extra = _sequences(call, call.states[start:], inside)
    return [*results, *extra, kept, torch.tensor(ran, device="cpu")]


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
    """Those gradients of the call's leaves that are needed."""
    *flat, autocast = arguments
    call = unflatten(*flat)
    call.check()
    with _autocast(autocast):
        if bool(ran):
            layer_run = engine.ready(call)
            given = [None if g is None else g.to(kept.dtype) for g in gradients]
            outputs = len(given) - len(call.states)
            # What was kept may be wanted again: this graph's inputs are not the operator's to change.
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
    # The states of every step are outputs and those kept beside them, or only the latter where outputs are rounded.
    recorded = [*output[:outputs], *kept[:-2]][-states:]
    save(ctx, inputs, *recorded, *kept[-2:])


def _backward(ctx: Any, gradients: list[Tensor | None]) -> tuple[Any, ...]:
    arguments, others = saved(ctx)
    *recorded, kept, ran = others
    call = unflatten(*arguments[:-1])
    _, input_needs, state_needs, weight_needs, *_, restart_needs, _ = ctx.needs_input_grad
    needs = [input_needs, *state_needs, *weight_needs, *restart_needs]
    found = iter(
        torch.ops.recurra.layer_training_backward(gradients[: ctx.results], recorded, kept, ran, needs, *arguments)
    )
    return *gradients_of(call, [next(found) if need else None for need in needs]), None


_layer_training.register_autograd(_backward, setup_context=_save)
