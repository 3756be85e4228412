"""The engine as a backend: which layers it runs, in which dtype and on how many threads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from ...cells import Cell
from ..call import LayerCall, LayerResult, autocast_dtype
from ..surroundings import readable, transformed, watched
from ..torch_fused import widens_autocast
from .compiled import compiled, engine
from .differentiable import recorded
from .layer_run import LayerRun
from .plain import run_plain
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
    "run_at_once",
]

name = "cpu"


def available(cell: Cell, input: Tensor) -> str | None:
    """Why the engine can run no layer of this cell on this input, or None when it can."""
    if not input.is_cpu:
        return "it runs on the CPU"
    if engine() is None:
        return "this installation was built without it"
    if not computes(input):
        return "it computes in float32, float64 and bfloat16"
    if transformed() or watched() or not readable(input):
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
    masked = call.recurrent_mask is not None
    if reason is None and (masked or call.zoneout):
        reason = refused_options(call.cell, call.projection, masked, bool(call.zoneout))
    return _mismatch(call) if reason is None else reason


def _mismatch(call: LayerCall) -> str | None:
    """Why tensors of a call cannot be handed to the engine, which reads them by address, or None when they can."""
    numbers = _numbers(call)
    booleans = call.zoneout_masks if call.resets is None else (*call.zoneout_masks, call.resets)
    for tensor in (*numbers, *booleans):
        if not readable(tensor):
            return "it reads plain tensors on the CPU alone: no subclasses, sparse layouts or emptied memory"
    allowed = _dtypes(call)
    for tensor in numbers:
        if tensor.dtype not in allowed:
            return "input, states and weights differ in dtype"
    return None


def _numbers(call: LayerCall) -> list[Tensor]:
    """All tensors of a call that hold numbers."""
    return call.leaves() if call.recurrent_mask is None else [*call.leaves(), call.recurrent_mask]


def _dtypes(call: LayerCall) -> tuple[torch.dtype, ...]:
    """Those that the tensors of a call may have."""
    return (call.input.dtype,) if autocast_dtype(call.input) is None else (torch.float32, torch.bfloat16)


def refused_options(cell: Cell, projection: bool, masked: bool, zoneout: bool) -> str | None:
    """Why no layer of a cell that it has compiled runs with a projection, recurrent dropout or zoneout, or None."""
    if projection and (masked or zoneout):
        return "it has no recurrent dropout or zoneout on a projected h"
    if not masked:
        return None
    the_cell = compiled(cell)
    if the_cell is None or not the_cell.maskable:
        return "its recurrent dropout acts on states that weight_hh alone multiplies"
    return None


def alike(call: LayerCall) -> bool:
    """Whether all tensors are on the CPU, in dtypes that may meet; works on those of a compiler too."""
    allowed = _dtypes(call)
    return all(tensor.dtype in allowed and tensor.is_cpu for tensor in _numbers(call))


def run(call: LayerCall) -> LayerResult:
    """Run one layer; see `refusal` for what cannot be run.

    In bfloat16 the weights are rounded to it, and so are the results; everything between is computed in float32. Where
    the CPU has matrix tiles, which take both factors in bfloat16, what is multiplied with weights is rounded too.
    """
    if _dtype(call.input) != torch.bfloat16:
        return _run(call, False)
    result = _run(wide(call), True)
    dtype = result_dtype(call, narrow=True)
    return LayerResult(tuple(value.to(dtype) for value in result.outputs), tuple(v.to(dtype) for v in result.final))


def run_at_once(call: LayerCall) -> LayerResult | None:
    """The same result by a shorter way, on which most calls of inference go; None, with nothing run, for others."""
    if engine() is None or transformed() or watched() or autocast_dtype(call.input) is not None:
        return None
    the_cell = compiled(call.cell)
    return None if the_cell is None else run_plain(call, the_cell)


def result_dtype(call: LayerCall, narrow: bool) -> torch.dtype:
    """What outputs and final states are rounded to; `narrow`: whether the layer computes in bfloat16."""
    return torch.bfloat16 if narrow and not widens_autocast(call) else call.input.dtype


def ready(call: LayerCall) -> LayerRun:
    """The run of a layer, for a caller who sees to its way back.

    Raises:
        RuntimeError: if the engine cannot read the call's tensors.
    """
    reason = _mismatch(call)
    if reason is not None:
        raise RuntimeError(f"the engine cannot run this layer: {reason}.")
    narrow = _dtype(call.input) == torch.bfloat16
    return _ready(wide(call) if narrow else call, narrow)


def wide(call: LayerCall) -> LayerCall:
    """The call in float32, but for matrices that the engine reads as they are."""
    mask = call.recurrent_mask
    return replace(
        call,
        input=call.input.float(),
        states=tuple(state.float() for state in call.states),
        weights=_widened(call.weights),
        recurrent_mask=None if mask is None else mask.float(),
        restart=tuple(state.float() for state in call.restart),
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
    layer_run = _ready(call, round_weights)
    keep = torch.is_grad_enabled() and any(leaf.requires_grad for leaf in call.leaves())
    results = recorded(layer_run) if keep else layer_run.forward()
    wanted = len(results) - len(call.states)
    return LayerResult(tuple(results[:wanted]), tuple(results[wanted:]))


def _ready(call: LayerCall, round_weights: bool) -> LayerRun:
    the_cell = compiled(call.cell)
    assert the_cell is not None
    call.check()
    rows = Rows.of(call)
    hidden = call.weights[0]["weight_hh"].shape[0] // the_cell.gates
    return LayerRun(call, the_cell, rows, the_cell.threads(rows.batch, hidden), round_weights=round_weights)
