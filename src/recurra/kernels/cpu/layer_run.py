"""One run of a layer on the engine: tensors to addresses, and what the way back needs."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache, partial
from typing import Any

import torch
from torch import Tensor

from ...cells import Cell
from ..call import LayerCall
from .compiled import CompiledCell
from .generator.plan import Plan
from .rows import Rows

__all__ = ["LayerRun", "kept_shape", "whole"]


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


def padded_units(hidden: int) -> int:
    """How many elements the engine gives a row of so many units, as its own function says, which takes no symbols."""
    whole = (hidden + 15) // 16 * 16
    return whole + 16 if whole % 128 == 0 else whole


def kept_shape(
    plan: Plan, directions: int, rows: int, hidden: int, *, zoneout: bool, projected: bool
) -> tuple[int, int, int, int]:
    """Shape of what a run keeps for the way back: (D, values of a unit, N or more, padded H).

    The values are the plan's, then with zoneout each state before old values were put back, then the plan's operands,
    then with a projection h before it.
    """
    values = plan.kept + (len(plan.cell.states) if zoneout else 0) + len(plan.operand_phase) + projected
    return directions, values, rows, padded_units(hidden)


class LayerRun:
    """A layer ready to run, and after the run what the way back needs of it.

    Args:
        call: what to run; in one dtype, but for matrices that may be in bfloat16.
        the_cell: its cell, compiled.
        rows: which rows count.
        threads: how many may run.
        round_weights: whether matrices are rounded to bfloat16.
        keep: whether there is a way back; nothing then holds a graph.

    Attributes:
        states: each state of every step, (T, B, D*H); h alone if no more is wanted.
        final: each state after the last step.
        kept: as `kept_shape` says; None before a run, or if there is no way back.

    Raises:
        RuntimeError: if a tensor has not the size that the engine would read.
    """

    def __init__(
        self, call: LayerCall, the_cell: CompiledCell, rows: Rows, threads: int, *, round_weights: bool, keep: bool
    ) -> None:
        self.call = call
        self.cell = the_cell
        self.rows = rows
        self.threads = threads
        self.round_weights = round_weights
        self.keep = keep
        self.input = _dense(call.input.detach())
        self.input_size = self.input.shape[-1]
        self.hidden = call.weights[0]["weight_hh"].shape[0] // the_cell.gates
        self.widths = [state.shape[2] for state in call.states]
        # P, or 0 without a projection.
        self.projected = self.widths[0] if call.projection else 0
        # What outlives the call must not hold a graph; the rest may.
        take = whole if keep else _flat
        self.initial = [take(state) for state in call.states]
        self.weights = [{key: take(w) for key, w in d.items()} for d in call.weights]
        self._check_sizes()
        mask = call.recurrent_mask
        self.mask = None if mask is None else whole(mask)
        self.zoneout_masks = [_dense(masks) for masks in call.zoneout_masks]
        self.states: list[Tensor] = []
        self.final: list[Tensor] = []
        self.kept: Tensor | None = None

    def forward(self, kept: Tensor | None = None) -> list[Tensor]:
        """Outputs, then final states.

        Args:
            kept: where to put what is kept, which may have more rows than count; made here if None.
        """
        states, directions = len(self.call.states), len(self.weights)
        wanted = states if self.call.all_states or self.keep else 1
        make = self.input.new_empty if self.rows.order is None else self.input.new_zeros
        self.states = [make((*self.input.shape[:-1], directions * width)) for width in self.widths[:wanted]]
        self.final = [torch.empty_like(state) for state in self.initial]
        if self.keep:
            self.kept = self.input.new_empty(self._kept_shape()) if kept is None else kept
        self.again()
        return [*self.states[: wanted if self.call.all_states else 1], *self.final]

    def again(self) -> None:
        """Run into the memory that is there: the way back uses up what was kept."""
        for direction in range(len(self.weights)):
            self.cell.run.forward(final=[_part(state, direction) for state in self.final], **self._arguments(direction))

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

    def _arguments(self, direction: int) -> dict[str, Any]:
        """What forward and backward of the engine are both given."""
        cell, weights = self.call.cell, self.weights[direction]
        widths = self.widths
        states = [
            number
            for state, width in zip(self.states, widths, strict=False)
            for number in _sequence(state, direction * width)
        ]
        states += [0, 0, 0] * (len(cell.states) - len(self.states))
        kept, candidates, operands, unprojected = self._kept(direction)
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
            "kept": kept,
            "operands": operands,
            "mask": _part(self.mask, direction),
            "zoneout": self.call.zoneout,
            "zoneout_masks": [n for masks in self.zoneout_masks for n in _sequence(masks, direction * self.hidden)],
            "candidates": candidates,
            "projection": [_address(weights.get("weight_hr")), unprojected],
        }

    def _kept(self, direction: int) -> tuple[int, list[int], list[int], int]:
        """Where one direction's kept values, candidates, operands and unprojected h lie; 0 for what is not kept."""
        plan = self.cell.plan
        if self.kept is None:
            return 0, [], [0] * len(plan.operand_phase), 0
        part = self.kept[direction]
        places = [part.data_ptr() + value * part.stride(0) * part.element_size() for value in range(len(part))]
        candidates = plan.kept + (len(self.call.cell.states) if self.call.zoneout else 0)
        operands = candidates + len(plan.operand_phase)
        unprojected = places[operands] if self.projected else 0
        return places[0], places[plan.kept : candidates], places[candidates:operands], unprojected

    def _kept_shape(self) -> tuple[int, int, int, int]:
        return kept_shape(
            self.cell.plan,
            len(self.weights),
            self.rows.total,
            self.hidden,
            zoneout=bool(self.call.zoneout),
            projected=self.projected > 0,
        )

    def resume(self, states: Sequence[Tensor], kept: Tensor) -> None:
        """Take in what an earlier run of the same call gave and kept.

        Raises:
            RuntimeError: if it has not the size that the engine would read.
        """
        directions, values, rows, padded = self._kept_shape()
        sizes = [(*self.input.shape[:-1], directions * width) for width in self.widths]
        fits = kept.shape == (directions, values, kept.shape[2], padded) and kept.shape[2] >= rows
        if not fits or [tuple(state.shape) for state in states] != sizes:
            raise RuntimeError("what was kept of a layer's run is not of this layer")
        if any(tensor.dtype != self.input.dtype for tensor in (kept, *states)):
            raise RuntimeError("what was kept of a layer's run differs from it in dtype")
        self.states = [_dense(state) for state in states]
        self.kept = kept.contiguous()

    def backward(
        self,
        d_states: list[Tensor | None],
        d_final: list[Tensor | None],
        needs: Sequence[bool],
        *,
        spend: bool = True,
        memory_format: torch.memory_format = torch.preserve_format,
    ) -> list[Any]:
        """Gradients of input, initial states and each direction's weights, in that order; None where not needed.

        Args:
            d_states: gradients of the outputs.
            d_final: gradients of the final states.
            needs: for each gradient whether it is needed.
            spend: whether what was kept may be used up, which takes less memory.
            memory_format: of the input's gradient.
        """
        cell, directions = self.call.cell, len(self.weights)
        like = self.input
        used = self.cell.used
        fresh = torch.empty_like if self.rows.order is None and "input" in used else torch.zeros_like
        make = partial(fresh, memory_format=memory_format)
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
            d_projected = like.new_empty((self.rows.total, padded_units(self.projected)))
        work = None
        if not spend:
            work = like.new_empty((self.rows.total, self.cell.plan.kept, padded_units(self.hidden)))
        for direction in range(directions):
            found = d_weights[direction]
            arguments = self._arguments(direction)
            arguments["saved"] = 0
            if work is not None:
                arguments |= {"saved": arguments["kept"], "kept": work.data_ptr()}
            # The second direction's part is added to the first's.
            part = d_input if direction == 0 or d_input is None else make(like)
            sequences = [_sequence(d, direction * w) for d, w in zip(d_states, self.widths, strict=False)]
            sequences += [[0, 0, 0]] * (len(cell.states) - len(d_states))
            self.cell.run.backward(
                **arguments,
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
