"""What a backend is asked to run, and what it answers: one layer over a whole sequence, in one or both directions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..cells import Cell

__all__ = ["LayerCall", "LayerResult", "autocast_dtype", "check_range", "weight_names"]


def weight_names(cell: Cell, bias: bool, projection: bool) -> list[str]:
    """The names of one direction's parameters, in the order of torch.nn's followed by the cell's own."""
    names = ["weight_ih", "weight_hh"]
    if bias:
        names += ["bias_ih", "bias_hh"]
    if projection:
        names.append("weight_hr")
    return names + [f"weight_{name}" for name in (*cell.vectors, *cell.matrices)]


def check_range(lengths: Tensor, steps: int) -> None:
    """Raise ValueError for a length, on the CPU, that is negative or beyond the input's steps."""
    if lengths.numel() == 0:
        return
    low, high = (int(bound) for bound in lengths.aminmax())
    if low < 0 or high > steps:
        raise ValueError(f"lengths must lie between 0 and the input's {steps} steps, not {low} to {high}")


def autocast_dtype(like: Tensor) -> torch.dtype | None:
    """The dtype that autocast asks for on a tensor's device; None outside of it, and for doubles, which it leaves."""
    if not torch.compiler.is_compiling() and not torch._C._is_any_autocast_enabled():
        return None
    kind = like.device.type
    if like.dtype != torch.float64 and torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind):
        return torch.get_autocast_dtype(kind)
    return None


@dataclass(frozen=True)
class LayerCall:
    """One layer to run. T steps, B rows, D directions, S states; H is a state's width (P for a projected h).

    Attributes:
        cell: the equations.
        input: (T, B, I); with `batch_sizes` (N, I), only the rows that count, step after step, the longest first.
        states: initial value of each state, (D, B, H).
        weights: for each direction its parameters by name; the second direction runs backwards in time.
        lengths: (B,) integers, steps that count in each row, or None when all do.
        batch_sizes: (T,) int64 on the CPU, rows of each step of a packed input, as in a PackedSequence, or None.
            Outputs and masks of zoneout then have (N, ...) where it says (T, B, ...).
        recurrent_mask: (D, B, H or P), multiplies whatever enters the product with `weight_hh`, or None.
        zoneout: probability with which a unit keeps its old state.
        zoneout_masks: for each state (T, B, D*H), True where the old value stays; empty at evaluation, when old and new
            are mixed in the proportion `zoneout`.
        all_states: whether every state of every step is wanted, not just h.
    """

    cell: Cell
    input: Tensor
    states: tuple[Tensor, ...]
    weights: tuple[Mapping[str, Tensor], ...]
    lengths: Tensor | None = None
    recurrent_mask: Tensor | None = None
    zoneout: float = 0.0
    zoneout_masks: tuple[Tensor, ...] = ()
    all_states: bool = False
    batch_sizes: Tensor | None = None

    def to(self, dtype: torch.dtype) -> LayerCall:
        """The same call in another dtype."""
        mask = self.recurrent_mask
        return replace(
            self,
            input=self.input.to(dtype),
            states=tuple(state.to(dtype) for state in self.states),
            weights=tuple({name: weight.to(dtype) for name, weight in d.items()} for d in self.weights),
            recurrent_mask=None if mask is None else mask.to(dtype),
        )

    @property
    def bias(self) -> bool:
        return "bias_ih" in self.weights[0]

    @property
    def projection(self) -> bool:
        return "weight_hr" in self.weights[0]


@dataclass(frozen=True)
class LayerResult:
    """What a layer gives.

    Attributes:
        outputs: h of every step, (T, B, D*H), zero beyond a row's length; with `all_states` each state likewise.
        final: each state after the last step that counts, (D, B, H).
    """

    outputs: tuple[Tensor, ...]
    final: tuple[Tensor, ...]
