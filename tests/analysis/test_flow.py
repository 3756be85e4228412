"""Gradients of states against finite differences, step by step autograd, and closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

import recurra
from recurra.analysis.flow import gradient_flow, random_projection
from recurra.analysis.layer_steps import LayerSteps, steps_of
from recurra.analysis.untrained import noise
from recurra.errors import ConfigError
from recurra.kernels.dispatch import run_step
from recurra.kernels.known_cells import register

from .known_layers import Linear, a_layer, linear_steps

LENGTH = 6


def squares(outputs: Tensor) -> Tensor:
    """A loss of every step."""
    return (outputs[-1].sin() + outputs.square().mean(0)).sum()


def loss_after(steps: LayerSteps, t: int, vector: Tensor) -> Tensor:
    """The loss if the state after t steps were this."""
    h = [each[..., : steps.widths[0]] for each in steps.vectors[1 : t + 1]]
    if t > 0:
        h[-1] = vector[..., : steps.widths[0]]
    for product in steps.products[t:]:
        vector = steps.step_vector(product, vector)
        h.append(vector[..., : steps.widths[0]])
    return squares(torch.stack(h))


@pytest.mark.parametrize("cell", recurra.cells.names())
def test_the_gradient_of_h_is_the_finite_difference(cell: str) -> None:
    steps = steps_of(a_layer(cell), noise(LENGTH, 1, 2))
    found = gradient_flow(steps, squares).log_norms["h"]
    width, step = steps.widths[0], 1e-5
    for t in range(LENGTH + 1):
        gradient = []
        for unit in range(width):
            change = torch.zeros_like(steps.vectors[t])
            change[:, unit] = step
            up, down = (loss_after(steps, t, steps.vectors[t] + sign * change) for sign in (1, -1))
            gradient.append(float(up - down) / (2 * step))
        assert math.exp(found[LENGTH - t, 0]) == pytest.approx(float(np.linalg.norm(gradient)), rel=1e-6)


@pytest.mark.parametrize("cell", recurra.cells.names())
def test_all_gradients_are_those_of_autograd_one_step_at_a_time(cell: str) -> None:
    layer, x = a_layer(cell), noise(LENGTH, 2, 2)
    flow = gradient_flow(steps_of(layer, x), squares)
    assert list(flow.log_norms) == list(layer.cell.states)
    weights = {name: weight.detach() for name, weight in layer.layer_weights(0)[0].items()}
    for index, name in enumerate(layer.cell.states):
        for t in range(LENGTH + 1):
            states = tuple(torch.zeros(2, 5, dtype=torch.float64, requires_grad=True) for _ in layer.cell.states)
            outputs, wanted = [], states[index] if t == 0 else None
            for number, step in enumerate(x, 1):
                states = run_step(layer.cell, register(layer.cell), step, states, weights)
                wanted = states[index] if number == t else wanted
                outputs.append(states[0])
            (gradient,) = torch.autograd.grad(squares(torch.stack(outputs)), wanted, allow_unused=True)
            norms = torch.zeros(2) if gradient is None else gradient.norm(dim=-1)
            np.testing.assert_allclose(np.exp(flow.log_norms[name][LENGTH - t]), norms.numpy(), rtol=1e-9, atol=0)


def test_c_counts_its_way_through_h_of_the_same_step() -> None:
    layer, x = a_layer("lstm"), noise(LENGTH, 1, 2)
    steps = steps_of(layer, x)
    flow = gradient_flow(steps)
    direction = torch.autograd.functional.jacobian(
        lambda h: random_projection(steps)(h[None]), torch.zeros(1, 5, dtype=torch.float64)
    )[0]
    gates = layer.weight_ih_l0 @ x[-1, 0] + layer.bias_ih_l0 + layer.weight_hh_l0 @ steps.vectors[-2, 0, :5]
    o = (gates + layer.bias_hh_l0)[15:].sigmoid().detach()
    wanted = direction * o * (1 - steps.vectors[-1, 0, 5:].tanh().square())
    assert math.exp(flow.log_norms["c"][0, 0]) == pytest.approx(float(wanted.norm()), rel=1e-12)
    assert flow.log_norms["h"][0, 0] == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize("factor", [0.5, 1.3])
def test_a_scaled_rotation_changes_the_gradient_by_its_factor_a_step(factor: float) -> None:
    rotation = torch.linalg.qr(torch.randn(4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1)))[0]
    flow = gradient_flow(linear_steps(factor * rotation, 900, batch=2))
    np.testing.assert_allclose(flow.log_norms["h"][:, 1], math.log(factor) * np.arange(901), atol=1e-9)


def test_what_float64_cannot_hold_is_zero_and_never_nan() -> None:
    flow = gradient_flow(linear_steps(0.1 * torch.eye(2, dtype=torch.float64), 400))
    found = flow.log_norms["h"][:, 0]
    assert not np.isnan(found).any()
    # The square of the norm is out of float64's reach from lag 162 on.
    np.testing.assert_allclose(found[:300], -math.log(10) * np.arange(300), atol=1e-9)
    assert np.isneginf(found[330:]).all()


def test_a_gradient_that_overflows_is_refused() -> None:
    steps = steps_of(recurra.Recurrent(Linear(), 1, 1, dtype=torch.float64, bias=False), noise(400, 1) * 0)
    steps.weights["weight_hh"].fill_(10.0)
    with pytest.raises(ConfigError, match="overflow within 400 steps"):
        gradient_flow(steps)


def test_float32_reads_the_same_gradients() -> None:
    layer, x = a_layer("gru"), noise(LENGTH, 2, 2)
    double = gradient_flow(steps_of(layer, x)).log_norms["h"]
    single = gradient_flow(steps_of(layer.float(), x.float(), dtype=torch.float32)).log_norms["h"]
    np.testing.assert_allclose(single, double, atol=1e-4)
