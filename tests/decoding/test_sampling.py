"""Sampling against computations in plain NumPy, and properties that hold for any logits."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from recurra.decoding.sampling import (
    SamplingOptions,
    apply_temperature,
    filter_logits,
    keep_min_p,
    keep_top_k,
    keep_top_p,
    penalize_repetition,
    sample,
    sample_generators,
)
from recurra.errors import ConfigError

LOGITS = npst.arrays(
    np.float64,
    st.tuples(st.integers(1, 4), st.integers(1, 12)),
    elements=st.floats(-8, 8, allow_nan=False, width=32),
)


def probabilities(logits: np.ndarray) -> np.ndarray:
    """Softmax of one row, in extended precision where there is any."""
    weights = np.exp(logits.astype(np.longdouble) - logits.max())
    return (weights / weights.sum()).astype(np.float64)


def kept(logits: torch.Tensor) -> np.ndarray:
    return torch.isfinite(logits).numpy()


@given(LOGITS, st.integers(1, 14))
def test_top_k_keeps_what_fewer_than_k_tokens_beat(logits: np.ndarray, k: int) -> None:
    expected = np.array([[(row > value).sum() < k for value in row] for row in logits])
    assert (kept(keep_top_k(torch.from_numpy(logits), k)) == expected).all()


@given(LOGITS, st.floats(0.01, 1.0))
def test_top_p_keeps_the_smallest_likeliest_set(logits: np.ndarray, p: float) -> None:
    result = kept(keep_top_p(torch.from_numpy(logits), p))
    for row, keep in zip(logits, result, strict=True):
        probability = probabilities(row)
        order = sorted(range(len(row)), key=lambda i: (-row[i], i))
        chosen = [i for i in order if keep[i]]
        assert chosen == order[: len(chosen)], "what is kept must be a prefix of the ranking"
        total = math.fsum(probability[chosen])
        assert total >= p - 1e-12, "the nucleus must hold p"
        # Without its last member the set must not reach p already (1e-12: the rounding of a sum of doubles).
        assert len(chosen) == 1 or p == 1.0 or total - probability[chosen[-1]] < p + 1e-12


@given(LOGITS, st.floats(0.0, 1.0))
def test_min_p_compares_with_the_likeliest(logits: np.ndarray, p: float) -> None:
    result = kept(keep_min_p(torch.from_numpy(logits), p))
    for row, keep in zip(logits, result, strict=True):
        probability = probabilities(row)
        ratio = probability / probability.max()
        clear = np.abs(ratio - p) > 1e-9
        assert (keep[clear] == (ratio >= p)[clear]).all()
        assert keep[row.argmax()]


@given(LOGITS, st.floats(1.0, 3.0), st.data())
def test_repetition_penalty_is_that_of_the_paper(logits: np.ndarray, penalty: float, data: st.DataObject) -> None:
    seen = data.draw(npst.arrays(np.bool_, logits.shape))
    result = penalize_repetition(torch.from_numpy(logits), torch.from_numpy(seen), penalty).numpy()
    expected = logits.copy()
    for index in np.ndindex(*logits.shape):
        if seen[index]:
            expected[index] = logits[index] / penalty if logits[index] > 0 else logits[index] * penalty
    np.testing.assert_array_equal(result, expected)
    assert (result[seen] <= logits[seen]).all(), "a seen token never becomes likelier"


@given(LOGITS, st.floats(0.05, 20.0))
def test_temperature_is_a_power_of_the_probabilities(logits: np.ndarray, temperature: float) -> None:
    result = apply_temperature(torch.from_numpy(logits), temperature).softmax(-1).numpy()
    for row, got in zip(logits, result, strict=True):
        powered = probabilities(row) ** (1 / temperature)
        np.testing.assert_allclose(got, powered / powered.sum(), rtol=1e-9, atol=1e-12)


@given(LOGITS)
def test_temperature_zero_is_greedy(logits: np.ndarray) -> None:
    options = SamplingOptions(temperature=0.0)
    drawn = sample(torch.from_numpy(logits), sample_generators(3, len(logits)), options)
    assert drawn.tolist() == [int(row.argmax()) for row in logits]


def test_a_tiny_temperature_does_not_overflow() -> None:
    logits = torch.tensor([[1.0, 3.0, 2.0]])
    assert sample(logits, sample_generators(0, 1), SamplingOptions(temperature=1e-40)).tolist() == [1]


@given(LOGITS, st.integers(0, 2**32))
def test_a_filtered_token_is_never_drawn_and_one_dimension_is_a_row(logits: np.ndarray, seed: int) -> None:
    options = SamplingOptions(temperature=0.7, top_k=3, top_p=0.8, min_p=0.2)
    tensor = torch.from_numpy(logits)
    filtered = filter_logits(tensor, options)
    drawn = sample(tensor, sample_generators(seed, len(logits)), options)
    assert torch.isfinite(filtered.gather(1, drawn[:, None])).all()
    for row, expected in zip(tensor, filtered, strict=True):
        assert torch.equal(filter_logits(row, options), expected)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_draws_follow_the_distribution(dtype: torch.dtype) -> None:
    logits = torch.tensor([2.0, 0.0, 1.0, -3.0], dtype=dtype)
    options = SamplingOptions(temperature=1.5, top_k=3)
    draws = 20_000
    drawn = sample(logits.expand(draws, 4), sample_generators(11, draws), options)
    counts = np.bincount(drawn.numpy(), minlength=4)
    expected = probabilities(np.array([2.0, 0.0, 1.0]) / 1.5)
    # Five standard deviations of a binomial count: a right sampler fails for one seed in a million.
    bound = 5 * np.sqrt(draws * expected * (1 - expected))
    assert counts[3] == 0
    assert (np.abs(counts[:3] - draws * expected) < bound).all()


@given(st.integers(0, 2**63), st.integers(1, 5), st.integers(1, 5))
@settings(max_examples=30)
def test_sample_i_of_n_does_not_depend_on_n(seed: int, n: int, more: int) -> None:
    logits = torch.zeros(50)

    def draw(count: int) -> list[list[int]]:
        generators = sample_generators(seed, count)
        return [sample(logits.expand(count, 50), generators, SamplingOptions()).tolist() for _ in range(4)]

    assert [step[:n] for step in draw(n + more)] == draw(n)


def test_seeds_and_rows_differ() -> None:
    logits = torch.zeros(6, 1000)
    first = sample(logits, sample_generators(0, 6), SamplingOptions()).tolist()
    second = sample(logits, sample_generators(1, 6), SamplingOptions()).tolist()
    assert len(set(first)) == 6
    assert len(set(second)) == 6
    assert first != second


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"temperature": -0.1}, "temperature"),
        ({"temperature": math.nan}, "temperature"),
        ({"temperature": math.inf}, "temperature"),
        ({"top_k": 0}, "top_k"),
        ({"top_p": 0.0}, "top_p"),
        ({"top_p": 1.1}, "top_p"),
        ({"min_p": -0.1}, "min_p"),
        ({"min_p": math.nan}, "min_p"),
        ({"repetition_penalty": 0.0}, "repetition_penalty"),
    ],
)
def test_options_out_of_range_are_refused(values: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        SamplingOptions(**values)  # type: ignore[arg-type]


def test_generators_must_match_rows() -> None:
    with pytest.raises(ConfigError, match="one generator a row"):
        sample(torch.zeros(2, 3), sample_generators(0, 1), SamplingOptions())
