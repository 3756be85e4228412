"""The length of a memory, read off curves that are known."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from recurra.analysis.log_norms import FLOAT32_NOTHING, averaged, log_norm, log_spectral_norm
from recurra.analysis.memory import memory_length


def test_an_exponential_has_its_time_constant() -> None:
    found = memory_length(-np.arange(101) / 10.0)
    assert found.to_e == 11  # ten steps after lag 1
    assert found.to_hundredth == 1 + math.ceil(10 * math.log(100))
    assert found.steps_per_factor_10 == pytest.approx(10 * math.log(10))
    assert found.looked_at == 100


def test_a_memory_beyond_the_lags_is_said_to_be_so() -> None:
    found = memory_length(-np.arange(11) / 100.0)
    assert (found.to_e, found.to_hundredth, found.looked_at) == (None, None, 10)
    assert found.steps_per_factor_10 == pytest.approx(100 * math.log(10))


def test_a_growing_curve_and_a_level_one() -> None:
    growing = memory_length(np.arange(11) * 0.5)
    assert growing.steps_per_factor_10 == pytest.approx(-2 * math.log(10))
    assert (growing.to_e, memory_length(np.zeros(11)).steps_per_factor_10) == (None, None)


def test_a_curve_that_rises_again_is_not_cut_short() -> None:
    logs = np.array([0.0, 0.0, -9.0, -9.0, 0.0, -9.0, -9.0])
    assert (memory_length(logs).to_e, memory_length(logs).to_hundredth) == (5, 5)


def test_exact_zeros_and_unknown_lags() -> None:
    logs = np.array([0.0, -1.0, -2.0, -np.inf, -np.inf, np.nan])
    found = memory_length(logs)
    assert (found.to_e, found.to_hundredth, found.looked_at) == (2, 3, 4)
    assert found.steps_per_factor_10 == pytest.approx(math.log(10))
    assert memory_length(np.array([0.0, -np.inf])).to_e == 1
    assert memory_length(np.array([0.0])).to_e is None


def test_norms_of_tiny_and_huge_numbers() -> None:
    tiny = torch.full((2, 4), 1e-300, dtype=torch.float64)
    assert log_norm(tiny)[0].item() == pytest.approx(-300 * math.log(10) + math.log(2))
    assert log_norm(tiny * 0)[0].item() == -math.inf
    assert log_spectral_norm(tiny).item() == pytest.approx(-300 * math.log(10) + math.log(8) / 2)
    assert log_norm(torch.full((2, 4), 1e300, dtype=torch.float64), (0, 1)).item() == pytest.approx(
        300 * math.log(10) + math.log(8) / 2
    )
    just_below = torch.tensor(math.exp(FLOAT32_NOTHING) * 0.99, dtype=torch.float64)
    assert just_below.float() == 0 and (just_below * 1.1).float() > 0


def test_means_are_geometric_and_zeros_are_not_averaged_away() -> None:
    logs = np.array([[0.0, 2.0, 4.0], [1.0, np.nan, 3.0], [0.0, -np.inf, 1.0], [np.nan] * 3])
    found = averaged(logs)
    np.testing.assert_allclose(found.log_mean, [2.0, 2.0, -np.inf, np.nan])
    np.testing.assert_allclose(found.log_spread, [2.0, math.sqrt(2), np.nan, np.nan])
    np.testing.assert_allclose(found.log_median, [2.0, 2.0, 0.0, np.nan])
