"""The engine as a backend: a layer's tensors to addresses, and its place in autograd."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from ...cells import Cell
from .. import reference
from ..call import LayerCall, LayerResult, autocast_dtype
from ..packing import run_padded
from ..torch_fused import transformed, widens_autocast
from .compiled import CompiledCell, compiled, engine
from .layer_run import LayerRun
from .rows import Rows

__all__ = [
    "alike",
    "available",
    "compiles",
    "computes",
    "name",
    "ready",
    "refusal",
    "refused_options",
    "result_dtype",
    "run",
]

name = "cpu"

# Below so many multiplications a step another thread costs more than it takes over.
_WORTH_A_THREAD = 6000


def available(cell: Cell, input: Tensor) -> str | None:
    """Why the engine can run no layer of this cell on this input, or None when it can."""
    if not input.is_cpu:
        return "it runs on the CPU"
    if engine() is None:
        return "this installation was built without it"
    if not computes(input):
        return "it computes in float32, float64 and bfloat16"
    if transformed() or torch.jit.is_tracing() or type(input) not in (Tensor, torch.nn.Parameter):
        return "it has no rule for transformed, traced or fake tensors"
    if compiled(cell) is None:
        return f"there is no compiled code for {cell!r}"
    return None


def compiles(cell: Cell) -> bool:
    """Whether there is compiled code for a cell."""
    return engine() is not None and compiled(cell) is not None


def computes(input: Tensor) -> bool:
    """Whether it computes in the dtype that a layer on this input computes in."""
    return _dtype(input) in (torch.float32, torch.float64, torch.bfloat16)


def _dtype(input: Tensor) -> torch.dtype:
    """The dtype that a layer on this input computes in."""
    return autocast_dtype(input) or input.dtype


def refusal(call: LayerCall) -> str | None:
    """Why the engine cannot run this layer, or None when it can."""
    reason = available(call.cell, call.input)
    if reason is not None:
        return reason
    masked = call.recurrent_mask is not None
    reason = refused_options(call.cell, call.projection, masked, bool(call.zoneout))
    if reason is not None:
        return reason
    return None if alike(call) else "input, states and weights differ in dtype or device"


def refused_options(cell: Cell, projection: bool, masked: bool, zoneout: bool) -> str | None:
    """Why no layer of a cell that it has compiled runs with a projection, recurrent dropout or zoneout, or None."""
    if projection and (masked or zoneout):
        return "it has no recurrent dropout or zoneout on a projected h"
    the_cell = compiled(cell)
    if masked and (the_cell is None or not the_cell.maskable):
        return "its recurrent dropout acts on states that weight_hh alone multiplies"
    return None


def alike(call: LayerCall) -> bool:
    """Whether all tensors are on the CPU, in dtypes that may meet; works on those of a compiler too."""
    masks = [] if call.recurrent_mask is None else [call.recurrent_mask]
    others = [*call.states, *masks, *(weight for direction in call.weights for weight in direction.values())]
    narrow = autocast_dtype(call.input) is not None
    allowed = (torch.float32, torch.bfloat16) if narrow else (call.input.dtype,)
    return call.input.is_cpu and all(tensor.dtype in allowed and tensor.is_cpu for tensor in others)


def _cell_of(call: LayerCall) -> CompiledCell:
    found = compiled(call.cell)
    assert found is not None
    return found


def run(call: LayerCall) -> LayerResult:
    """Run one layer; see `refusal` for what cannot be run.

    In bfloat16 the weights are rounded to it, and so are the results; everything between is computed in float32. Where
    the CPU has matrix tiles, which take both factors in bfloat16, what is multiplied with weights is rounded too.
    """
    if _dtype(call.input) != torch.bfloat16:
        return _run(call, False)
    result = _run(_wide(call), True)
    dtype = result_dtype(call, narrow=True)
    return LayerResult(tuple(value.to(dtype) for value in result.outputs), tuple(v.to(dtype) for v in result.final))


def result_dtype(call: LayerCall, narrow: bool) -> torch.dtype:
    """What outputs and final states are rounded to; `narrow`: whether the layer computes in bfloat16."""
    return torch.bfloat16 if narrow and not widens_autocast(call) else call.input.dtype


def ready(call: LayerCall) -> LayerRun:
    """The run of a layer that `refusal` does not refuse, for a caller who sees to its way back."""
    narrow = _dtype(call.input) == torch.bfloat16
    return _ready(_wide(call) if narrow else call, narrow, keep=True)


def _wide(call: LayerCall) -> LayerCall:
    """In float32, but for matrices that the engine reads as they are."""
    mask = call.recurrent_mask
    return replace(
        call,
        input=call.input.float(),
        states=tuple(state.float() for state in call.states),
        weights=_widened(call.weights),
        recurrent_mask=None if mask is None else mask.float(),
    )


def _widened(weights: Sequence[Mapping[str, Tensor]]) -> tuple[dict[str, Tensor], ...]:
    """In float32, but matrices as they are if all are in bfloat16, for the engine reads these too."""
    matrices = [weight for direction in weights for weight in direction.values() if weight.dim() == 2]
    narrow = all(matrix.dtype == torch.bfloat16 for matrix in matrices)
    return tuple(
        {name: weight if narrow and weight.dim() == 2 else weight.float() for name, weight in direction.items()}
        for direction in weights
    )


def _run(call: LayerCall, round_weights: bool) -> LayerResult:
    tensors = []
    if torch.is_grad_enabled():
        tensors = [call.input, *call.states, *(weight for direction in call.weights for weight in direction.values())]
    keep = any(tensor.requires_grad for tensor in tensors)
    layer_run = _ready(call, round_weights, keep)
    results = _Layer.apply(layer_run, *tensors) if keep else layer_run.forward()
    wanted = len(results) - len(call.states)
    return LayerResult(tuple(results[:wanted]), tuple(results[wanted:]))


def _ready(call: LayerCall, round_weights: bool, keep: bool) -> LayerRun:
    the_cell = _cell_of(call)
    rows = Rows.of(call)
    threads = _threads(rows.batch, call.weights[0]["weight_hh"].shape[0] // the_cell.gates, the_cell)
    return LayerRun(call, the_cell, rows, threads, round_weights=round_weights, keep=keep)


def _threads(batch: int, hidden: int, the_cell: CompiledCell) -> int:
    work = batch * hidden * hidden * len(the_cell.plan.products)
    return max(1, min(torch.get_num_threads(), work // _WORTH_A_THREAD))


class _Layer(torch.autograd.Function):
    """A layer in autograd's graph."""

    @staticmethod
    def forward(ctx: Any, layer_run: LayerRun, *tensors: Tensor) -> Any:
        call = layer_run.call
        results = layer_run.forward()
        ctx.set_materialize_grads(False)
        given = len(results) - len(call.states)
        # Outputs are kept by autograd alone, which notices when they are changed in place; held here they would hold
        # the graph that holds them.
        ctx.save_for_backward(*tensors, *results[:given], *layer_run.states[given:])
        ctx.inputs = len(tensors)
        ctx.given = given
        layer_run.states, layer_run.final = [], []
        ctx.run = layer_run
        ctx.spent = False
        layer_run.call = replace(call, input=call.input.detach(), states=(), weights=())
        ctx.weight_counts = [list(direction) for direction in call.weights]
        return tuple(results)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> Any:
        tensors = ctx.saved_tensors
        inputs, states = tensors[: ctx.inputs], tensors[ctx.inputs :]
        layer_run: LayerRun = ctx.run
        if torch.is_grad_enabled():
            found = _differentiable(ctx, inputs, gradients)
        else:
            layer_run.states = list(states)
            if ctx.spent:
                layer_run.final = [torch.empty_like(state) for state in layer_run.initial]
                layer_run.states = [torch.empty_like(state) for state in states]
                layer_run.again()
                layer_run.states, layer_run.final = list(states), []
            ctx.spent = True
            found = layer_run.backward(
                list(gradients[: ctx.given]), list(gradients[ctx.given :]), ctx.needs_input_grad[1:]
            )
            layer_run.states = []
        return None, *found


def _differentiable(ctx: Any, inputs: Sequence[Tensor], gradients: Sequence[Tensor | None]) -> list[Tensor | None]:
    """Gradients that can be differentiated again, by the reference."""
    # Of views, lest the way back goes on through what the inputs were computed from, or counts one twice.
    inputs = [tensor.view_as(tensor) for tensor in inputs]
    layer_run: LayerRun = ctx.run
    call = layer_run.call
    count = len(call.cell.states)
    rest = list(inputs[1 + count :])
    weights = []
    for names in ctx.weight_counts:
        values = rest[: len(names)]
        if layer_run.round_weights:
            # The biases, which are vectors, are not multiplied by anything and stay whole, as do the cell's own.
            values = [value.bfloat16().float() if value.dim() == 2 else value for value in values]
        weights.append(dict(zip(names, values, strict=True)))
        rest = rest[len(names) :]
    call = replace(call, input=inputs[0], states=tuple(inputs[1 : 1 + count]), weights=tuple(weights))
    result = run_padded(reference.run, call)
    outputs = [*result.outputs, *result.final]
    used = [(o, g) for o, g in zip(outputs, gradients, strict=True) if g is not None and o.requires_grad]
    wanted = [tensor for tensor in inputs if tensor.requires_grad]
    if not used:
        return [None] * len(inputs)
    found = iter(
        torch.autograd.grad([o for o, _ in used], wanted, [g for _, g in used], create_graph=True, allow_unused=True)
    )
    return [next(found) if tensor.requires_grad else None for tensor in inputs]
