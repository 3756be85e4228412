"""Norms of the Jacobian from step to step against brute force, and far beyond what floating point holds."""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import pytest
import torch
from torch import Tensor

import recurra
from recurra.analysis import jacobians
from recurra.analysis.jacobians import jacobian_norms, looked_at
from recurra.analysis.layer_steps import LayerSteps, steps_of
from recurra.analysis.untrained import noise
from recurra.errors import ConfigError

from .known_layers import a_layer, linear_steps


def last_state(steps: LayerSteps, t: int, vector: Tensor) -> Tensor:
    for product in steps.products[t:]:
        vector = steps.step_vector(product, vector)
    return vector


@pytest.mark.parametrize("cell", recurra.cells.names())
def test_the_norms_are_those_of_the_whole_jacobian(cell: str) -> None:
    steps = steps_of(a_layer(cell), noise(5, 2, 2))
    found = jacobian_norms(steps, range(6))
    assert found.spectral_lags == (0, 1, 2, 3, 4, 5)
    for row in range(2):
        alone = LayerSteps(
            steps.cell, steps.weights, steps.input[:, row : row + 1], tuple(s[row : row + 1] for s in steps.first)
        )
        for lag in range(6):
            before = alone.vectors[5 - lag]
            whole = torch.autograd.functional.jacobian(partial(last_state, alone, 5 - lag), before)[0, :, 0]
            of_h = whole[: steps.widths[0], : steps.widths[0]]
            for matrix, frobenius, spectral in (
                (whole, found.state_frobenius, found.state_spectral),
                (of_h, found.h_frobenius, found.h_spectral),
            ):
                wanted = float(torch.linalg.matrix_norm(matrix))
                assert math.exp(frobenius[lag, row]) == pytest.approx(wanted, rel=1e-9)
                wanted = float(torch.linalg.matrix_norm(matrix, ord=2))
                assert math.exp(spectral[lag, row]) == pytest.approx(wanted, rel=1e-9)


@pytest.mark.parametrize("factor", [0.1, 10.0])
def test_norms_are_kept_where_float64_under_and_overflows(factor: float) -> None:
    # The states themselves stay zero, because there is neither input nor bias.
    steps = linear_steps(factor * torch.eye(3, dtype=torch.float64), 1000)
    silent = LayerSteps(
        steps.cell, {k: v * (k == "weight_hh") for k, v in steps.weights.items()}, steps.input, steps.first
    )
    found = jacobian_norms(silent)
    lags = np.arange(1001)
    np.testing.assert_allclose(found.h_frobenius[:, 0], math.log(factor) * lags + math.log(3) / 2, rtol=1e-12)
    np.testing.assert_allclose(found.h_spectral[:, 0], math.log(factor) * np.array(found.spectral_lags), rtol=1e-12)


def test_a_state_that_is_wiped_out_has_a_norm_of_zero_not_nan() -> None:
    nilpotent = torch.zeros(2, 2, dtype=torch.float64)
    nilpotent[0, 1] = 1.0
    found = jacobian_norms(linear_steps(nilpotent, 4), range(5)).h_spectral[:, 0]
    assert found.tolist() == [0.0, 0.0, -math.inf, -math.inf, -math.inf]


def test_lags_are_closer_where_they_are_small() -> None:
    assert looked_at(4) == [0, 1, 2, 3, 4]
    lags = looked_at(1000)
    assert lags[0] == 0 and lags[-1] == 1000 and lags == sorted(set(lags)) and len(lags) < 60


def test_a_jacobian_that_is_too_large_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jacobians, "WIDEST_STATE", 4)
    with pytest.raises(ConfigError, match="a state of 5 units has too large a Jacobian; at most 4"):
        jacobian_norms(steps_of(a_layer("gru"), noise(2, 1, 2)))
