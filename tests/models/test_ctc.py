"""Which targets fit into their frames, against torch's loss; and the traps of that loss that the module tells of."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from recurra.models.ctc import ctc_frames_needed, rows_without_alignment


def loss(log_probs: Tensor, target: Sequence[int], *, zero_infinity: bool = False) -> Tensor:
    lengths = torch.tensor([len(log_probs)]), torch.tensor([len(target)])
    targets = torch.tensor([target], dtype=torch.int64)
    return F.ctc_loss(log_probs.unsqueeze(1), targets, *lengths, reduction="sum", zero_infinity=zero_infinity)


@pytest.mark.parametrize("size", range(5))
def test_a_target_fits_where_torchs_loss_is_finite(size: int) -> None:
    torch.manual_seed(size)
    for target in itertools.product((1, 2), repeat=size):
        for frames in range(1, 8):
            log_probs = torch.randn(frames, 3).log_softmax(-1)
            fits = ctc_frames_needed(target) <= frames
            assert math.isfinite(loss(log_probs, target).item()) == fits
            assert rows_without_alignment([[], target], [0, frames]) == ([] if fits else [1])


def test_as_many_targets_as_frames_are_needed() -> None:
    with pytest.raises(ValueError):
        rows_without_alignment([[1], [2]], [3])


def test_an_impossible_target_gives_nan_or_is_silently_skipped() -> None:
    logits = torch.randn(3, 4, requires_grad=True)
    plain = loss(logits.log_softmax(-1), [1, 1, 2])
    assert plain == math.inf and torch.autograd.grad(plain, logits)[0].isnan().any()
    silent = loss(logits.log_softmax(-1), [1, 1, 2], zero_infinity=True)
    assert silent == 0 and not torch.autograd.grad(silent, logits)[0].any()


def test_an_empty_target_is_blanks_alone() -> None:
    log_probs = torch.randn(5, 3).log_softmax(-1)
    assert loss(log_probs, []).item() == pytest.approx(-log_probs[:, 0].sum().item())


def test_the_gradient_is_right_only_behind_a_log_softmax() -> None:
    torch.manual_seed(1)
    logits = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda values: loss(values.log_softmax(-1), [1, 2]), logits)
    assert not torch.autograd.gradcheck(lambda values: loss(values, [1, 2]), logits, raise_exception=False)
