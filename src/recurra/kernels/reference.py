"""The reference: a cell's own step in a loop over time, on any device and dtype, differentiable any number of times."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ..cells import Cell
from ..cells.algebra import Gate, State
from .call import LayerCall, LayerResult, autocast_dtype, check_operands
from .known_cells import gates_on_h, register
from .surroundings import transformed, watched

__all__ = ["ReferenceStepping", "Stepper", "name", "refusal", "run", "run_step"]

Seen = Callable[[int, int, tuple[Tensor, ...]], None]

name = "reference"


def refusal(call: LayerCall) -> str | None:
    """None: the reference runs everything."""
    return None


class _Matrix:
    def __init__(self, weight: Tensor) -> None:
        self._weight = weight

    def __matmul__(self, value: Tensor) -> Tensor:
        return F.linear(_tensor(value), self._weight)


class Stepper:
    """One direction of one layer, ready to take steps.

    Args:
        cell: the equations.
        weights: the parameters of the direction by name.
        key: the cell's key in known_cells.py.
        recurrent_mask: (B, H or P), multiplies whatever enters the product with `weight_hh`, or None.
    """

    def __init__(
        self, cell: Cell, weights: Mapping[str, Tensor], key: str, recurrent_mask: Tensor | None = None
    ) -> None:
        self._cell = cell
        self._mask = recurrent_mask
        self._weights = weights
        count = len(cell.gates)
        rows = dict(zip(cell.gates, weights["weight_hh"].chunk(count), strict=True))
        bias = weights.get("bias_hh")
        bias_rows: dict[str, Any] = dict.fromkeys(cell.gates)
        if bias is not None:
            bias_rows = dict(zip(cell.gates, bias.chunk(count), strict=True))
        self._rows = {gate: (rows[gate], bias_rows[gate]) for gate in cell.gates}
        # The gates whose recurrent product is taken on h share one matrix product.
        self._on_h = gates_on_h(key)
        if self._on_h == tuple(cell.gates):
            self._joint = (weights["weight_hh"], bias)
        elif self._on_h:
            joint_bias = None if bias is None else torch.cat([bias_rows[gate] for gate in self._on_h])
            self._joint = (torch.cat([rows[gate] for gate in self._on_h]), joint_bias)
        self._parameters = State(
            **{vector: weights[f"weight_{vector}"] for vector in cell.vectors},
            **{matrix: _Matrix(weights[f"weight_{matrix}"]) for matrix in cell.matrices},
        )

    def input_product(self, input: Tensor) -> Tensor:
        """W x + b_ih for all gates and any number of steps at once: (..., I) to (..., G*H)."""
        return F.linear(input, self._weights["weight_ih"], self._weights.get("bias_ih"))

    def step(self, product: Tensor, states: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """One step from the input product (B, G*H) and the states (B, H) to the new states."""
        cell = self._cell
        old = State(**dict(zip(cell.states, states, strict=True)))
        joint: dict[str, Tensor] = {}
        if self._on_h:
            parts = F.linear(self._masked(old.h), *self._joint).chunk(len(self._on_h), dim=-1)
            joint = dict(zip(self._on_h, parts, strict=True))

        def recurrent(gate: str) -> Callable[[Any], Tensor]:
            def product_on(value: Any) -> Tensor:
                return joint[gate] if value is None else F.linear(self._masked(_tensor(value)), *self._rows[gate])

            return product_on

        sides = product.chunk(len(cell.gates), dim=-1)
        gates = State(**{gate: Gate(side, recurrent(gate)) for gate, side in zip(cell.gates, sides, strict=True)})
        new = cell.step(gates, old, self._parameters)
        values = [_tensor(getattr(new, state)) for state in cell.states]
        if "weight_hr" in self._weights:
            values[0] = F.linear(values[0], self._weights["weight_hr"])
        # Under autocast matrix products have a narrower dtype than the states; the states keep their dtype.
        return tuple(value.to(before.dtype) for value, before in zip(values, states, strict=True))

    def _masked(self, value: Tensor) -> Tensor:
        return value if self._mask is None else value * self._mask


class ReferenceStepping:
    """One layer that takes one step at a time, in torch's own operations.

    Args:
        call: cell, weights, first states and zoneout; of the input only the shape is used.
    """

    output_is_state = True

    def __init__(self, call: LayerCall) -> None:
        (weights,) = call.weights
        copies = {name: weight.clone() for name, weight in weights.items()}
        self._stepper = Stepper(call.cell, copies, call.key or register(call.cell))
        self._zoneout = call.zoneout
        self.states = tuple(state[0] for state in call.states)

    @torch.no_grad()
    def step(self, x: Tensor) -> Tensor:
        """Take one step: input (B, I) to output (B, H)."""
        old, stepper, p = self.states, self._stepper, self._zoneout
        new = stepper.step(stepper.input_product(x), old)
        if p:
            new = tuple(p * before + (1 - p) * value for before, value in zip(old, new, strict=True))
        self.states = new
        return new[0]


def _tensor(value: Any) -> Tensor:
    return value.sum if isinstance(value, Gate) else value


def run_step(
    cell: Cell, key: str, input: Tensor, states: tuple[Tensor, ...], weights: Mapping[str, Tensor]
) -> tuple[Tensor, ...]:
    """One differentiable step from input (B, I) and states (B, H) to the new states; `key` as in `LayerCall`."""
    stepper = Stepper(cell, weights, key)
    return stepper.step(stepper.input_product(input), states)


def run(call: LayerCall, seen: Seen | None = None) -> LayerResult:
    """Run a layer step by step.

    Args:
        call: the layer.
        seen: called after each step with the number of its direction, its time and the new states (B, H), which are
            the tensors that later steps are computed from: autograd's gradient of one is the whole derivative. What it
            is given of rows that have ended is of no use to anybody, and has no gradient.
    """
    if not watched() and not transformed():
        check_operands(*call.leaves())
    input = call.input
    counts: Tensor | None = None
    if call.lengths is not None:
        steps = torch.arange(input.shape[0], device=input.device)
        counts = steps[:, None, None] < call.lengths.to(input.device)[:, None]
        # Padding may hold NaN, which would reach the gradients even through values that nobody uses.
        input = torch.where(counts, input, input.new_zeros(()))
    runs = [_run_direction(call, input, counts, direction, seen) for direction in range(len(call.weights))]
    outputs = tuple(
        torch.cat(parts, dim=-1) if len(parts) > 1 else parts[0] for parts in zip(*[r[0] for r in runs], strict=True)
    )
    final = tuple(torch.stack(parts) for parts in zip(*[r[1] for r in runs], strict=True))
    dtype = autocast_dtype(input)
    if dtype is not None:
        # The results have the dtype that torch's kernels give under autocast.
        outputs, final = tuple(value.to(dtype) for value in outputs), tuple(value.to(dtype) for value in final)
    return LayerResult(outputs, final)


def _run_direction(
    call: LayerCall, input: Tensor, counts: Tensor | None, direction: int, seen: Seen | None
) -> tuple[list[Tensor], tuple[Tensor, ...]]:
    cell = call.cell
    mask = None if call.recurrent_mask is None else call.recurrent_mask[direction]
    stepper = Stepper(cell, call.weights[direction], call.key or register(cell), mask)
    states = tuple(state[direction] for state in call.states)
    wanted = len(cell.states) if call.all_states else 1
    length = input.shape[0]
    # unbind, because the gradient of each slice `products[t]` would be as large as the whole tensor.
    products = stepper.input_product(input).unbind(0)
    # The last dimension of the masks holds both directions, as the outputs do.
    keep_masks = [masks.chunk(len(call.weights), dim=-1)[direction] for masks in call.zoneout_masks]
    restart = tuple(state[direction] for state in call.restart)
    kept: list[list[Tensor]] = [[] for _ in range(wanted)]
    for t in reversed(range(length)) if direction == 1 else range(length):
        begins = _begins(call, counts, direction, t)
        if begins is not None:
            states = tuple(torch.where(begins, first, old) for first, old in zip(restart, states, strict=True))
        new = stepper.step(products[t], states)
        if keep_masks:
            new = tuple(torch.where(m[t], old, value) for m, old, value in zip(keep_masks, states, new, strict=True))
        elif call.zoneout:
            p = call.zoneout
            new = tuple(p * old + (1 - p) * value for old, value in zip(states, new, strict=True))
        if seen is not None:
            seen(direction, t, new)
        if counts is not None:
            new = tuple(torch.where(counts[t], value, old) for value, old in zip(new, states, strict=True))
        states = new
        for index in range(wanted):
            value = states[index]
            kept[index].append(value if counts is None else torch.where(counts[t], value, value.new_zeros(())))
    if length == 0:
        return [state.new_zeros((0, *state.shape)) for state in states[:wanted]], states
    return [torch.stack(values[::-1] if direction == 1 else values) for values in kept], states


def _begins(call: LayerCall, counts: Tensor | None, direction: int, t: int) -> Tensor | None:
    """(B, 1), True for the rows whose new sequence begins with step t of a direction; None if no row's does."""
    if call.resets is None:
        return None
    # Backwards in time a sequence begins with its last step, the step before the next sequence's reset.
    t += direction
    if t == call.input.shape[0]:
        return None
    resets = call.resets[t][:, None]
    return resets if counts is None else resets & counts[t]
