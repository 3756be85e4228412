"""Features normalised by utterance, by given statistics and in streams."""

from __future__ import annotations

import json

import numpy as np
import pytest

from recurra.data.feature_statistics import FeatureStatistics, OnlineNormaliser, by_author, normalised
from recurra.errors import RunError

RANDOM = np.random.default_rng(0)
FRAMES = (RANDOM.standard_normal((50, 4)) * [1, 2, 3, 0] + [5, -5, 100, 7]).astype(np.float32)


def test_an_utterance_is_normalised_by_itself() -> None:
    found = normalised(FRAMES)
    np.testing.assert_allclose(found[:, :3], (FRAMES - FRAMES.mean(0))[:, :3] / FRAMES.std(0)[:3], rtol=1e-3, atol=1e-4)
    assert not found[:, 3].any()
    assert not normalised(FRAMES[:1]).any()
    assert normalised(FRAMES[:0]).shape == (0, 4)
    np.testing.assert_allclose(normalised(FRAMES, variance=False).std(0), FRAMES.std(0), rtol=1e-4)


def test_statistics_add_up_and_are_kept() -> None:
    found = FeatureStatistics.of(FRAMES[:20])
    found.add(FRAMES[20:])
    np.testing.assert_allclose(found.mean, FRAMES.astype(np.float64).mean(0))
    np.testing.assert_allclose(found.deviation[:3], FRAMES.astype(np.float64).std(0)[:3])
    kept = FeatureStatistics.from_state(json.loads(json.dumps(found.state())), 4, "x.json")
    assert np.array_equal(normalised(FRAMES, kept), normalised(FRAMES, found))
    # Each frame by itself, as a stream has them.
    alone = [normalised(frame[None], found) for frame in FRAMES]
    assert np.concatenate(alone).tobytes() == normalised(FRAMES, found).tobytes()
    with pytest.raises(ValueError, match="finite"):
        found.add([[np.nan] * 4])
    with pytest.raises(ValueError, match="3 features"):
        found.add(np.zeros((1, 3)))


def test_each_author_has_statistics_of_their_own() -> None:
    found = by_author([("ann", FRAMES[:10]), ("bob", FRAMES[10:30]), ("ann", FRAMES[30:])])
    assert list(found) == ["ann", "bob"]
    np.testing.assert_allclose(found["ann"].mean, np.concatenate([FRAMES[:10], FRAMES[30:]]).mean(0), rtol=1e-5)
    assert found["bob"].frames == 20


@pytest.mark.parametrize(
    "state",
    [
        None,
        {},
        {"frames": 0, "sums": [0] * 4, "squares": [0] * 4},
        {"frames": 1, "sums": [0] * 3, "squares": [0] * 4},
        {"frames": 1, "sums": [float("nan")] * 4, "squares": [0] * 4},
        {"frames": "1", "sums": [0] * 4, "squares": [0] * 4},
        {"frames": 1, "sums": "abcd", "squares": [0] * 4},
    ],
)
def test_damaged_statistics_are_refused(state: object) -> None:
    with pytest.raises(RunError, match=r"x\.json: there are no statistics of 4 features"):
        FeatureStatistics.from_state(state, 4, "x.json")


def test_a_stream_is_normalised_by_its_last_frames_and_the_training_data() -> None:
    training = FeatureStatistics.of(RANDOM.standard_normal((100, 4)) + 3)
    found = OnlineNormaliser(training, window=10, prior=6).accept(FRAMES)
    wide = FRAMES.astype(np.float64)
    for place in range(len(wide)):
        last = wide[max(0, place - 9) : place + 1]
        prior = min(6, 10 - len(last))
        weight = len(last) + prior
        mean = (last.sum(0) + prior * training.sums / 100) / weight
        square = ((last**2).sum(0) + prior * training.squares / 100) / weight
        variance = square - mean**2
        deviation = np.sqrt(np.where(variance > 1e-9, variance, 1))
        np.testing.assert_allclose(found[place, :3], ((wide[place] - mean) / deviation)[:3], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("size", [1, 3, 10, 11, 49])
def test_pieces_of_a_stream_give_the_same_bits(size: int) -> None:
    training = FeatureStatistics.of(FRAMES + 1)
    whole = OnlineNormaliser(training, window=10, prior=4).accept(FRAMES)
    stream = OnlineNormaliser(training, window=10, prior=4)
    parts = [stream.accept(FRAMES[start : start + size]) for start in range(0, len(FRAMES), size)]
    assert np.concatenate(parts).tobytes() == whole.tobytes()
