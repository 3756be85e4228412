"""Attention of a decoder over what an encoder has read: several queries at once, as teacher forcing has them.

T is target steps, S source positions, B rows; M units of an annotation, Q of a query, A inside. Weights of positions
beyond a source's length are exactly zero, so that padding never changes a result.
"""

from __future__ import annotations

import math
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

__all__ = [
    "AdditiveAttention",
    "Attended",
    "Attention",
    "DotAttention",
    "LocalAttention",
    "Memory",
    "MultiHeadAttention",
    "make_attention",
    "remember",
]


class Memory(NamedTuple):
    """What is attended over; all have the batch as second dimension, so that rows can be picked.

    Attributes:
        keys: (S, B, A), what queries are compared with.
        values: (S, B, A'), what is averaged; the annotations but for multi-head attention.
        mask: (S, B) bool, true inside a source.
    """

    keys: Tensor
    values: Tensor
    mask: Tensor


class Attended(NamedTuple):
    """`context` (T, B, M), the average of the values by `weights` (T, B, S)."""

    context: Tensor
    weights: Tensor


class Attention(nn.Module):
    """What all kinds share: weights are the softmax of scores over the source, the context their average of values.

    Args:
        annotation_size: M.
    """

    def __init__(self, annotation_size: int) -> None:
        super().__init__()
        self.context_size = annotation_size

    def keys(self, annotations: Tensor) -> Tensor:
        """Annotations (S, B, M) as queries are compared with them, (S, B, A); once a source."""
        return annotations

    def values(self, annotations: Tensor) -> Tensor:
        """Annotations as they are averaged."""
        return annotations

    def scores(self, query: Tensor, keys: Tensor, coverage: Tensor | None = None) -> Tensor:
        """How well each position fits each query: (T, B, Q) and (S, B, A) to (B, T, S)."""
        raise NotImplementedError

    def forward(
        self, query: Tensor, memory: Memory, coverage: Tensor | None = None, position: Tensor | None = None
    ) -> Attended:
        """Attend from T queries at once.

        Args:
            query: (T, B, Q).
            memory: made by `remember`.
            coverage: (B, S), the sum of the weights of all steps before; only for a single query.
            position: (B,), the number of steps before the first query; None: 0.
        """
        scores = self.scores(query, memory.keys, coverage)
        weights = masked_softmax(scores, memory.mask.t().unsqueeze(1))
        return _average(weights, memory.values)


def remember(attention: Attention, annotations: Tensor, mask: Tensor) -> Memory:
    """Prepare annotations (S, B, M) of sources with this mask (S, B) for many queries."""
    return Memory(attention.keys(annotations), attention.values(annotations), mask)


def masked_softmax(scores: Tensor, mask: Tensor) -> Tensor:
    """Softmax over the last dimension with exact zeros outside the mask; all zero where the mask is empty."""
    # A row of minus infinities has no softmax, and its gradient would be NaN: such rows are softened, then zeroed.
    kept = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
    return kept.softmax(dim=-1).masked_fill(~mask, 0.0)


def _average(weights: Tensor, values: Tensor) -> Attended:
    """Weights (B, T, S) and values (S, B, M) to the context (T, B, M)."""
    context = torch.bmm(weights, values.transpose(0, 1).to(weights.dtype))
    return Attended(context.transpose(0, 1), weights.transpose(0, 1))


class AdditiveAttention(Attention):
    """score(s, h) = v . tanh(W s + U h + b) (Bahdanau, Cho & Bengio 2015, appendix A.1.2).

    "concat" of Luong, Pham & Manning (2015), equation 8, is the same with W and U as two halves of one matrix. With
    coverage the sum c of the earlier weights joins in: v . tanh(W s + U h + w c + b) (See, Liu & Manning 2017, equation
    11).

    Args:
        query_size, annotation_size, size: Q, M, A.
        coverage: whether scores know the earlier weights.
    """

    def __init__(self, query_size: int, annotation_size: int, size: int, *, coverage: bool = False) -> None:
        super().__init__(annotation_size)
        self.query = nn.Linear(query_size, size)
        self.key = nn.Linear(annotation_size, size, bias=False)
        self.energy = nn.Parameter(torch.empty(size).uniform_(-1 / math.sqrt(size), 1 / math.sqrt(size)))
        self.coverage = nn.Parameter(torch.zeros(size)) if coverage else None

    def keys(self, annotations: Tensor) -> Tensor:
        return cast(Tensor, self.key(annotations))

    def scores(self, query: Tensor, keys: Tensor, coverage: Tensor | None = None) -> Tensor:
        asked = self.query(query).unsqueeze(1)
        if self.coverage is not None and coverage is not None:
            asked = asked + coverage.t()[:, :, None] * self.coverage
        # (T, S, B, A), by far the largest tensor: in the order of its parts and in one piece, it is never copied.
        return torch.matmul((asked + keys).tanh_(), self.energy).permute(2, 0, 1)


class DotAttention(Attention):
    """score(s, h) = s . h, or s . W h in the general form (Luong, Pham & Manning 2015, equation 8).

    Args:
        query_size, annotation_size: Q and M; the same without W.
        general: whether there is a W.
    """

    def __init__(self, query_size: int, annotation_size: int, *, general: bool) -> None:
        super().__init__(annotation_size)
        if not general and query_size != annotation_size:
            raise ValueError(f"dot attention needs one size, not {query_size} and {annotation_size}")
        self.key = nn.Linear(annotation_size, query_size, bias=False) if general else None

    def keys(self, annotations: Tensor) -> Tensor:
        return annotations if self.key is None else self.key(annotations)

    def scores(self, query: Tensor, keys: Tensor, coverage: Tensor | None = None) -> Tensor:
        return torch.bmm(query.transpose(0, 1), keys.permute(1, 2, 0))


class LocalAttention(DotAttention):
    """General attention within a window of D positions on each side of a centre p (Luong et al. 2015, section 3.2).

    Predictive (local-p): p = S sigmoid(v . tanh(W s)), and the weights of the window are damped by
    exp(-(i - p)^2 / (2 (D/2)^2)) (equations 9 and 10), without making their sum one again. Monotonic (local-m): p is
    the number of the step, at most the last position.

    Args:
        query_size, annotation_size: Q and M.
        window: D.
        predictive: local-p, or else local-m.
    """

    def __init__(self, query_size: int, annotation_size: int, window: int, *, predictive: bool) -> None:
        super().__init__(query_size, annotation_size, general=True)
        self.window = window
        self.position = nn.Linear(query_size, query_size, bias=False) if predictive else None
        bound = 1 / math.sqrt(query_size)
        self.centre = nn.Parameter(torch.empty(query_size).uniform_(-bound, bound)) if predictive else None

    def forward(
        self, query: Tensor, memory: Memory, coverage: Tensor | None = None, position: Tensor | None = None
    ) -> Attended:
        mask = memory.mask.t().unsqueeze(1)
        # In bfloat16 positions above 256 would fall together.
        precise = torch.promote_types(query.dtype, torch.float32)
        lengths = memory.mask.sum(0).to(precise)
        places = torch.arange(memory.mask.shape[0], device=query.device, dtype=precise)
        if self.position is not None and self.centre is not None:
            share = torch.sigmoid(torch.matmul(torch.tanh(self.position(query)), self.centre).to(precise))
            centre = (lengths * share).t().unsqueeze(-1)
        else:
            steps = torch.arange(query.shape[0], device=query.device)
            first = steps.new_zeros(query.shape[1]) if position is None else position
            centre = torch.minimum(steps + first.unsqueeze(1), (lengths - 1).unsqueeze(1)).to(precise).unsqueeze(-1)
        distance = places - centre
        weights = masked_softmax(self.scores(query, memory.keys), mask & (distance.abs() <= self.window))
        if self.centre is not None:
            weights = weights * torch.exp(-2.0 * (distance / self.window).square()).to(weights.dtype)
        return _average(weights, memory.values)


class MultiHeadAttention(Attention):
    """N heads of scaled dot products over projected queries, keys and values (Vaswani et al. 2017, section 3.2.2).

    The weights that are given out are the mean of the heads'.

    Args:
        query_size, annotation_size, size: Q, M, and A of all heads together.
        heads: N; divides A.
    """

    def __init__(self, query_size: int, annotation_size: int, size: int, heads: int) -> None:
        super().__init__(annotation_size)
        self.heads = heads
        self.query = nn.Linear(query_size, size, bias=False)
        self.key = nn.Linear(annotation_size, size, bias=False)
        self.value = nn.Linear(annotation_size, size, bias=False)
        self.output = nn.Linear(size, annotation_size, bias=False)

    def keys(self, annotations: Tensor) -> Tensor:
        return cast(Tensor, self.key(annotations))

    def values(self, annotations: Tensor) -> Tensor:
        return cast(Tensor, self.value(annotations))

    def forward(
        self, query: Tensor, memory: Memory, coverage: Tensor | None = None, position: Tensor | None = None
    ) -> Attended:
        asked, keys, values = (self._parted(part) for part in (self.query(query), memory.keys, memory.values))
        scores = torch.matmul(asked, keys.transpose(-1, -2)) / math.sqrt(asked.shape[-1])
        weights = masked_softmax(scores, memory.mask.t()[:, None, None, :])
        heads = torch.matmul(weights, values)
        context = self.output(heads.permute(2, 0, 1, 3).flatten(2))
        return Attended(context, weights.mean(dim=1).transpose(0, 1))

    def _parted(self, part: Tensor) -> Tensor:
        """(T, B, A) to (B, N, T, A / N)."""
        return part.unflatten(-1, (self.heads, -1)).permute(1, 2, 0, 3)


def make_attention(
    kind: str,
    query_size: int,
    annotation_size: int,
    *,
    size: int,
    heads: int = 1,
    window: int = 5,
    coverage: bool = False,
) -> Attention:
    """The attention of a name.

    Args:
        kind: additive, concat, dot, general, local, local-monotonic or multi-head.
        query_size, annotation_size, size: Q, M, A.
        heads: of multi-head attention.
        window: of local attention.
        coverage: of additive attention.

    Raises:
        ValueError: for an unknown kind or sizes that do not fit it.
    """
    match kind:
        case "additive" | "concat":
            return AdditiveAttention(query_size, annotation_size, size, coverage=coverage)
        case "dot" | "general":
            return DotAttention(query_size, annotation_size, general=kind == "general")
        case "local" | "local-monotonic":
            return LocalAttention(query_size, annotation_size, window, predictive=kind == "local")
        case "multi-head":
            return MultiHeadAttention(query_size, annotation_size, size, heads)
    raise ValueError(f"there is no attention {kind}")
