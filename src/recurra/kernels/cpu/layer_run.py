"""One run of a layer on the engine: tensors to addresses, forward and back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..call import LayerCall
from ..surroundings import whole
from .compiled import CompiledCell
from .generator.plan import Plan
from .rows import Rows

__all__ = ["LayerRun", "kept_shape"]


def _address(tensor: Tensor | None) -> int:
    return 0 if tensor is None else tensor.data_ptr()


def _part(tensor: Tensor | None, direction: int) -> int:
    """Address of one direction's part of a contiguous (D, ...)."""
    if tensor is None:
        return 0
    if direction == 0:
        return tensor.data_ptr()
    return tensor.data_ptr() + direction * tensor.stride(0) * tensor.element_size()


def _sequence(tensor: Tensor | None, offset: int = 0) -> list[int]:
    """Address and strides of (T, B, features) or (N, features), from a feature on."""
    if tensor is None:
        return [0, 0, 0]
    step, row = tensor.stride()[:2] if tensor.dim() == 3 else (0, tensor.stride(0))
    return [tensor.data_ptr() + offset * tensor.element_size(), step, row]


def _dense(tensor: Tensor) -> Tensor:
    """The tensor as it lies in memory, its last dimension contiguous."""
    if (tensor.stride(-1) == 1 or tensor.shape[-1] == 1) and not tensor.is_neg() and not tensor._is_zerotensor():
        return tensor
    return whole(tensor)


def padded_units(hidden: int) -> int:
    """How many elements the engine gives a row of `hidden` units; also for symbols, which its own function refuses."""
    whole = (hidden + 15) // 16 * 16
    return whole + 16 if whole % 128 == 0 else whole


def kept_shape(
    plan: Plan, directions: int, rows: int, hidden: int, *, zoneout: bool, projected: bool
) -> tuple[int, int, int, int]:
    """Shape of the values that a run keeps for the backward pass: (D, values of a unit, N or more, padded H).

    The values of a unit are the plan's, then with zoneout each new state before old values were put back, then the
    plan's operands, then with a projection the h before it.
    """
    values = plan.kept + (len(plan.cell.states) if zoneout else 0) + len(plan.operand_phase) + projected
    return directions, values, rows, padded_units(hidden)


class LayerRun:
    """A layer ready to run.

    Args:
        call: the layer, checked. Its tensors can be read by address and have one dtype, except that the matrices may be
            in bfloat16.
        the_cell: the cell of the call, compiled.
        rows: which rows count.
        threads: how many threads to run on.
        round_weights: whether matrices are rounded to bfloat16.

    Attributes:
        states: each state of every step, (T, B, D*H), for the backward pass; after `forward` with keep.
        kept: the other values that the backward pass needs, in `kept_shape`; after `forward` with keep.
    """

    def __init__(
        self, call: LayerCall, the_cell: CompiledCell, rows: Rows, threads: int, *, round_weights: bool
    ) -> None:
        self.call = call
        self.cell = the_cell
        self.rows = rows
        self.threads = threads
        self.round_weights = round_weights
        self.input = _dense(call.input)
        self.initial = [whole(state) for state in call.states]
        self.weights = [{key: whole(weight) for key, weight in d.items()} for d in call.weights]
        self.widths = [state.shape[2] for state in call.states]
        self.hidden = self.weights[0]["weight_hh"].shape[0] // the_cell.gates
        # P, or 0 without a projection.
        self.projected = self.widths[0] if call.projection else 0
        self.mask = None if call.recurrent_mask is None else whole(call.recurrent_mask)
        self.zoneout_masks = [_dense(masks) for masks in call.zoneout_masks]
        self.resets = None if call.resets is None else whole(call.resets)
        self.restart = [whole(state) for state in call.restart]
        self.states: list[Tensor] = []
        self.kept: Tensor | None = None

    def forward(self, kept: Tensor | None = None, *, keep: bool = False) -> list[Tensor]:
        """Outputs, then final states.

        Args:
            kept: memory for the values that the backward pass needs; it may have more rows than count.
            keep: whether there will be a backward pass; memory for `kept` is then made here if it is None.
        """
        keep = keep or kept is not None
        all_states, directions = self.call.all_states, len(self.weights)
        wanted = len(self.widths) if all_states or keep else 1
        make = self.input.new_empty if self.rows.order is None else self.input.new_zeros
        *rows, _ = self.input.shape
        states = [make((*rows, directions * width)) for width in self.widths[:wanted]]
        final = [torch.empty_like(state) for state in self.initial]
        if keep and kept is None:
            kept = self.input.new_empty(self._kept_shape())
        for direction in range(directions):
            arguments = self._arguments(direction, states, kept)
            arguments["final"] = [_part(state, direction) for state in final]
            self.cell.run.forward(**arguments)
        if keep:
            self.states, self.kept = states, kept
        return [*states[: wanted if all_states else 1], *final]

    def _arguments(self, direction: int, states: Sequence[Tensor], kept: Tensor | None) -> dict[str, Any]:
        """The arguments that the engine's forward and backward share; options that the layer has not are left out."""
        weights, input, rows = self.weights[direction], self.input, self.rows
        arguments: dict[str, Any] = {
            "is_double": input.dtype == torch.float64,
            "sizes": [rows.steps, rows.batch, input.shape[-1], self.hidden, self.projected],
            "reverse": direction == 1,
            "threads": self.threads,
            "input": _sequence(input),
            "weights": [weights[name].data_ptr() for name in self.cell.matrices],
            "vectors": [weights[name].data_ptr() for name in self.cell.vectors],
            "initial": [_part(state, direction) for state in self.initial],
            "states": [
                n for state, w in zip(states, self.widths, strict=False) for n in _sequence(state, direction * w)
            ],
        }
        if "bias_ih" in weights:
            arguments["biases"] = [weights["bias_ih"].data_ptr(), weights["bias_hh"].data_ptr()]
        if self.round_weights:
            arguments["round_weights"] = True
        if weights["weight_ih"].dtype == torch.bfloat16:
            arguments["bfloat16_weights"] = True
        if rows.active is not None:
            arguments |= {"active": rows.active.data_ptr(), "order": _address(rows.order), "packed": input.dim() == 2}
        if self.mask is not None:
            arguments["mask"] = _part(self.mask, direction)
        if self.call.zoneout:
            masks = [n for masks in self.zoneout_masks for n in _sequence(masks, direction * self.hidden)]
            arguments |= {"zoneout": self.call.zoneout, "zoneout_masks": masks}
        if self.projected:
            arguments["projection"] = [weights["weight_hr"].data_ptr(), 0]
        if self.resets is not None:
            step, row = self.resets.stride() if self.resets.dim() == 2 else (0, self.resets.stride(0))
            restart = [_part(state, direction) for state in self.restart]
            arguments |= {"resets": [self.resets.data_ptr(), step, row], "restart": restart}
        if kept is not None:
            self._add_kept(arguments, kept[direction])
        return arguments

    def _add_kept(self, arguments: dict[str, Any], kept: Tensor) -> None:
        """Add the addresses of the values that one direction keeps; see `kept_shape` for their order."""
        plan = self.cell.plan
        places = [kept.data_ptr() + value * kept.stride(0) * kept.element_size() for value in range(len(kept))]
        candidates = plan.kept + (len(self.widths) if self.call.zoneout else 0)
        operands = candidates + len(plan.operand_phase)
        arguments["kept"] = places[0]
        if candidates > plan.kept:
            arguments["candidates"] = places[plan.kept : candidates]
        if operands > candidates:
            arguments["operands"] = places[candidates:operands]
        if self.projected:
            arguments["projection"][1] = places[operands]

    def _kept_shape(self) -> tuple[int, int, int, int]:
        return kept_shape(
            self.cell.plan,
            len(self.weights),
            self.rows.total,
            self.hidden,
            zoneout=bool(self.call.zoneout),
            projected=self.projected > 0,
        )

    def _check_kept(self, states: Sequence[Tensor], kept: Tensor) -> None:
        """Raise RuntimeError if the tensors of an earlier run have not the sizes that the engine would read."""
        directions, values, rows, padded = self._kept_shape()
        sizes = [(*self.input.shape[:-1], directions * width) for width in self.widths]
        fits = kept.shape == (directions, values, kept.shape[2], padded) and kept.shape[2] >= rows
        if not fits or [tuple(state.shape) for state in states] != sizes:
            raise RuntimeError("what was kept of a layer's run is not of this layer")
        if any(tensor.dtype != self.input.dtype for tensor in (kept, *states)):
            raise RuntimeError("what was kept of a layer's run differs from it in dtype")

    def _empty_input(self, contiguous: bool) -> Tensor:
        """Memory for the input's gradient: dense; batch first if the input lies so and it need not be contiguous."""
        zeros = self.rows.order is not None or "input" not in self.cell.used
        make = self.input.new_zeros if zeros else self.input.new_empty
        shape = self.input.shape
        batch_first = self.input.dim() == 3 and self.input.transpose(0, 1).is_contiguous()
        if batch_first and not contiguous and not self.input.is_contiguous():
            return make((shape[1], shape[0], shape[2])).transpose(0, 1)
        return make(shape)

    def backward(
        self,
        states: Sequence[Tensor],
        kept: Tensor,
        d_states: Sequence[Tensor | None],
        d_final: Sequence[Tensor | None],
        needs: Sequence[bool],
        *,
        spend: bool,
        contiguous: bool = False,
    ) -> list[Any]:
        """Gradients of the call's leaves, in their order; None where not needed.

        Args:
            states, kept: as the attributes, from a run of the same call.
            d_states: gradients of the outputs.
            d_final: gradients of the final states.
            needs: for each gradient whether it is needed.
            spend: whether `kept` may be overwritten, which takes less memory.
            contiguous: whether the input's gradient has to be contiguous.

        Raises:
            RuntimeError: if `states` and `kept` are of another call.
        """
        self._check_kept(states, kept)
        states, kept = [_dense(state) for state in states], whole(kept)
        like, used, count = self.input, self.cell.used, len(self.widths)
        d_input = self._empty_input(contiguous) if needs[0] else None
        d_initial = [
            torch.empty_like(state) if need else None
            for state, need in zip(self.initial, needs[1 : 1 + count], strict=True)
        ]
        d_states = [None if d is None else _dense(d.to(like.dtype)) for d in d_states]
        d_final = [None if d is None else whole(d.to(like.dtype)) for d in d_final]
        self._check_gradients(d_states, d_final)
        needed = iter(needs[1 + count :])
        d_weights = [
            {
                # In the engine's own precision; for narrower weights autograd converts the gradient.
                key: (torch.empty_like if key in used else torch.zeros_like)(weight, dtype=like.dtype)
                if next(needed)
                else None
                for key, weight in by_name.items()
            }
            for by_name in self.weights
        ]
        d_restart = [torch.zeros_like(state) if next(needed) else None for state in self.restart]
        d_projected = None
        if self.projected:
            d_projected = like.new_empty((self.rows.total, padded_units(self.projected)))
        work = None
        if not spend:
            work = like.new_empty((self.rows.total, self.cell.plan.kept, padded_units(self.hidden)))
        for direction, found in enumerate(d_weights):
            arguments = self._arguments(direction, states, kept)
            if self.resets is not None:
                arguments["d_restart"] = [_part(d, direction) for d in d_restart]
            if work is not None:
                arguments |= {"saved": arguments["kept"], "kept": work.data_ptr()}
            # The second direction's part is added to the first's.
            part = d_input if direction == 0 or d_input is None else torch.zeros_like(d_input)
            sequences = [_sequence(d, direction * w) for d, w in zip(d_states, self.widths, strict=False)]
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
        return [d_input, *d_initial, *(d for by_name in d_weights for d in by_name.values()), *d_restart]

    def _check_gradients(self, d_states: Sequence[Tensor | None], d_final: Sequence[Tensor | None]) -> None:
        """Raise RuntimeError if a gradient has not the shape of its output or final state."""
        directions = len(self.weights)
        sequences = [(*self.input.shape[:-1], directions * width) for width in self.widths]
        last = [tuple(state.shape) for state in self.initial]
        for given, shapes in ((d_states, sequences), (d_final, last)):
            for gradient, shape in zip(given, shapes, strict=False):
                if gradient is not None and tuple(gradient.shape) != shape:
                    raise RuntimeError(f"a gradient must have shape {shape}, not {tuple(gradient.shape)}")
