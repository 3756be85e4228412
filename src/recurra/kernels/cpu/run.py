"""The engine as a backend: a layer's tensors to addresses, and its place in autograd."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from ...cells import Cell
from .. import reference
from ..call import LayerCall, LayerResult, autocast_dtype
from ..packing import run_padded
from ..torch_fused import transformed, widens_autocast
from .compiled import CompiledCell, compiled, engine
from .rows import Rows

__all__ = ["available", "name", "refusal", "run", "whole"]

name = "cpu"

# Below so many multiplications a step another thread costs more than it takes over.
_WORTH_A_THREAD = 6000


def available(cell: Cell, input: Tensor) -> str | None:
    """Why the engine can run no layer of this cell on this input, or None when it can."""
    if not input.is_cpu:
        return "it runs on the CPU"
    if engine() is None:
        return "this installation was built without it"
    if _dtype(input) not in (torch.float32, torch.float64, torch.bfloat16):
        return "it computes in float32, float64 and bfloat16"
    if transformed() or torch.jit.is_tracing() or type(input) not in (Tensor, torch.nn.Parameter):
        return "it has no rule for transformed, traced or fake tensors"
    if compiled(cell) is None:
        return f"there is no compiled code for {cell!r}"
    return None


def _dtype(input: Tensor) -> torch.dtype:
    """The dtype that a layer on this input computes in."""
    return autocast_dtype(input) or input.dtype


def refusal(call: LayerCall) -> str | None:
    """Why the engine cannot run this layer, or None when it can."""
    reason = available(call.cell, call.input)
    if reason is not None:
        return reason
    if call.projection and (call.recurrent_mask is not None or call.zoneout):
        return "it has no recurrent dropout or zoneout on a projected h"
    if call.recurrent_mask is not None and not _cell_of(call).maskable:
        return "its recurrent dropout acts on states that weight_hh alone multiplies"
    dtype = call.input.dtype
    masks = [] if call.recurrent_mask is None else [call.recurrent_mask]
    others = [*call.states, *masks, *(weight for direction in call.weights for weight in direction.values())]
    allowed = (torch.float32, torch.bfloat16) if autocast_dtype(call.input) is not None else (dtype,)
    if any(tensor.dtype not in allowed or not tensor.is_cpu for tensor in others):
        return "input, states and weights differ in dtype or device"
    return None


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
    dtype = call.input.dtype if widens_autocast(call) else torch.bfloat16
    mask = call.recurrent_mask
    wide = replace(
        call,
        input=call.input.float(),
        states=tuple(state.float() for state in call.states),
        weights=_widened(call.weights),
        recurrent_mask=None if mask is None else mask.float(),
    )
    result = _run(wide, True)
    return LayerResult(tuple(value.to(dtype) for value in result.outputs), tuple(v.to(dtype) for v in result.final))


def _widened(weights: Sequence[Mapping[str, Tensor]]) -> tuple[dict[str, Tensor], ...]:
    """In float32, but matrices as they are if all are in bfloat16, for the engine reads these too."""
    matrices = [weight for direction in weights for weight in direction.values() if weight.dim() == 2]
    narrow = all(matrix.dtype == torch.bfloat16 for matrix in matrices)
    return tuple(
        {name: weight if narrow and weight.dim() == 2 else weight.float() for name, weight in direction.items()}
        for direction in weights
    )


def _run(call: LayerCall, round_weights: bool) -> LayerResult:
    the_cell = _cell_of(call)
    rows = Rows.of(call)
    tensors = []
    if torch.is_grad_enabled():
        tensors = [call.input, *call.states, *(weight for direction in call.weights for weight in direction.values())]
    if any(tensor.requires_grad for tensor in tensors):
        results = _Layer.apply(call, the_cell, rows, round_weights, *tensors)
    else:
        results = _Forward(call, the_cell, rows, round_weights, keep=False).results
    wanted = len(results) - len(call.states)
    return LayerResult(tuple(results[:wanted]), tuple(results[wanted:]))


def _threads(batch: int, hidden: int, the_cell: CompiledCell) -> int:
    work = batch * hidden * hidden * len(the_cell.plan.products)
    return max(1, min(torch.get_num_threads(), work // _WORTH_A_THREAD))


def _address(tensor: Tensor | None) -> int:
    return 0 if tensor is None else tensor.data_ptr()


def _part(tensor: Tensor | None, direction: int) -> int:
    """Address of one direction's part of a contiguous (D, ...)."""
    if tensor is None:
        return 0
    return tensor.data_ptr() + direction * tensor.stride(0) * tensor.element_size()


def _sequence(tensor: Tensor | None, offset: int = 0) -> list[int]:
    """Address and strides of (T, B, features) or (N, features), from a feature on."""
    if tensor is None:
        return [0, 0, 0]
    step, row = tensor.stride()[:2] if tensor.dim() == 3 else (0, tensor.stride(0))
    return [tensor.data_ptr() + offset * tensor.element_size(), step, row]


def _dense(tensor: Tensor) -> Tensor:
    """The tensor as it lies in memory, its last dimension contiguous."""
    tensor = tensor.resolve_neg()
    return tensor if tensor.stride(-1) == 1 or tensor.shape[-1] == 1 else tensor.contiguous()


def whole(tensor: Tensor) -> Tensor:
    """The tensor without its graph, contiguous and as it lies in memory: a negation may only be noted on it."""
    return _flat(tensor).detach()


def _flat(tensor: Tensor) -> Tensor:
    return tensor if tensor.is_contiguous() and not tensor.is_neg() else tensor.resolve_neg().contiguous()


@lru_cache(maxsize=256)
def _sizes(cell: Cell, input_size: int, hidden: int, width: int) -> dict[str, int]:
    """How many elements each parameter of a direction has, whose h has a width."""
    rows = len(cell.gates) * hidden
    sizes = {"weight_ih": rows * input_size, "weight_hh": rows * width, "bias_ih": rows, "bias_hh": rows}
    sizes["weight_hr"] = width * hidden
    sizes |= {f"weight_{key}": hidden for key in cell.vectors}
    return sizes | {f"weight_{key}": hidden * hidden for key in cell.matrices}


class _Forward:
    """One run of a layer, and what the way back needs of it."""

    def __init__(self, call: LayerCall, the_cell: CompiledCell, rows: Rows, round_weights: bool, *, keep: bool) -> None:
        self.call = call
        self.round_weights = round_weights
        self.cell = the_cell
        self.rows = rows
        cell, plan = call.cell, the_cell.plan
        self.input = _dense(call.input.detach())
        self.input_size = self.input.shape[-1]
        directions = len(call.weights)
        self.hidden = call.weights[0]["weight_hh"].shape[0] // the_cell.gates
        self.widths = [state.shape[2] for state in call.states]
        # P, or 0 without a projection.
        self.projected = self.widths[0] if call.projection else 0
        # What outlives the call must not hold a graph; the rest may.
        take = whole if keep else _flat
        self.initial = [take(state) for state in call.states]
        self.weights = [{key: take(w) for key, w in d.items()} for d in call.weights]
        self._check_sizes()
        wanted = len(cell.states) if call.all_states or keep else 1
        make = self.input.new_empty if rows.order is None else self.input.new_zeros
        self.states = [make((*self.input.shape[:-1], directions * width)) for width in self.widths[:wanted]]
        self.final = [torch.empty_like(state) for state in self.initial]
        mask = call.recurrent_mask
        self.mask = None if mask is None else whole(mask)
        self.zoneout_masks = [_dense(masks) for masks in call.zoneout_masks]
        self.candidates: list[list[Tensor]] = [[] for _ in range(directions)]
        self.kept: list[Tensor | None] = [None] * directions
        self.operands: list[list[Tensor]] = [[] for _ in range(directions)]
        self.unprojected: list[Tensor | None] = [None] * directions
        if keep:
            padded = engine().padded_units(self.hidden)  # type: ignore[union-attr]
            for direction in range(directions):
                self.kept[direction] = self.input.new_empty((rows.total, plan.kept, padded))
                if call.zoneout:
                    self.candidates[direction] = [self.input.new_empty((rows.total, padded)) for _ in cell.states]
                self.operands[direction] = [self.input.new_empty((rows.total, padded)) for _ in plan.operand_phase]
                if self.projected:
                    self.unprojected[direction] = self.input.new_empty((rows.total, padded))
        self.threads = _threads(rows.batch, self.hidden, the_cell)
        for direction in range(directions):
            self._run(direction)
        given = wanted if call.all_states else 1
        self.results = [*self.states[:given], *self.final]

    def _check_sizes(self) -> None:
        """The engine reads by address: what is too small must not reach it."""
        hidden = self.hidden
        expected = _sizes(self.call.cell, self.input_size, hidden, self.widths[0])
        for by_name in self.weights:
            for key, weight in by_name.items():
                if weight.numel() != expected[key]:
                    raise RuntimeError(f"{key} has {weight.numel()} elements, but this layer needs {expected[key]}")
        shape = (len(self.weights), self.rows.batch, hidden)
        first = (*shape[:2], self.projected) if self.projected else shape
        mask = self.call.recurrent_mask
        if self.initial[0].shape != first or any(state.shape != shape for state in self.initial[1:]):
            raise RuntimeError(f"every state must have shape {shape}, or {first} if it is h")
        if mask is not None and mask.shape != shape:
            raise RuntimeError(f"the mask of recurrent dropout must have shape {shape}, not {tuple(mask.shape)}")
        if self.input.dim() == 3 and self.input.shape[1] != self.rows.batch:
            raise RuntimeError(f"the input has {self.input.shape[1]} rows and the states have {self.rows.batch}")
        steps = (*self.input.shape[:-1], len(self.weights) * hidden)
        if any(masks.shape != steps or masks.dtype != torch.bool for masks in self.call.zoneout_masks):
            raise RuntimeError(f"every mask of zoneout must be of booleans and have shape {steps}")

    def _run(self, direction: int) -> None:
        self.cell.run.forward(final=[_part(state, direction) for state in self.final], **self.arguments(direction))

    def arguments(self, direction: int) -> dict[str, Any]:
        """What forward and backward of the engine are both given."""
        cell, weights = self.call.cell, self.weights[direction]
        widths = self.widths
        states = [
            number
            for state, width in zip(self.states, widths, strict=False)
            for number in _sequence(state, direction * width)
        ]
        states += [0, 0, 0] * (len(cell.states) - len(self.states))
        operands = self.operands[direction] or [None] * len(self.cell.plan.operand_phase)  # type: ignore[list-item]
        return {
            "is_double": self.input.dtype == torch.float64,
            "sizes": [self.rows.steps, self.rows.batch, self.input_size, self.hidden, self.projected],
            "reverse": direction == 1,
            "threads": self.threads,
            "active": _address(self.rows.active),
            "order": _address(self.rows.order),
            "packed": self.input.dim() == 2,
            "round_weights": self.round_weights,
            "bfloat16_weights": self.weights[0]["weight_ih"].dtype == torch.bfloat16,
            "input": _sequence(self.input),
            "weights": [_address(weights[name]) for name in self.cell.matrices],
            "biases": [_address(weights.get("bias_ih")), _address(weights.get("bias_hh"))],
            "vectors": [_address(weights[name]) for name in self.cell.vectors],
            "initial": [_part(state, direction) for state in self.initial],
            "states": states,
            "kept": _address(self.kept[direction]),
            "operands": [_address(operand) for operand in operands],
            "mask": _part(self.mask, direction),
            "zoneout": self.call.zoneout,
            "zoneout_masks": [n for masks in self.zoneout_masks for n in _sequence(masks, direction * self.hidden)],
            "candidates": [_address(candidate) for candidate in self.candidates[direction]],
            "projection": [_address(weights.get("weight_hr")), _address(self.unprojected[direction])],
        }

    def again(self) -> None:
        """Fill what is kept another time: the way back has used it up."""
        for direction in range(len(self.weights)):
            self._run(direction)

    def backward(self, d_states: list[Tensor | None], d_final: list[Tensor | None], needs: Sequence[bool]) -> list[Any]:
        """Gradients of input, initial states and each direction's weights, in that order; None where not needed."""
        cell, directions = self.call.cell, len(self.weights)
        like = self.input
        used = self.cell.used
        make = torch.empty_like if self.rows.order is None and "input" in used else torch.zeros_like
        d_input = make(like) if needs[0] else None
        d_initial = [
            torch.empty_like(state) if need else None
            for state, need in zip(self.initial, needs[1 : 1 + len(self.initial)], strict=True)
        ]
        d_states = [None if d is None else _dense(d) for d in d_states]
        d_final = [None if d is None else whole(d) for d in d_final]
        needed = iter(needs[1 + len(self.initial) :])
        d_weights = [
            {
                # In the engine's own precision, also of narrow weights, to whose dtype autograd brings it.
                key: (torch.empty_like if key in used else torch.zeros_like)(weight, dtype=like.dtype)
                if next(needed)
                else None
                for key, weight in by_name.items()
            }
            for by_name in self.weights
        ]
        d_projected = None
        if self.projected:
            padded = engine().padded_units(self.projected)  # type: ignore[union-attr]
            d_projected = like.new_empty((self.rows.total, padded))
        for direction in range(directions):
            found = d_weights[direction]
            # The second direction's part is added to the first's.
            part = d_input if direction == 0 or d_input is None else make(like)
            sequences = [_sequence(d, direction * w) for d, w in zip(d_states, self.widths, strict=False)]
            sequences += [[0, 0, 0]] * (len(cell.states) - len(d_states))
            self.cell.run.backward(
                **self.arguments(direction),
                d_states=[number for three in sequences for number in three],
                d_final=[_part(d, direction) for d in d_final],
                d_input=_sequence(part if "input" in used else None),
                d_weights=[_address(found[name]) for name in self.cell.matrices],
                d_biases=[_address(found.get("bias_ih")), _address(found.get("bias_hh"))],
                d_vectors=[_address(found[name]) for name in self.cell.vectors],
                d_initial=[_part(d, direction) for d in d_initial],
                d_projection=[_address(found.get("weight_hr")), _address(d_projected)],
            )
            if direction == 1 and d_input is not None:
                assert part is not None
                d_input += part
        return [d_input, *d_initial, *(d for by_name in d_weights for d in by_name.values())]


class _Layer(torch.autograd.Function):
    """A layer in autograd's graph."""

    @staticmethod
    def forward(
        ctx: Any, call: LayerCall, the_cell: CompiledCell, rows: Rows, round_weights: bool, *tensors: Tensor
    ) -> Any:
        forward = _Forward(call, the_cell, rows, round_weights, keep=True)
        ctx.set_materialize_grads(False)
        given = len(forward.results) - len(call.states)
        # Outputs are kept by autograd alone, which notices when they are changed in place; held here they would hold
        # the graph that holds them.
        ctx.save_for_backward(*tensors, *forward.results[:given], *forward.states[given:])
        ctx.inputs = len(tensors)
        ctx.given = given
        forward.results, results = [], tuple(forward.results)
        forward.states, forward.final = [], []
        ctx.run = forward
        ctx.spent = False
        forward.call = replace(call, input=call.input.detach(), states=(), weights=())
        ctx.weight_counts = [list(direction) for direction in call.weights]
        return results

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> Any:
        tensors = ctx.saved_tensors
        inputs, states = tensors[: ctx.inputs], tensors[ctx.inputs :]
        forward: _Forward = ctx.run
        if torch.is_grad_enabled():
            found = _differentiable(ctx, inputs, gradients)
        else:
            forward.states = list(states)
            if ctx.spent:
                forward.final = [torch.empty_like(state) for state in forward.initial]
                forward.states = [torch.empty_like(state) for state in states]
                forward.again()
                forward.states, forward.final = list(states), []
            ctx.spent = True
            found = forward.backward(
                list(gradients[: ctx.given]), list(gradients[ctx.given :]), ctx.needs_input_grad[4:]
            )
            forward.states = []
        return None, None, None, None, *found


def _differentiable(ctx: Any, inputs: Sequence[Tensor], gradients: Sequence[Tensor | None]) -> list[Tensor | None]:
    """Gradients that can be differentiated again, by the reference."""
    # Of views, lest the way back goes on through what the inputs were computed from, or counts one twice.
    inputs = [tensor.view_as(tensor) for tensor in inputs]
    forward: _Forward = ctx.run
    call = forward.call
    count = len(call.cell.states)
    rest = list(inputs[1 + count :])
    weights = []
    for names in ctx.weight_counts:
        values = rest[: len(names)]
        if forward.round_weights:
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
