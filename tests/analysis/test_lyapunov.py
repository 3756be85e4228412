"""Lyapunov exponents with known answers."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

import recurra
from recurra.analysis.layer_steps import steps_of
from recurra.analysis.lyapunov import lyapunov_exponents
from recurra.analysis.untrained import noise, untrained_layer
from recurra.errors import ConfigError

from .known_layers import a_layer, linear_steps


def test_a_linear_layer_has_the_logarithms_of_its_eigenvalues() -> None:
    generator = torch.Generator().manual_seed(5)
    basis = torch.randn(4, 4, dtype=torch.float64, generator=generator)
    sizes = torch.tensor([1.2, 0.9, -0.5, 0.1], dtype=torch.float64)
    steps = linear_steps(basis @ torch.diag(sizes) @ torch.linalg.inv(basis), 600, batch=2)
    found = lyapunov_exponents(steps, 4, warm_up=100)
    assert found.steps == 500
    for row in range(2):
        np.testing.assert_allclose(found.exponents[:, row], np.log(np.abs(sizes.numpy())), atol=1e-9)


def test_complex_eigenvalues_give_their_size_twice() -> None:
    turning = 0.7 * torch.tensor([[math.cos(1), -math.sin(1)], [math.sin(1), math.cos(1)]], dtype=torch.float64)
    found = lyapunov_exponents(linear_steps(turning, 300), 2)
    np.testing.assert_allclose(found.exponents[:, 0], math.log(0.7), atol=1e-9)


@pytest.mark.parametrize("cell", recurra.cells.names())
def test_the_sum_of_all_exponents_is_the_volume_of_the_product_of_jacobians(cell: str) -> None:
    # |det(J_T ... J_1)| = product of all |R_ii|, whatever the first tangent vectors were. A cell that keeps less than
    # its whole state, such as an LSTM whose h goes nowhere but into products, has no volume left only if J is singular.
    steps = steps_of(a_layer(cell, units=3), noise(4, 1, 2))
    product = torch.eye(sum(steps.widths), dtype=torch.float64)
    for _, jacobian in steps.jacobians():
        product = product @ jacobian[0]
    found = lyapunov_exponents(steps, sum(steps.widths), warm_up=0)
    if float(torch.linalg.matrix_norm(product)) == 0 or torch.linalg.matrix_rank(product) < len(product):
        assert found.exponents.min() < -5
    else:
        assert found.exponents.sum() * 4 == pytest.approx(float(torch.linalg.slogdet(product)[1]), rel=1e-6)


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn_tanh", "lstm_peephole"])
def test_one_tangent_vector_grows_as_the_product_of_jacobians_says(cell: str) -> None:
    # h and c together: the Jacobian is that of the whole state, and later factors stand on the left.
    steps = steps_of(a_layer(cell, units=3), noise(5, 1, 2))
    first = torch.randn(1, sum(steps.widths), 1, dtype=torch.float64, generator=torch.Generator().manual_seed(7))
    vector = torch.linalg.qr(first)[0][0]
    product = torch.eye(sum(steps.widths), dtype=torch.float64)
    for _, jacobian in sorted(steps.jacobians()):
        product = jacobian[0] @ product
    found = lyapunov_exponents(steps, 1, warm_up=0, seed=7)
    assert found.exponents[0, 0] * 5 == pytest.approx(math.log(float((product @ vector).norm())), rel=1e-9)


def test_a_contracting_layer_is_below_zero_and_a_wild_one_above() -> None:
    x = noise(400, 2) * 0.0
    calm = lyapunov_exponents(steps_of(untrained_layer("rnn_tanh", 64, scale=0.8, kind="gaussian"), x), 3)
    assert (calm.exponents < 0).all()
    wild = lyapunov_exponents(steps_of(untrained_layer("rnn_tanh", 64, scale=3.0, kind="gaussian"), x), 3)
    assert (wild.exponents[0] > 0).all()
    assert (np.diff(wild.exponents, axis=0) <= 0).all()


def test_a_memory_that_nothing_changes_has_the_exponent_zero() -> None:
    # An open forget gate carries c on as it is: an exponent of h alone would miss it.
    layer = recurra.LSTM(1, 4, dtype=torch.float64)
    with torch.no_grad():
        layer.weight_hh_l0.zero_()
        layer.bias_ih_l0[4:8] = 50.0
    found = lyapunov_exponents(steps_of(layer, noise(200, 1)), 4)
    # How much of a change of c is seen in h goes up and down, by a bounded factor over all steps.
    np.testing.assert_allclose(found.exponents, 0.0, atol=1e-3)


def test_the_warm_up_is_orthonormalised_too() -> None:
    # Without it the product of a thousand steps of 0.1 is zero in float64.
    found = lyapunov_exponents(linear_steps(0.1 * torch.eye(2, dtype=torch.float64), 1010), 2, warm_up=1000)
    np.testing.assert_allclose(found.exponents, math.log(0.1), atol=1e-9)


@pytest.mark.parametrize(
    ("count", "warm_up", "said"),
    [(0, None, "has from 1 to 5, not 0"), (6, None, "has from 1 to 5, not 6"), (1, 3, "below the 3 steps, not 3")],
)
def test_what_cannot_be_asked_is_refused(count: int, warm_up: int | None, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        lyapunov_exponents(steps_of(a_layer("gru"), noise(3, 1, 2)), count, warm_up=warm_up)
