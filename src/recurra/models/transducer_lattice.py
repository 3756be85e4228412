"""The sum over all alignments of a transducer: log P(y | x) of the log-probabilities at each point of the lattice.

Point (t, u) of the lattice stands for t frames read to their end and u labels written. A blank leads from (t, u) to
(t + 1, u), and the next label leads to (t, u + 1). An alignment is a way from (0, 0) to (T, U) whose last move is a
blank, and its probability is the product of those of its moves (Graves 2012, section 2.3).

B is rows, T the most frames, U the most labels. The points with the same t + u are a diagonal. All points of a diagonal
are found at once, because a move leads from each diagonal to the next one.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from .crf_passes import wide

__all__ = ["alignments_log_probability"]


class _AlignmentsLogProbability(torch.autograd.Function):
    """log P (B,) by the forward variables, and its gradient by the backward variables in place of autograd's.

    Autograd would give NaN at a point that no alignment reaches, because it differentiates the logarithm of zero.
    """

    @staticmethod
    def forward(ctx: Any, blank: Tensor, label: Tensor, frames: Tensor, labels: Tensor) -> Tensor:
        blanks, moves = _by_diagonals(blank, label, frames, labels)
        alpha = torch.full_like(blanks, -torch.inf)
        alpha[0, :, 0] = 0.0
        for diagonal in range(1, len(alpha)):
            before = alpha[diagonal - 1]
            torch.add(before, blanks[diagonal - 1], out=alpha[diagonal])
            written = before[:, :-1] + moves[diagonal - 1, :, :-1]
            alpha[diagonal, :, 1:] = torch.logaddexp(alpha[diagonal, :, 1:], written)
        total = alpha[frames + labels, torch.arange(len(frames), device=frames.device), labels]
        ctx.save_for_backward(alpha, blanks, moves, total, frames, labels)
        ctx.shape, ctx.dtype = label.shape, blank.dtype
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None, None]:
        alpha, blanks, moves, total, frames, labels = ctx.saved_tensors
        beta = torch.full_like(alpha, -torch.inf)
        beta[frames + labels, torch.arange(len(frames), device=frames.device), labels] = 0.0
        for diagonal in range(len(beta) - 2, -1, -1):
            after = beta[diagonal + 1]
            read = after + blanks[diagonal]
            read[:, :-1] = torch.logaddexp(read[:, :-1], after[:, 1:] + moves[diagonal, :, :-1])
            # The end of a row is no sum over moves.
            beta[diagonal] = torch.logaddexp(beta[diagonal], read)
        # Where nothing reaches the end all shares are zero; minus infinity less itself would be NaN.
        shifted = alpha - total.masked_fill(total.isneginf(), 0.0).unsqueeze(1)
        weights = gradient.to(alpha.dtype).unsqueeze(1)
        d_blank = torch.zeros_like(alpha)
        d_blank[:-1] = (shifted[:-1] + blanks[:-1] + beta[1:]).exp_() * weights
        d_label = torch.zeros_like(alpha)
        d_label[:-1, :, :-1] = (shifted[:-1, :, :-1] + moves[:-1, :, :-1] + beta[1:, :, 1:]).exp_() * weights
        steps, size = ctx.shape[1], ctx.shape[2]
        return (
            _from_diagonals(d_blank, steps).to(ctx.dtype),
            _from_diagonals(d_label, steps)[..., :size].to(ctx.dtype),
            None,
            None,
        )


def _by_diagonals(blank: Tensor, label: Tensor, frames: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Both log-probabilities as (T + U + 1, B, U + 1), diagonal after diagonal; minus infinity outside of a row."""
    rows, steps, width = blank.shape
    places = torch.arange(width, device=blank.device)
    diagonals = torch.arange(steps + width, device=blank.device)
    times = diagonals.unsqueeze(1) - places
    inside = ((times >= 0) & (times < frames.view(-1, 1, 1))) & (places <= labels.view(-1, 1, 1))
    picked = times.clamp(0, steps - 1).expand(rows, -1, -1)
    kind = wide(blank)
    lattice = blank.gather(1, picked).to(kind).masked_fill_(~inside, -torch.inf)
    moves = torch.full_like(lattice, -torch.inf)
    may_write = inside[..., :-1] & (places[:-1] < labels.view(-1, 1, 1))
    moves[..., :-1] = label.gather(1, picked[..., :-1]).to(kind).masked_fill_(~may_write, -torch.inf)
    return lattice.transpose(0, 1).contiguous(), moves.transpose(0, 1).contiguous()


def _from_diagonals(values: Tensor, steps: int) -> Tensor:
    """(T + U + 1, B, U + 1) as (B, T, U + 1)."""
    places = torch.arange(values.shape[2], device=values.device)
    diagonals = torch.arange(steps, device=values.device).unsqueeze(1) + places
    return values.transpose(0, 1).gather(1, diagonals.expand(values.shape[1], -1, -1))


def alignments_log_probability(blank: Tensor, label: Tensor, frames: Tensor, labels: Tensor) -> Tensor:
    """log P(y | x), the logarithm of the sum over all alignments (Graves 2012, equations 16 to 18): (B,).

    The gradient at a point is the share of the alignments that make the move there (equation 20). It is zero in the
    padding, and everywhere in a row without any alignment, for which the result is minus infinity. Differentiable once.
    Sums are in float64, because those of a long lattice leave float32 no digits for how two moves differ.

    Args:
        blank: (B, T, U + 1), log P(blank) at each point; anything in the padding.
        label: (B, T, U), log P(next label) at each point; anything in the padding.
        frames: (B,) int64, T of each row, at least 1.
        labels: (B,) int64, U of each row, from 0.
    """
    return cast(Tensor, _AlignmentsLogProbability.apply(blank, label, frames, labels))
