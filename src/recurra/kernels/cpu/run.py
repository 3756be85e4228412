"""The fused CPU engine as a backend: which layers it runs, in which dtype and on how many threads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from ...cells import Cell
from ..call import LayerCall, LayerResult, autocast_dtype
from ..known_cells import cell_of, key_of
from ..surroundings import constant, readable, transformed, watched
from ..torch_fused import widens_autocast
from .compiled import compiled, engine
from .differentiable import recorded
from .layer_run import LayerRun
from .plain import run_plain
from .rows import Rows

__all__ = [
    "available",
    "expected_to_run",
    "name",
    "ready",
    "refusal",
    "result_dtype",
    "run",
    "run_at_once",
    "wide",
]

name = "cpu"


def available(cell: Cell, input: Tensor) -> str | None:
    """Why the engine can run no layer of this cell on this input, or None when it can."""
    if not input.is_cpu:
        return "it runs on the CPU"
    if engine() is None:
        return "this installation was built without it"
    if not _computes(input):
        return "it computes in float32, float64 and bfloat16"
    if transformed() or watched() or not readable(input):
        return "it has no rule for transformed, traced or fake tensors"
    if compiled(cell) is None:
        return f"there is no compiled code for {cell!r}"
    return None


def _computes(input: Tensor) -> bool:
    """Whether the engine has the dtype that a layer on this input computes in."""
    return _dtype(input) in (torch.float32, torch.float64, torch.bfloat16)


def _dtype(input: Tensor) -> torch.dtype:
    """The dtype that a layer on this input computes in."""
    return autocast_dtype(input) or input.dtype


def refusal(call: LayerCall) -> str | None:
    """Why the engine cannot run this layer, or None when it can."""
    reason = available(call.cell, call.input)
    masked = call.recurrent_mask is not None
    if reason is None and (masked or call.zoneout):
        reason = _refused_options(call.cell, call.projection, masked, bool(call.zoneout))
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
    """The dtypes that the tensors of a call may have."""
    return (call.input.dtype,) if autocast_dtype(call.input) is None else (torch.float32, torch.bfloat16)


def _refused_options(cell: Cell, projection: bool, masked: bool, zoneout: bool) -> str | None:
    """Why the engine runs no layer of a compiled cell with these options, or None when it does.

    Args:
        cell: a cell that the engine has compiled.
        projection: whether h is projected.
        masked: whether there is recurrent dropout.
        zoneout: whether there is zoneout.
    """
    if projection and (masked or zoneout):
        return "it has no recurrent dropout or zoneout on a projected h"
    if not masked:
        return None
    the_cell = compiled(cell)
    if the_cell is None or not the_cell.maskable:
        return "its recurrent dropout acts on states that weight_hh alone multiplies"
    return None


def expected_to_run(call: LayerCall) -> bool:
    """Whether the engine will run a layer that torch is compiling, as far as can be known from fake tensors."""
    allowed = _dtypes(call)
    if not all(tensor.dtype in allowed and tensor.is_cpu for tensor in _numbers(call)) or not _computes(call.input):
        return False
    masked, key = call.recurrent_mask is not None, call.key or key_of(call.cell)
    # A branch, because a probability that differs between calls is a symbol, and a constant function takes none.
    if call.zoneout:
        return _offered(key, call.projection, masked, True)
    return _offered(key, call.projection, masked, False)


@constant
def _offered(key: str, projection: bool, masked: bool, zoneout: bool) -> bool:
    """Whether the engine has compiled a cell and runs it with these options."""
    cell = cell_of(key)
    if engine() is None or compiled(cell) is None:
        return False
    return _refused_options(cell, projection, masked, zoneout) is None


def run(call: LayerCall) -> LayerResult:
    """Run one layer; see `refusal` for what cannot be run.

    A layer in bfloat16 rounds its weights and its results to bfloat16 and computes everything between in float32. The
    CPU's matrix tiles (AMX) take both factors of a product in bfloat16: there the other factor is rounded too.
    """
    if _dtype(call.input) != torch.bfloat16:
        return _run(call, False)
    result = _run(wide(call), True)
    dtype = result_dtype(call, narrow=True)
    return LayerResult(tuple(value.to(dtype) for value in result.outputs), tuple(v.to(dtype) for v in result.final))


def run_at_once(call: LayerCall) -> LayerResult | None:
    """The same result by a shorter way, which serves most calls of inference; None, with nothing run, for others."""
    if engine() is None or transformed() or watched() or autocast_dtype(call.input) is not None:
        return None
    the_cell = compiled(call.cell)
    return None if the_cell is None else run_plain(call, the_cell)


def result_dtype(call: LayerCall, narrow: bool) -> torch.dtype:
    """The dtype of outputs and final states; `narrow`: whether the layer computes in bfloat16."""
    return torch.bfloat16 if narrow and not widens_autocast(call) else call.input.dtype


def ready(call: LayerCall) -> LayerRun:
    """The run of a layer, for a caller that calls its `backward` itself.

    Raises:
        RuntimeError: if the engine cannot read the call's tensors.
    """
    reason = _mismatch(call)
    if reason is not None:
        raise RuntimeError(f"the engine cannot run this layer: {reason}.")
    narrow = _dtype(call.input) == torch.bfloat16
    return _ready(wide(call) if narrow else call, narrow)


def wide(call: LayerCall) -> LayerCall:
    """The call in float32, except for matrices in bfloat16, which the engine reads as they are."""
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
    """The weights in float32; if all matrices are in bfloat16, the engine reads them, and they stay as they are."""
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
