"""Batches: every token a target once, contiguous streams, exact resumption, and the lengths of AWD-LSTM."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recurra.data.batching import StreamBatches
from recurra.errors import DataError, RunError

sizes = st.tuples(st.integers(1, 4), st.integers(1, 9), st.integers(1, 3), st.integers(0, 50), st.booleans())


@settings(max_examples=100)
@given(sizes)
def test_an_epoch_covers_the_text_in_contiguous_streams(case):
    batch_size, sequence_length, world_size, more, vary = case
    streams = batch_size * world_size
    tokens = np.arange(streams * sequence_length + 1 + more, dtype=np.uint16)
    length = (len(tokens) - 1) // streams
    inputs, targets = [], []
    for rank in range(world_size):
        batches = StreamBatches(
            tokens, batch_size, sequence_length, vary=vary, seed=3, rank=rank, world_size=world_size
        )
        steps = batches.steps_per_epoch
        got = list(batches.epoch(0))
        assert len(got) == steps
        assert [b.starts_epoch for b in got] == [True] + [False] * (steps - 1)
        for batch in got:
            assert batch.input.dtype == batch.target.dtype == torch.int64
            assert batch.input.shape == batch.target.shape and batch.input.shape[1] == batch_size
            assert batch.input.is_contiguous() and batch.target.is_contiguous()
        if not vary:
            assert all(len(b.input) == sequence_length for b in got[:-1])
        inputs.append(torch.cat([b.input for b in got]))
        targets.append(torch.cat([b.target for b in got]))
    seen = torch.cat(inputs, 1)
    np.testing.assert_array_equal(seen.numpy(), np.arange(streams * length).reshape(streams, length).T)
    np.testing.assert_array_equal(torch.cat(targets, 1).numpy(), seen.numpy() + 1)
    assert len(tokens) - 1 - streams * length < streams


@pytest.mark.parametrize("vary", [False, True])
@pytest.mark.parametrize("consumed", [0, 1, 7, 20, 41])
def test_a_place_is_resumed_exactly(vary, consumed):
    tokens = np.random.default_rng(0).integers(0, 99, 2000).astype(np.uint32)
    first = StreamBatches(tokens, 4, 25, vary=vary, seed=5)
    list(itertools.islice(first, consumed))
    state = first.state_dict()
    assert all(type(value) is int for value in state.values())
    second = StreamBatches(tokens, 4, 25, vary=vary, seed=5)
    second.load_state_dict(state)
    for left, right in itertools.islice(zip(first, second, strict=True), 60):
        assert torch.equal(left.input, right.input) and torch.equal(left.target, right.target)
        assert left.starts_epoch == right.starts_epoch
    assert first.state_dict() == second.state_dict() and first.length_ratio == second.length_ratio


def test_the_rest_of_an_epoch_and_another_epoch():
    batches = StreamBatches(np.arange(101), 2, 10)
    assert batches.steps_per_epoch == 5 and batches.tokens_per_epoch == 100
    batches.next_batch()
    rest = list(batches.epoch(0))
    assert len(rest) == 4 and not any(b.starts_epoch for b in rest)
    assert batches.epoch_number == 1
    assert len(list(batches.epoch(3))) == 5 and batches.epoch_number == 4


def test_another_run_is_not_resumed():
    state = StreamBatches(np.arange(500), 4, 10).state_dict()
    for other, name in (
        (StreamBatches(np.arange(600), 4, 10), "stream_length 124"),
        (StreamBatches(np.arange(500), 5, 10), "streams 4"),
        (StreamBatches(np.arange(500), 4, 11), "sequence_length 10"),
        (StreamBatches(np.arange(500), 4, 10, seed=1), "seed 0"),
        (StreamBatches(np.arange(500), 4, 10, vary=True), "vary 0"),
    ):
        with pytest.raises(RunError, match=name):
            other.load_state_dict(state)
    with pytest.raises(RunError, match="damaged"):
        StreamBatches(np.arange(500), 4, 10).load_state_dict({"epoch": 1})


def test_drawn_lengths_follow_the_paper():
    batches = StreamBatches(np.zeros(400_001, np.uint16), 1, 70, vary=True, seed=1)
    lengths, ratios = [], []
    for batch in batches.epoch(0):
        lengths.append(len(batch.input))
        ratios.append(batches.length_ratio)
    np.testing.assert_allclose(np.array(ratios) * 70, lengths)
    drawn = np.array(lengths[:-1])
    long = drawn[drawn > 52]
    # int() cuts off half a token on average.
    assert abs(long.mean() - 69.5) < 0.5 and abs(long.std() - 5) < 0.4
    assert abs((drawn <= 52).mean() - 0.05) < 0.012
    assert abs(drawn[drawn <= 52].mean() - 34.5) < 1
    assert drawn.min() >= 5 and drawn.max() <= 90
    short = StreamBatches(np.zeros(2001, np.uint16), 1, 5, vary=True)
    assert min(len(b.input) for b in list(short.epoch(0))[:-1]) == 5
    other_epoch = [len(b.input) for b in batches.epoch(1)]
    assert other_epoch[:20] != lengths[:20]


def test_ranks_draw_the_same_lengths():
    ranks = [StreamBatches(np.arange(9001), 2, 30, vary=True, seed=2, rank=r, world_size=2) for r in range(2)]
    assert len({tuple(len(b.input) for b in rank.epoch(0)) for rank in ranks}) == 1


@pytest.mark.parametrize(
    ("tokens", "advice"),
    [
        (320, "give more text or set training.batch_size to at most 31."),
        (8, "give more text or set training.batch_size to 1 and training.sequence_length to at most 7."),
        (0, "give more text."),
    ],
)
def test_a_text_shorter_than_a_batch_is_refused(tokens, advice):
    with pytest.raises(DataError, match=rf"^The training text has {tokens} tokens, .* needs 321; {advice}$"):
        StreamBatches(np.zeros(tokens), 32, 10)
    assert StreamBatches(np.zeros(321), 32, 10).steps_per_epoch == 1
    assert StreamBatches(np.zeros(320), 31, 10).steps_per_epoch == 1
