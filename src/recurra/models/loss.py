"""Cross entropy with label smoothing in one reading of the logits, which are the largest tensor of a training step."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

__all__ = ["smoothed_cross_entropy"]


class _SmoothedCrossEntropy(torch.autograd.Function):
    """Both means at once; the gradient goes through the objective alone."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, target: Tensor, smoothing: float, ignored: int) -> tuple[Tensor, Tensor]:
        counted = target != ignored
        total = logits.logsumexp(dim=-1)
        right = logits.gather(-1, target.clamp(min=0).unsqueeze(-1)).squeeze(-1)
        nats = total - right
        count = counted.sum().clamp(min=1)
        plain = (nats * counted).sum() / count
        ctx.save_for_backward(logits, total, target, counted, count)
        ctx.smoothing = smoothing
        if not smoothing:
            return plain, plain.detach().clone()
        even = total - logits.mean(dim=-1)
        objective = (((1 - smoothing) * nats + smoothing * even) * counted).sum() / count
        return objective, plain

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor, _: Tensor) -> tuple[Tensor, None, None, None]:
        logits, total, target, counted, count = ctx.saved_tensors
        smoothing = ctx.smoothing
        # softmax - (1 - e) onehot - e / V, in one buffer.
        result = (logits - total.unsqueeze(-1)).exp_()
        if smoothing:
            result -= smoothing / logits.shape[-1]
        places = target.clamp(min=0).unsqueeze(-1)
        result.scatter_add_(-1, places, result.new_full((1, 1), smoothing - 1.0).expand(places.shape))
        result *= (counted * (gradient / count)).unsqueeze(-1)
        return result, None, None, None


def smoothed_cross_entropy(logits: Tensor, target: Tensor, smoothing: float, ignored: int) -> tuple[Tensor, Tensor]:
    """Mean over targets of -(1 - e) log p(y) - e / V sum_v log p(v) (Szegedy et al. 2016, section 7), and of -log p(y).

    Differentiable once, and in the first mean alone; both are zero where there is no target.

    Args:
        logits: (N, V).
        target: (N,) int64.
        smoothing: e.
        ignored: the target of rows that do not count.
    """
    return cast(tuple[Tensor, Tensor], _SmoothedCrossEntropy.apply(logits, target, smoothing, ignored))
