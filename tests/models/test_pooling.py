"""Pooling against what is written down step by step, and what padding must not change."""

from __future__ import annotations

from typing import get_args

import pytest
import torch

from recurra.models.pooling import Pooling, PoolingKind

KINDS = get_args(PoolingKind)


def outputs(lengths: list[int], size: int = 6, steps: int | None = None) -> torch.Tensor:
    table = torch.randn(steps or max(lengths), len(lengths), size, generator=torch.Generator().manual_seed(3))
    for row, length in enumerate(lengths):
        table[length:, row] = 0
    return table


def by_hand(kind: str, rows: torch.Tensor, bidirectional: bool) -> torch.Tensor:
    """Of one sequence (T, M) without padding."""
    half = rows.shape[1] // 2
    made = {
        "last": torch.cat([rows[-1, :half], rows[0, half:]]) if bidirectional else rows[-1],
        "mean": rows.mean(0),
        "max": rows.max(0).values,
    }
    return torch.cat([made[part] for part in kind.split("-")])


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "attention"])
def test_it_is_what_is_written_down(kind: PoolingKind, bidirectional: bool) -> None:
    lengths = [5, 1, 3]
    table = outputs(lengths)
    pooling = Pooling(kind, 6, bidirectional=bidirectional)
    found = pooling(table, torch.tensor(lengths))
    assert found.shape == (3, pooling.size)
    for row, length in enumerate(lengths):
        torch.testing.assert_close(found[row], by_hand(kind, table[:length, row], bidirectional))


def test_attention_is_a_weighted_mean_for_each_head() -> None:
    torch.manual_seed(1)
    lengths = [4, 2]
    table = outputs(lengths)
    pooling = Pooling("attention", 6, attention_size=5, attention_heads=3)
    found = pooling(table, torch.tensor(lengths))
    assert found.shape == (2, 18) and pooling.inner is not None and pooling.heads is not None
    for row, length in enumerate(lengths):
        steps = table[:length, row]
        weights = (torch.tanh(steps @ pooling.inner.weight.T) @ pooling.heads.weight.T).softmax(0)
        torch.testing.assert_close(found[row], (weights.T @ steps).flatten())


@pytest.mark.parametrize("kind", KINDS)
def test_padding_changes_nothing(kind: PoolingKind) -> None:
    torch.manual_seed(1)
    lengths = torch.tensor([4, 2])
    pooling = Pooling(kind, 6, bidirectional=True)
    long, short = outputs([4, 2], steps=9), outputs([4, 2])
    # Random numbers come row by row of steps, so the first steps are the same.
    assert torch.equal(long[:4], short)
    torch.testing.assert_close(pooling(long, lengths), pooling(short, lengths), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("kind", KINDS)
def test_its_gradient_is_right_and_nothing_comes_from_padding(kind: PoolingKind) -> None:
    torch.manual_seed(1)
    lengths = torch.tensor([3, 1])
    table = outputs([3, 1]).double().requires_grad_()
    pooling = Pooling(kind, 6, bidirectional=True, attention_size=4).double()
    assert torch.autograd.gradcheck(lambda rows: pooling(rows, lengths)[0], (table,))
    (slope,) = torch.autograd.grad(pooling(table, lengths)[1].square().sum(), table)
    if "mean" not in kind:  # the sum of the steps takes the zeros of the padding along
        assert slope[1:, 1].abs().max() == 0
    assert slope[0, 1].abs().max() > 0
