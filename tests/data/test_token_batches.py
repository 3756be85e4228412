"""Batches of pairs: every pair once an epoch, bounded, alike for a seed, and resumable."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from recurra.data.pair_corpus import ParallelCorpus
from recurra.data.token_batches import IGNORED, TokenBatches, collate, group_by_length
from recurra.errors import DataError, RunError


def corpus(count: int = 60, seed: int = 0) -> ParallelCorpus:
    """Pairs whose first source token is their number, so that they can be told apart."""
    random = np.random.default_rng(seed)
    lengths = random.integers(1, 12, (2, count))
    sides = []
    for side in (0, 1):
        rows = [np.full(n, index + 2, np.uint32) for index, n in enumerate(lengths[side])]
        starts = np.concatenate([[0], np.cumsum(lengths[side])]).astype(np.int64)
        sides += [np.concatenate(rows), starts]
    return ParallelCorpus(*sides)


def test_a_batch_holds_its_pairs_padded() -> None:
    pairs = [
        (np.array([5, 6], np.uint32), np.array([7], np.uint32)),
        (np.array([8], np.uint32), np.array([9, 3], np.uint32)),
    ]
    batch = collate(pairs, 1, 0)
    assert batch.source.t().tolist() == [[5, 6, 1], [8, 1, 1]] and batch.lengths.tolist() == [3, 2]
    assert batch.before.t().tolist() == [[0, 7, 0], [0, 9, 3]]
    assert batch.target.t().tolist() == [[7, 0, IGNORED], [9, 3, 0]]
    assert batch.tokens == 5 and batch.rate_scale == 1.0


@pytest.mark.parametrize("batch_tokens", [1, 12, 40, 10_000])
def test_every_pair_comes_once_an_epoch_within_the_bound(batch_tokens: int) -> None:
    data = corpus()
    batches = TokenBatches(data, batch_tokens, 0, 1, seed=3)
    orders = []
    for epoch in range(2):
        steps = batches.steps_in_epoch()
        found = list(batches.epoch(epoch))
        assert len(found) == steps
        numbers = [int(number) for batch in found for number in batch.source[0]]
        assert sorted(numbers) == list(range(2, 62))
        orders.append(numbers)
        for batch in found:
            longest = max(batch.source.shape[0], batch.target.shape[0])
            assert longest * batch.source.shape[1] <= batch_tokens or batch.source.shape[1] == 1
    assert batches.epoch_number == 2
    if batch_tokens > 1:
        assert orders[0] != orders[1]
    padding = sum(int((batch.target == IGNORED).sum()) for batch in TokenBatches(data, 40, 0, 1).epoch(0))
    assert padding < 0.5 * len(data.target)


def test_processes_share_batches_of_equal_number() -> None:
    alone = [batch.source[0].tolist() for batch in TokenBatches(corpus(), 30, 0, 1, seed=1).epoch(0)]
    ranks = [TokenBatches(corpus(), 30, 0, 1, seed=1, rank=rank, world_size=3) for rank in range(3)]
    parts = [[batch.source[0].tolist() for batch in each.epoch(0)] for each in ranks]
    assert len({len(part) for part in parts}) == 1 == len({each.steps_in_epoch() for each in ranks})
    together = [batch for step in zip(*parts, strict=True) for batch in step]
    assert together == alone[: len(together)] and len(alone) - len(together) < 3
    with pytest.raises(DataError, match="fewer batches than the 9 processes"):
        TokenBatches(corpus(4), 1000, 0, 1, world_size=9)


def test_a_saved_place_is_gone_on_from() -> None:
    whole = TokenBatches(corpus(), 30, 0, 1, seed=2)
    expected = [batch for epoch in range(2) for batch in whole.epoch(epoch)]
    first = TokenBatches(corpus(), 30, 0, 1, seed=2)
    steps = iter(first.epoch(0))
    before = [next(steps) for _ in range(4)]
    later = TokenBatches(corpus(), 30, 0, 1, seed=2)
    later.load_state_dict(first.state_dict())
    rest = [batch for epoch in range(2) for batch in later.epoch(epoch)]
    assert len(before) + len(rest) == len(expected)
    for one, other in zip([*before, *rest], expected, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one[:4], other[:4], strict=True)) and one.tokens == other.tokens
    for other in (TokenBatches(corpus(50), 30, 0, 1, seed=2), TokenBatches(corpus(), 31, 0, 1, seed=2)):
        with pytest.raises(RunError, match="resume with the data"):
            other.load_state_dict(first.state_dict())


def test_groups_are_cut_where_they_would_grow_too_large() -> None:
    lengths = np.array([2, 2, 3, 3, 9, 20])
    groups = group_by_length(np.arange(6), lengths, 9)
    assert [group.tolist() for group in groups] == [[0, 1, 2], [3], [4], [5]]
    assert group_by_length(np.arange(0), lengths, 9) == []
