"""What goes over the steps of a conditional random field, in `crf.py`: sums forward and back, and the best paths.

T is steps, B rows, K tags. In every tensor here the longest row stands first, so the rows that have a step are those
before the first one that has ended, and a step costs nothing for the others. Forbidden moves are minus infinity.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

__all__ = ["LogPartition", "Rows", "backward_pass", "best_paths", "forward_pass", "refuse_without_path", "wide"]


class Rows:
    """The rows of a batch with the longest first; rows of the same length stay in the caller's order.

    Args:
        lengths: (B,) int64 on the CPU, at least 1, in the caller's order.

    Attributes:
        order: (B,) int64, which row of the caller stands at each place.
        places: (B,) int64, at which place each row of the caller stands.
        last: (B,) int64, the last step of the row at each place.
        active: for each step, how many rows have it.
    """

    def __init__(self, lengths: Tensor) -> None:
        ordered, self.order = lengths.sort(descending=True, stable=True)
        self.places = self.order.argsort()
        self.last = ordered - 1
        steps = torch.arange(int(ordered[0]), device="cpu")
        self.active: list[int] = (ordered > steps.unsqueeze(1)).sum(1).tolist()


class LogPartition(torch.autograd.Function):
    """log Z (B,) by the forward pass, and its gradient by the backward pass in place of autograd's.

    Autograd would keep T x B x K x K numbers where these passes keep T x B x K. For a tag that no path reaches it would
    give NaN, because it differentiates the logarithm of zero.
    """

    @staticmethod
    def forward(ctx: Any, emissions: Tensor, transitions: Tensor, start: Tensor, end: Tensor, rows: Rows) -> Tensor:
        alpha, total = forward_pass(emissions, transitions, start, end, rows)
        ctx.save_for_backward(alpha, transitions, end)
        ctx.rows = rows
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, None]:
        alpha, transitions, end = ctx.saved_tensors
        shares, moves = backward_pass(alpha, transitions, end, ctx.rows, gradient)
        places = torch.arange(shares.shape[1], device=shares.device)
        last = shares[ctx.rows.last.to(shares.device), places]
        return shares, moves, shares[0].sum(0), last.sum(0), None


def forward_pass(
    emissions: Tensor, transitions: Tensor, start: Tensor, end: Tensor, rows: Rows
) -> tuple[Tensor, Tensor]:
    """The forward algorithm (Rabiner 1989, equations 19 to 21) in logarithms.

    Args:
        emissions: (T, B, K).
        transitions, start, end: (K, K), (K,), (K,).
        rows: the order of the batch.

    Returns:
        alpha (T, B, K), the logarithm of the sum over all paths to a tag at a step, less the greatest of that row and
        step; and log Z (B,).
    """
    incoming = transitions.t().contiguous()
    alpha = torch.zeros_like(emissions)
    # Without taking the greatest away, the sums of a long sequence grow until float32 has no digits left for how the
    # tags of a step differ.
    greatest = emissions.new_zeros(emissions.shape[:2])
    lowest = torch.finfo(emissions.dtype).min
    for step, active in enumerate(rows.active):
        if step:
            sums = torch.logsumexp(alpha[step - 1, :active].unsqueeze(1) + incoming, 2) + emissions[step, :active]
        else:
            sums = start + emissions[0]
        # Where all are minus infinity they stay so; minus infinity less itself would be NaN.
        most = sums.amax(1, keepdim=True).clamp_(min=lowest)
        torch.sub(sums, most, out=alpha[step, :active])
        greatest[step, :active] = most.squeeze(1)
    last = rows.last.to(emissions.device)
    ending = torch.logsumexp(alpha[last, torch.arange(len(last), device=last.device)] + end, 1)
    kind = wide(emissions)
    # A running sum, so that the padding cannot change how a row's sum is rounded.
    return alpha, greatest.cumsum(0, dtype=kind).gather(0, last.unsqueeze(0)).squeeze(0) + ending.to(kind)


def backward_pass(
    alpha: Tensor, transitions: Tensor, end: Tensor, rows: Rows, weights: Tensor
) -> tuple[Tensor, Tensor]:
    """The probability of each tag and of each move, times the weight of its row.

    The probability of tag i at step t, given tag j at step t + 1, is the softmax over i of alpha[t, i] +
    transitions[i, j]. The mean of these softmaxes, weighted by the probabilities of step t + 1, gives those of step t,
    so no number grows with the length. The results are the gradient of the weighted sum of log Z.

    Args:
        alpha: (T, B, K), from `forward_pass`.
        transitions, end: (K, K), (K,).
        rows: the order of the batch.
        weights: (B,).

    Returns:
        (T, B, K) of tags, zero in the padding; (K, K) of moves, summed over steps and rows.
    """
    places = torch.arange(alpha.shape[1], device=alpha.device)
    last = rows.last.to(alpha.device)
    shares = torch.zeros_like(alpha)
    shares[last, places] = torch.softmax(alpha[last, places] + end, 1) * weights.to(alpha.dtype).unsqueeze(1)
    # The softmax of minus infinities alone would be NaN. It belongs to a tag j that no path reaches, which has the
    # probability zero, so any finite numbers will do. Half of the lowest one is still zero beside a number that counts,
    # and two of them can be added.
    lowest = torch.finfo(alpha.dtype).min / 2
    finite, incoming = alpha.clamp(min=lowest), transitions.t().clamp(min=lowest).contiguous()
    moves = torch.zeros_like(incoming)
    for step in range(len(rows.active) - 2, -1, -1):
        active = rows.active[step + 1]
        pairs = torch.softmax(finite[step, :active].unsqueeze(1) + incoming, 2)
        pairs *= shares[step + 1, :active].unsqueeze(2)
        moves += pairs.sum(0)
        torch.sum(pairs, 1, out=shares[step, :active])
    return shares, moves.t()


def best_paths(
    emissions: Tensor, transitions: Tensor, start: Tensor, end: Tensor, rows: Rows, n: int
) -> list[list[tuple[list[int], float]]]:
    """The n best paths of each row of the caller and their scores, best first; fewer where fewer are allowed.

    Viterbi's algorithm that keeps the n best paths to each tag (Seshadri & Sundberg 1994, the parallel algorithm).

    Args:
        emissions: (T, B, K), on the CPU as all others.
        transitions, start, end: (K, K), (K,), (K,).
        rows: the order of the batch.
        n: 1 is Viterbi's algorithm as it is.

    Raises:
        ValueError: if all paths of a row are forbidden; it names the row.
    """
    steps, width, tags = emissions.shape
    incoming, ending = transitions.t().contiguous(), end.unsqueeze(0)
    # The best paths to each tag, best first; at the first step there is one to each.
    scores = emissions.new_full((width, tags, n), -torch.inf)
    scores[:, :, 0] = start + emissions[0]
    # All that is kept of a step: which path of the step before each path goes on from, its tag times n plus its rank.
    origins = emissions.new_zeros(steps, width, tags, n, dtype=_smallest(tags * n))
    final = emissions.new_empty(width, 1, n)
    reached = emissions.new_empty(width, 1, n, dtype=torch.int64)
    for step, active in enumerate(rows.active):
        if step:
            scores, origins[step, :active] = _merged(scores[:active], incoming)
            scores += emissions[step, :active].unsqueeze(2)
        going_on = rows.active[step + 1] if step + 1 < steps else 0
        if going_on < active:
            ended = slice(going_on, active)
            final[ended], reached[ended] = _merged(scores[ended], ending)
    final = final.squeeze(1)
    refuse_without_path(final[:, 0], rows)
    paths = _follow(origins.flatten(2).numpy(), reached.squeeze(1).numpy(), rows.active)
    paths //= n
    found = []
    for place in rows.places.tolist():
        length = int(rows.last[place]) + 1
        legal = final[place, ~final[place].isneginf()].tolist()
        found.append([(paths[:length, place, rank].tolist(), score) for rank, score in enumerate(legal)])
    return found


def wide(values: Tensor) -> torch.dtype:
    """The dtype that numbers of all steps are added up in; MPS has no float64."""
    return torch.float32 if values.device.type == "mps" else torch.float64


def refuse_without_path(scores: Tensor, rows: Rows) -> None:
    """Check that each row has an allowed path.

    Args:
        scores: (B,), of the best path or of all; minus infinity where there is none.
        rows: the order of the batch.

    Raises:
        ValueError: if one has none; it names the first of them as the caller numbers them.
    """
    without = rows.order[scores.isneginf().cpu()]
    if len(without):
        row = int(without.min())
        raise ValueError(f"row {row} has no allowed path of {int(rows.last[rows.places[row]]) + 1} steps")


def _smallest(greatest: int) -> torch.dtype:
    """The smallest dtype that holds whole numbers from 0 to the greatest."""
    return torch.uint8 if greatest < 2**8 else torch.int16 if greatest < 2**15 else torch.int32


def _merged(scores: Tensor, moves: Tensor) -> tuple[Tensor, Tensor]:
    """The n best of all paths that end with some tag and go on by a move to another; of equal ones the lower tag first.

    The paths to a tag are in order already, so only the best that is left of each tag can be the next one.

    Args:
        scores: (B, K, n), the n best paths to each tag, best first.
        moves: (J, K), what it adds to go on from each of K tags to each of J.

    Returns:
        Scores (B, J, n), and which path each of them goes on from, as its tag times n plus its rank.
    """
    width, _, n = scores.shape
    heads = scores[:, :, 0].unsqueeze(1) + moves
    value, tag = heads.max(-1, keepdim=True)
    if n == 1:
        return value, tag
    values, places = [value], [tag * n]
    queues, gains = scores.flatten(1), moves.expand(width, -1, -1)
    ranks = torch.zeros_like(heads, dtype=torch.int64)
    for _ in range(n - 1):
        # What was taken last makes way for the next best path to its tag.
        rank = ranks.gather(-1, tag) + 1
        ranks.scatter_(-1, tag, rank)
        following = queues.gather(1, (tag * n + rank).flatten(1)).view_as(tag)
        heads.scatter_(-1, tag, following + gains.gather(-1, tag))
        value, tag = heads.max(-1, keepdim=True)
        values.append(value)
        places.append(tag * n + ranks.gather(-1, tag))
    return torch.cat(values, -1), torch.cat(places, -1)


def _follow(origins: npt.NDArray[Any], reached: npt.NDArray[np.int64], active: list[int]) -> npt.NDArray[Any]:
    """The paths (T, B, n), as the numbers of their parts up to each step, followed back from where they end (B, n)."""
    steps, width, _ = origins.shape
    found = np.empty((steps, *reached.shape), dtype=origins.dtype)
    rows = np.arange(width)[:, np.newaxis]
    places = reached.copy()
    for step in range(steps - 1, -1, -1):
        found[step] = places
        if step:
            # On the way back a shorter row waits at its end.
            rest = active[step]
            places[:rest] = origins[step, rows[:rest], places[:rest]]
    return found
