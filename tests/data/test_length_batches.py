"""Batches of like lengths: cut where they would grow too large, in the orders of before, in little memory."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recurra.data.length_batches import LengthBatches, cut_points, group_by_length
from recurra.errors import DataError, RunError

Order = npt.NDArray[np.int64]


def cut_one_by_one(order: Order, lengths: Order, bound: int) -> list[list[int]]:
    """Each example joins the batch before it, unless that would then be too large."""
    batches: list[list[int]] = []
    for index in order.tolist():
        if batches and max(lengths[[*batches[-1], index]]) * (len(batches[-1]) + 1) <= bound:
            batches[-1].append(index)
        else:
            batches.append([index])
    return batches


def drawn_as_lists(lengths: Order, then_by: Order, bound: int, seed: int, epoch: int) -> list[list[int]]:
    """An epoch's batches, each an array of its own, sorted by the lesser key first."""
    random = np.random.default_rng((seed, epoch))
    order = random.permutation(len(lengths))
    order = order[np.argsort(then_by[order], kind="stable")]
    order = order[np.argsort(lengths[order], kind="stable")]
    batches = cut_one_by_one(order, lengths, bound)
    return [batches[index] for index in random.permutation(len(batches))]


@given(st.lists(st.integers(1, 30), max_size=60), st.integers(1, 100), st.booleans())
def test_batches_are_cut_where_one_more_would_be_too_many(numbers: list[int], bound: int, in_order: bool) -> None:
    lengths = np.array(sorted(numbers) if in_order else numbers, np.int64)
    order = np.arange(len(lengths))
    assert [group.tolist() for group in group_by_length(order, lengths, bound)] == cut_one_by_one(order, lengths, bound)


@settings(max_examples=60)
@given(
    st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), min_size=1, max_size=80),
    st.integers(1, 60),
    st.integers(0, 3),
)
def test_every_epoch_has_the_batches_that_lists_would_have(
    numbers: list[tuple[int, int]], bound: int, seed: int
) -> None:
    targets = np.array([target for _, target in numbers], np.int64)
    lengths = np.maximum(targets, [source for source, _ in numbers])
    batches = LengthBatches(lengths, np.ndarray.tolist, bound, then_by=targets, seed=seed)
    for epoch in range(3):
        assert list(batches.epoch(epoch)) == drawn_as_lists(lengths, targets, bound, seed, epoch)
    assert batches.epoch_number == 3


def test_examples_of_equal_lengths_stay_in_random_order() -> None:
    batches = LengthBatches(np.full(100, 5), np.ndarray.tolist, 500)
    first, second = next(batches.epoch(0)), next(batches.epoch(1))
    assert sorted(first) == sorted(second) == list(range(100)) and len({*map(tuple, (first, second, range(100)))}) == 3


def test_ranks_share_and_places_are_gone_on_from_at_any_step() -> None:
    lengths = np.random.default_rng(0).integers(1, 20, 200)
    alone = list(LengthBatches(lengths, tuple, 40).epoch(0))
    ranks = [LengthBatches(lengths, tuple, 40, rank=rank, world_size=2) for rank in range(2)]
    parts = [list(each.epoch(0)) for each in ranks]
    assert [batch for step in zip(*parts, strict=True) for batch in step] == alone[: len(alone) // 2 * 2]
    whole = LengthBatches(lengths, tuple, 40)
    expected = [batch for epoch in range(2) for batch in whole.epoch(epoch)]
    for steps in (0, 1, len(alone) - 1, len(alone), len(alone) + 3):
        first = LengthBatches(lengths, tuple, 40)
        before = []
        while len(before) < steps:
            before.append(next(first.epoch(first.epoch_number)))
        later = LengthBatches(lengths, tuple, 40)
        later.load_state_dict(first.state_dict())
        rest = [batch for epoch in range(later.epoch_number, 2) for batch in later.epoch(epoch)]
        assert before + rest == expected


def test_a_place_of_an_older_checkpoint_is_read() -> None:
    batches = LengthBatches(np.ones(60, np.int64), tuple, 10, seed=2)
    batches.load_state_dict({"epoch": 4, "step": 3, "pairs": 60, "batch_tokens": 10, "seed": 2})
    assert batches.epoch_number == 4 and len(list(batches.epoch(4))) == 3
    for wrong in ({"pairs": 61}, {"batch_tokens": 9}, {"seed": 0}):
        with pytest.raises(RunError, match=r"The saved place in the examples belongs to a run with .* resume with"):
            batches.load_state_dict({**batches.state_dict(), **wrong})
    with pytest.raises(DataError, match="The 3 training examples make fewer batches than the 2 processes"):
        LengthBatches(np.ones(3, np.int64), tuple, 10, world_size=2)


def test_no_examples_have_no_cuts() -> None:
    assert cut_points(np.empty(0, np.int64), 5).tolist() == []
