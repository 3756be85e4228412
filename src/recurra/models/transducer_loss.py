"""The loss of a recurrent transducer (Graves 2012): minus the log-probability of the labels, over all alignments.

An encoder gives a vector e_t for each frame and a predictor a vector p_u for each number of labels that are written.
Their joint gives the probabilities of the blank and of each label at the point (t, u):

    softmax(W tanh(e_t + p_u) + b)

For a batch these are B x T x (U + 1) x V numbers, most often gigabytes. They never stand in memory together here: a
chunk of points is computed at a time, and of each point only the log-probabilities of the blank and of the next label
are kept. The way back computes each chunk once more.

J is the width of the joint, V the number of labels with the blank.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal, cast

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from ..kernels.call import autocast_dtype
from .transducer_lattice import alignments_log_probability

__all__ = ["transducer_loss", "transducer_loss_reference"]

Reduction = Literal["none", "mean", "sum"]

# Numbers of a chunk: on a CPU what its caches hold, elsewhere enough work for a kernel.
_MOST_NUMBERS = 1 << 20
_MOST_NUMBERS_ELSEWHERE = 1 << 25


class _Points(torch.autograd.Function):
    """log P(blank) (B, T, U + 1) and log P(next label) (B, T, U) at each point; zero in the padding."""

    @staticmethod
    def forward(
        ctx: Any,
        encoded: Tensor,
        predicted: Tensor,
        weight: Tensor,
        bias: Tensor,
        targets: Tensor,
        sizes: list[tuple[int, int]],
        blank: int,
        dtype: torch.dtype,
    ) -> tuple[Tensor, Tensor]:
        joint = _Joint(encoded, predicted, weight, bias, targets, sizes, dtype)
        rows, steps, width = len(encoded), encoded.shape[1], predicted.shape[1]
        blanks = joint.bias.new_zeros((rows, steps, width))
        labels = joint.bias.new_zeros((rows, steps, width - 1))
        with torch.autocast(encoded.device.type, enabled=False):
            for row, times, _, logits in joint.chunks():
                count = sizes[row][1]
                points = logits.view(-1, count + 1, logits.shape[1])
                following = points[:, :count].gather(2, joint.following(row, len(points))).squeeze(2)
                empty = points[..., blank].clone()
                total = _log_sum_over(logits).view(-1, count + 1)
                blanks[row, times, : count + 1] = empty - total
                labels[row, times, :count] = following - total[:, :count]
        ctx.save_for_backward(encoded, predicted, weight, bias, targets)
        ctx.sizes, ctx.blank, ctx.dtype = sizes, blank, dtype
        return blanks, labels

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_blanks: Tensor, d_labels: Tensor) -> tuple[Tensor | None, ...]:
        encoded, predicted, weight, bias, targets = ctx.saved_tensors
        joint = _Joint(encoded, predicted, weight, bias, targets, ctx.sizes, ctx.dtype)
        kind = joint.bias.dtype
        d_encoded, d_predicted = torch.zeros_like(encoded, dtype=kind), torch.zeros_like(predicted, dtype=kind)
        d_weight, d_bias = torch.zeros_like(weight, dtype=kind), torch.zeros_like(joint.bias)
        with torch.autocast(encoded.device.type, enabled=False):
            for row, times, hidden, logits in joint.chunks():
                count = ctx.sizes[row][1]
                d_blank, d_label = d_blanks[row, times, : count + 1], d_labels[row, times, :count]
                _log_sum_over(logits)
                shares = logits.div_(logits.sum(1, keepdim=True))
                # Both log-probabilities take the logarithm of the same sum away.
                through_sum = d_blank.clone()
                through_sum[:, :count] += d_label
                shares.mul_(through_sum.view(-1, 1).neg_())
                points = shares.view(-1, count + 1, shares.shape[1])
                points[..., ctx.blank] += d_blank
                points[:, :count].scatter_add_(2, joint.following(row, len(points)), d_label.unsqueeze(2))
                narrow = shares.to(hidden.dtype)
                if narrow.dtype == kind:
                    d_weight.addmm_(narrow.t(), hidden)
                else:
                    d_weight += torch.mm(narrow.t(), hidden)
                d_bias += shares.sum(0)
                d_hidden = torch.mm(narrow, joint.weight).to(kind)
                # The slope of tanh is 1 - tanh^2.
                d_sum = d_hidden.addcmul_(d_hidden, hidden.to(kind).square_(), value=-1.0)
                d_sum = d_sum.view(-1, count + 1, d_sum.shape[1])
                d_encoded[row, times] = d_sum.sum(1)
                d_predicted[row, : count + 1] += d_sum.sum(0)
        given = encoded.dtype, predicted.dtype, weight.dtype, bias.dtype
        found = d_encoded, d_predicted, d_weight, d_bias
        return *(value.to(dtype) for value, dtype in zip(found, given, strict=True)), *[None] * 4


class _Joint:
    """The joint of a batch, a chunk of points of one row at a time, so that no row depends on the others."""

    def __init__(
        self,
        encoded: Tensor,
        predicted: Tensor,
        weight: Tensor,
        bias: Tensor,
        targets: Tensor,
        sizes: list[tuple[int, int]],
        dtype: torch.dtype,
    ) -> None:
        self.encoded, self.predicted, self.weight = encoded.to(dtype), predicted.to(dtype), weight.to(dtype)
        self.bias = bias.to(torch.promote_types(dtype, torch.float32))
        self.targets, self.sizes = targets, sizes

    def following(self, row: int, frames: int) -> Tensor:
        """The labels of a row (frames, U, 1)."""
        return self.targets[row, : self.sizes[row][1]].view(1, -1, 1).expand(frames, -1, -1)

    def chunks(self) -> Iterator[tuple[int, slice, Tensor, Tensor]]:
        """The row, its frames, tanh(e + p) (frames x (U + 1), J) and logits (frames x (U + 1), V), to be written over.

        Both are in buffers that the next chunk takes.
        """
        most = _MOST_NUMBERS if self.encoded.device.type == "cpu" else _MOST_NUMBERS_ELSEWHERE
        vocabulary, width = self.weight.shape
        # Frames of a chunk follow from a row's own labels, so that the batch cannot change how sums are rounded.
        at_once = [max(1, min(steps, most // ((count + 1) * max(vocabulary, width)))) for steps, count in self.sizes]
        points = max((n * (count + 1) for n, (_, count) in zip(at_once, self.sizes, strict=True)), default=0)
        hidden = self.encoded.new_empty((points, width))
        logits = self.bias.new_empty((points, vocabulary))
        for row, (steps, count) in enumerate(self.sizes):
            for first in range(0, steps, at_once[row]):
                times = slice(first, min(first + at_once[row], steps))
                size = (times.stop - first) * (count + 1)
                sums, products = hidden[:size], logits[:size]
                torch.add(
                    self.encoded[row, times].unsqueeze(1),
                    self.predicted[row, : count + 1],
                    out=sums.view(times.stop - first, count + 1, width),
                )
                sums.tanh_()
                if sums.dtype == products.dtype:
                    torch.addmm(self.bias, sums, self.weight.t(), out=products)
                else:
                    torch.add(torch.mm(sums, self.weight.t()), self.bias, out=products)
                yield row, times, sums, products


def _log_sum_over(logits: Tensor) -> Tensor:
    """log sum exp of each row (N, 1); in the place of the logits it leaves their exponentials over the greatest one."""
    top = logits.amax(1, keepdim=True)
    return top + logits.sub_(top).exp_().sum(1, keepdim=True).log()


def _checked(
    encoded: Tensor, predicted: Tensor, weight: Tensor, bias: Tensor, targets: Tensor, frames: Tensor, labels: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Targets and both lengths as int64 on the device; ValueError for what does not fit together."""
    if encoded.dim() != 3 or predicted.dim() != 3 or weight.dim() != 2 or not encoded.shape[0]:
        raise ValueError("encoded must be (B, T, J), predicted (B, U + 1, J) and weight (V, J), with at least one row")
    rows, steps, width = encoded.shape
    most = predicted.shape[1] - 1
    expected = {
        "predicted": (predicted, (rows, predicted.shape[1], width)),
        "weight": (weight, (weight.shape[0], width)),
        "bias": (bias, (weight.shape[0],)),
        "targets": (targets, (rows, most)),
        "encoded_lengths": (frames, (rows,)),
        "target_lengths": (labels, (rows,)),
    }
    for name, (value, shape) in expected.items():
        if tuple(value.shape) != shape:
            raise ValueError(f"{name} must have the shape {shape}, not {tuple(value.shape)}")
    for name, value in (("targets", targets), ("encoded_lengths", frames), ("target_lengths", labels)):
        if value.is_floating_point() or value.is_complex() or value.dtype == torch.bool:
            raise ValueError(f"{name} must be whole numbers, not {value.dtype}")
    device = encoded.device
    frames, labels = frames.to(device, torch.int64), labels.to(device, torch.int64)
    for name, value, least, greatest in (("encoded_lengths", frames, 1, steps), ("target_lengths", labels, 0, most)):
        low, high = (int(bound) for bound in value.aminmax())
        if low < least or high > greatest:
            raise ValueError(f"{name} must lie between {least} and {greatest}, not {low} to {high}")
    return targets.to(device, torch.int64), frames, labels


def _refuse_labels(targets: Tensor, labels: Tensor, vocabulary: int, blank: int) -> None:
    if not 0 <= blank < vocabulary:
        raise ValueError(f"blank must be one of the {vocabulary} labels, not {blank}")
    counted = torch.arange(targets.shape[1], device=targets.device) < labels.unsqueeze(1)
    wrong = counted & ((targets < 0) | (targets >= vocabulary) | (targets == blank))
    if wrong.any():
        row, place = wrong.nonzero()[0].tolist()
        raise ValueError(
            f"label {place} of row {row} is {int(targets[row, place])}; "
            f"a target's labels lie between 0 and {vocabulary - 1} and are not the blank, {blank}"
        )


def _reduced(losses: Tensor, labels: Tensor, reduction: Reduction) -> Tensor:
    if reduction == "none":
        return losses
    if reduction == "sum":
        return losses.sum()
    if reduction == "mean":
        return (losses / labels.clamp(min=1)).mean()
    raise ValueError(f"reduction must be none, mean or sum, not {reduction!r}")


def transducer_loss(
    encoded: Tensor,
    predicted: Tensor,
    weight: Tensor,
    bias: Tensor,
    targets: Tensor,
    encoded_lengths: Tensor,
    target_lengths: Tensor,
    blank: int = 0,
    reduction: Reduction = "mean",
) -> Tensor:
    """-log P(y | x), the sum over all alignments, in little memory (Graves 2012, equations 12 to 20).

    A row's loss does not depend on the padding or on the rows beside it, bit for bit. A row without any alignment that
    has a probability has an infinite loss and gradients of zero. Differentiable once. Under autocast the products are
    in its type; exponentials and sums are in float32 or wider.

    Args:
        encoded: e, (B, T, J); anything in the padding.
        predicted: p, (B, U + 1, J), before the first label and after each one; anything in the padding.
        weight, bias: W (V, J) and b (V,).
        targets: (B, U), whole numbers from 0 to V - 1 without the blank; anything in the padding.
        encoded_lengths: (B,), frames of each row, at least 1.
        target_lengths: (B,), labels of each row, from 0.
        blank: the label that stands for none.
        reduction: as in `torch.nn.functional.ctc_loss`: none (B,); sum; mean, the mean over rows of each loss over the
            number of its labels, where no labels count as one.

    Raises:
        ValueError: if shapes, lengths or labels do not fit together.
    """
    targets, frames, labels = _checked(encoded, predicted, weight, bias, targets, encoded_lengths, target_lengths)
    _refuse_labels(targets, labels, len(weight), blank)
    dtype = autocast_dtype(encoded) or encoded.dtype
    sizes = list(zip(frames.tolist(), labels.tolist(), strict=True))
    points = _Points.apply(encoded, predicted, weight, bias, targets, sizes, blank, dtype)
    blanks, moves = cast(tuple[Tensor, Tensor], points)
    losses = -alignments_log_probability(blanks, moves, frames, labels).to(blanks.dtype)
    return _reduced(losses, labels, reduction)


def transducer_loss_reference(
    encoded: Tensor,
    predicted: Tensor,
    weight: Tensor,
    bias: Tensor,
    targets: Tensor,
    encoded_lengths: Tensor,
    target_lengths: Tensor,
    blank: int = 0,
    reduction: Reduction = "mean",
) -> Tensor:
    """The loss of `transducer_loss` by torch's own operations, with the same arguments.

    It holds all log-probabilities and can be differentiated any number of times. It is slow: each point of each row is
    an operation (Graves 2012, equation 16).
    """
    targets, frames, labels = _checked(encoded, predicted, weight, bias, targets, encoded_lengths, target_lengths)
    _refuse_labels(targets, labels, len(weight), blank)
    losses = []
    for row, (steps, count) in enumerate(zip(frames.tolist(), labels.tolist(), strict=True)):
        hidden = torch.tanh(encoded[row, :steps].unsqueeze(1) + predicted[row, : count + 1])
        points = F.linear(hidden, weight, bias).log_softmax(-1)
        alpha: dict[tuple[int, int], Tensor] = {}
        for t in range(steps):
            for u in range(count + 1):
                ways = []
                if t:
                    ways.append(alpha[t - 1, u] + points[t - 1, u, blank])
                if u:
                    ways.append(alpha[t, u - 1] + points[t, u - 1, targets[row, u - 1]])
                alpha[t, u] = torch.logaddexp(*ways) if len(ways) == 2 else ways[0] if ways else points.new_zeros(())
        losses.append(-(alpha[steps - 1, count] + points[steps - 1, count, blank]))
    return _reduced(torch.stack(losses), labels, reduction)
