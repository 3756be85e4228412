"""Clipping of dL/dW against autograd's whole gradient and torch's clipping."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

import recurra
from recurra.analysis import clipping
from recurra.analysis.clipping import clipped_gradient
from recurra.analysis.flow import random_projection
from recurra.analysis.layer_steps import steps_of
from recurra.analysis.untrained import noise, untrained_layer
from recurra.errors import ConfigError

from .known_layers import a_layer


@pytest.mark.parametrize("cell", recurra.cells.names())
def test_the_norms_are_those_of_torch(cell: str) -> None:
    layer, x = a_layer(cell), noise(6, 3, 2)
    steps = steps_of(layer, x)
    output, _ = layer(x)
    (random_projection(steps)(output) / 3).backward()
    weight = layer.weight_hh_l0
    found = clipped_gradient(steps, 1e-3)
    assert math.exp(found.log_norm_before) == pytest.approx(float(weight.grad.norm()), rel=1e-9)
    before = weight.grad.clone()
    torch.nn.utils.clip_grad_norm_([weight], 1e-3)
    assert found.norm_after == pytest.approx(1e-3)
    assert math.exp(found.log_factor) == pytest.approx(float(weight.grad.norm() / before.norm()), rel=1e-2)
    untouched = clipped_gradient(steps, 1e6)
    assert untouched.log_factor == 0
    assert math.log(untouched.norm_after) == pytest.approx(found.log_norm_before)


def test_the_contribution_of_a_step_is_its_outer_product() -> None:
    layer, x = a_layer("rnn_tanh"), noise(5, 1, 2)
    steps = steps_of(layer, x)
    found = clipped_gradient(steps, 1.0)
    h = [*steps.vectors]
    (delta,) = torch.autograd.functional.jacobian(random_projection(steps), steps.vectors[-1][None])[0]
    for t in range(5, 0, -1):
        before = delta * (1 - h[t].square())  # with respect to the pre-activation
        assert math.exp(found.log_contributions[5 - t]) == pytest.approx(
            float(before.norm() * h[t - 1].norm()), rel=1e-9, abs=1e-300
        )
        delta = before @ steps.weights["weight_hh"]


def test_where_gradients_explode_the_latest_steps_have_no_share_that_clipping_could_save() -> None:
    # The states of tanh are bounded, so that what explodes is the gradient alone.
    wild = clipped_gradient(steps_of(untrained_layer("rnn_tanh", 32, scale=2.0), noise(300, 2)), 1.0)
    calm = clipped_gradient(steps_of(untrained_layer("rnn_tanh", 32, scale=0.8), noise(300, 2)), 1.0)
    assert wild.norm_after == pytest.approx(1.0)
    assert wild.log_norm_before > 10
    latest = [np.exp(each.log_contributions[:10] - each.log_norm_before).max() for each in (wild, calm)]
    assert latest[0] < 1e-4 < 0.1 < latest[1]
    assert calm.surviving < 0.5


def test_refusals(monkeypatch: pytest.MonkeyPatch) -> None:
    steps = steps_of(a_layer("gru"), noise(3, 1, 2))
    with pytest.raises(ConfigError, match="clip_norm: must be above 0, not 0"):
        clipped_gradient(steps, 0)
    monkeypatch.setattr(clipping, "_MOST_NUMBERS", 10)
    with pytest.raises(ConfigError, match="3 steps of 75 recurrent weights are too many"):
        clipped_gradient(steps, 1.0)
