"""Output layer and cross entropy in one: a few rows at a time, so that the logits of all rows never stand in memory."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ..kernels.call import autocast_dtype

__all__ = ["projected_cross_entropy"]

# Logits that are there at a time: on a CPU what its caches hold, elsewhere enough work for a kernel.
_MOST_LOGITS = 1 << 21
_MOST_LOGITS_ELSEWHERE = 1 << 25
_FEWEST_ROWS = 64


class _ProjectedCrossEntropy(torch.autograd.Function):
    """Both means; gradients are taken on the way there, while a row's logits are at hand, and go through the first."""

    @staticmethod
    def forward(
        ctx: Any,
        features: Tensor,
        weight: Tensor,
        bias: Tensor,
        target: Tensor,
        smoothing: float,
        ignored: int,
        dtype: torch.dtype,
    ) -> tuple[Tensor, Tensor]:
        counted = target != ignored
        inside, kept = features.to(dtype), None
        # On a CPU padding is left out; elsewhere to ask which rows these are would wait for the device.
        if target.device.type == "cpu" and not counted.all():
            kept = counted.nonzero().squeeze(1)
            inside, target, counted = inside[kept], target[kept], counted[kept]
        with torch.autocast(features.device.type, enabled=False):
            objective, nats, gradients = _losses(
                inside,
                weight.to(dtype),
                bias.to(torch.promote_types(dtype, torch.float32)),
                target.clamp(min=0).unsqueeze(-1),
                counted.unsqueeze(-1),
                smoothing,
                any(ctx.needs_input_grad),
            )
        if kept is not None:
            gradients[0] = torch.zeros_like(features, dtype=dtype).index_copy_(0, kept, gradients[0])
        count = counted.sum().clamp(min=1).to(objective.dtype)
        ctx.save_for_backward(count, *gradients)
        ctx.dtypes = features.dtype, weight.dtype, bias.dtype
        nats = nats / count
        ctx.mark_non_differentiable(nats)
        return objective / count, nats

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        count, *gradients = ctx.saved_tensors
        share = gradient / count
        return *((found * share).to(dtype) for found, dtype in zip(gradients, ctx.dtypes, strict=True)), *[None] * 4


def _losses(
    features: Tensor, weight: Tensor, bias: Tensor, target: Tensor, counted: Tensor, smoothing: float, wanted: bool
) -> tuple[Tensor, Tensor, list[Tensor]]:
    """Sums of both losses, and if `wanted` the first one's gradients by features, weight and bias.

    Products are in the type of `features` and `weight`, which may be narrow, sums and exponentials in that of `bias`;
    `target` and `counted` are (N, 1).
    """
    rows, vocabulary = len(features), len(weight)
    most = _MOST_LOGITS if features.device.type == "cpu" else _MOST_LOGITS_ELSEWHERE
    step = min(max(most // vocabulary, _FEWEST_ROWS), max(rows, 1))
    narrow = features.dtype != bias.dtype
    d_features = torch.empty_like(features)
    d_weight = torch.zeros_like(weight, dtype=bias.dtype)
    d_bias = torch.zeros_like(bias)
    nats, even = bias.new_zeros(()), bias.new_zeros(())
    buffer = bias.new_empty((step, vocabulary))
    for first in range(0, rows, step):
        x, places, own = (part[first : first + step] for part in (features, target, counted))
        logits = buffer[: len(x)]
        if narrow:
            torch.add(torch.mm(x, weight.t()), bias, out=logits)
        else:
            torch.addmm(bias, x, weight.t(), out=logits)
        top = logits.amax(-1, keepdim=True)
        right = logits.gather(-1, places)
        mean = logits.mean(-1, keepdim=True) if smoothing else right
        shares = logits.sub_(top).exp_()
        sums = shares.sum(-1, keepdim=True)
        total = top + sums.log()
        nats += ((total - right) * own).sum()
        even += ((total - mean) * own).sum()
        if wanted:
            # softmax - (1 - e) onehot - e / V
            torch.addcmul(sums.new_full((1, 1), -smoothing / vocabulary), shares, sums.reciprocal(), out=shares)
            shares.scatter_add_(-1, places, sums.new_full((1, 1), smoothing - 1.0).expand(places.shape))
            shares *= own
            multiplied = shares.to(features.dtype)
            torch.mm(multiplied, weight, out=d_features[first : first + step])
            if narrow:
                d_weight += torch.mm(multiplied.t(), x)
            else:
                d_weight.addmm_(multiplied.t(), x)
            d_bias += shares.sum(0)
    return (1 - smoothing) * nats + smoothing * even, nats, [d_features, d_weight, d_bias]


def projected_cross_entropy(
    features: Tensor, weight: Tensor, bias: Tensor, target: Tensor, smoothing: float = 0.0, ignored: int = -100
) -> tuple[Tensor, Tensor]:
    """Mean over targets of -(1 - e) log p(y) - e / V sum_v log p(v) (Szegedy et al. 2016, section 7), and of -log p(y).

    p is the softmax of W x + b. As torch's linear and cross_entropy, with their gradients, in a fraction of the memory
    and, on a CPU, two thirds to a half of the time. Differentiable once, and in the first mean alone; both are zero
    where there is no target. Under autocast the products are in its type.

    Args:
        features: x, (N, E).
        weight, bias: W (V, E) and b (V,).
        target: (N,) int64.
        smoothing: e.
        ignored: the target of rows that do not count.
    """
    dtype = autocast_dtype(features) or features.dtype
    arguments = features, weight, bias, target, smoothing, ignored, dtype
    return cast(tuple[Tensor, Tensor], _ProjectedCrossEntropy.apply(*arguments))
