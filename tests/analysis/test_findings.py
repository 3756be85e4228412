"""Sentences say what the numbers are."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch

from recurra.analysis import layer_inspection
from recurra.analysis.findings import as_json, float32_ends, sentences
from recurra.analysis.layer_inspection import inspect_read_layer, inspect_steps
from recurra.analysis.layer_steps import steps_of
from recurra.analysis.network_gradients import read_network
from recurra.analysis.panels import panels
from recurra.analysis.untrained import noise

from .known_layers import a_layer, linear_steps


def said_of(factor: float, length: int = 60, clip_norm: float | None = None) -> list[str]:
    steps = linear_steps(factor * torch.eye(2, dtype=torch.float64), length)
    return sentences(inspect_steps(steps, "linear", "a group", clip_norm=clip_norm))


def test_a_falling_gradient_and_its_memory() -> None:
    flow, memory, exponent = said_of(0.5)
    assert flow == (
        "The gradient |dL/dh| falls by a factor of 10 every 3.3 steps; 60 steps back it is 8.7e-19 times what it is at "
        "the last step."
    )
    # 0.5^2 < 1/e < 0.5 and 0.5^7 < 1/100 < 0.5^6, counted from lag 1.
    assert memory == "Its memory of h is down to 1/e after 3 steps and to a hundredth after 8."
    assert exponent == "Its largest Lyapunov exponent is -0.693 nats a step: it forgets how it began."


def test_what_float32_cannot_hold() -> None:
    # 0.4^114 < 2^-150 < 0.4^113.
    flow = said_of(0.4, 200)[0]
    assert "; 114 steps back float32 holds nothing of it" in flow


def test_a_growing_gradient() -> None:
    flow, memory, exponent = said_of(1.25)
    assert "grows by a factor of 10 every 10 steps; 60 steps back it is 6.5e+5 times" in flow
    assert memory == "Its memory of h does not fade within the 60 steps looked at."
    assert exponent.endswith("+0.223 nats a step: it is chaotic, and small changes of its state grow.")


def test_a_level_gradient() -> None:
    flow, memory, exponent = said_of(1.0)
    assert "changes by less than a factor of 10 over 60 steps" in flow
    assert "lasts longer within" in memory or "does not fade within the 60" in memory
    assert "too near to zero to tell within 60 steps" in exponent


def test_a_state_that_is_wiped_out() -> None:
    flow, _, exponent = said_of(0.0)
    assert flow == "The gradient |dL/dh| is exactly zero one step back."
    assert "minus infinity: its state is wiped out" in exponent


def test_clipping_is_told_with_its_factor() -> None:
    clipped = said_of(1.0, 30, clip_norm=1e-3)[3]
    untouched = said_of(1.0, 30, clip_norm=1e9)[3]
    assert clipped.startswith("Clipping to 0.001 multiplies dL/dW, of the norm ")
    assert "which clipping to 1e+09 leaves as it is" in untouched
    assert clipped.partition("before and after")[2] == untouched.partition("before and after")[2]


def test_a_cell_with_c_tells_of_both_and_against_its_matrices() -> None:
    layer = a_layer("lstm", forget_bias=9.0)
    with torch.no_grad():
        layer.weight_hh_l0.mul_(0.01)
    found = sentences(inspect_steps(steps_of(layer, noise(60, 2, 2)), "lstm", ""))
    assert "although no recurrent matrix has a spectral radius above" in found[0]
    assert "and that of h and c together" in found[1]


def test_json_holds_all_numbers() -> None:
    steps = linear_steps(0.4 * torch.eye(2, dtype=torch.float64), 200, batch=3)
    found = inspect_steps(steps, "linear", "a group", exponents=2, clip_norm=1.0)
    value = as_json(found)
    json.dumps(value)
    np.testing.assert_allclose(value["gradients"]["h"]["log10_mean"], math.log10(0.4) * np.arange(201), atol=1e-6)
    assert value["float32_zero_from_lag"] == float32_ends(found) == 114
    assert value["jacobian"]["sequences"] == 3
    assert value["jacobian"]["spectral_lags"][-1] == 200
    assert [each["mean"] for each in value["lyapunov"]] == pytest.approx([math.log(0.4)] * 2)
    assert value["spectrum"][0]["eigenvalues"] == [[0.4, 0.0], [0.4, 0.0]]


def test_the_panels_of_a_picture_are_what_was_measured() -> None:
    lstm = inspect_steps(steps_of(a_layer("lstm"), noise(20, 2, 2)), "lstm", "left")
    gru = inspect_steps(steps_of(a_layer("gru"), noise(20, 2, 2)), "gru", "left")
    of_h, of_c, jacobian = panels([lstm, gru])
    assert [[curve.label for curve in panel.curves] for panel in (of_h, of_c, jacobian)] == [
        ["lstm", "gru"],
        ["lstm"],
        ["lstm", "gru"],
    ]
    np.testing.assert_allclose(of_c.curves[0].mean, lstm.gradients["c"].mean(1) / math.log(10))


def test_the_jacobian_of_a_network_is_that_of_the_longest_sequences(monkeypatch: pytest.MonkeyPatch) -> None:
    layers = a_layer("gru").requires_grad_(False)
    texts = [noise(length, 1, 2) for length in (3, 25, 9)]
    (read,) = read_network(layers, [lambda x=x: layers(x)[0].sum() for x in texts])
    found = inspect_read_layer(read, "layer 1", "recurrent", sequences=2)
    assert found.sequences == 3
    assert found.jacobian.h_frobenius.shape == (26, 2)
    assert np.isnan(found.jacobian.h_frobenius[10:, 1]).all() and np.isfinite(found.jacobian.h_frobenius[:10]).all()
    assert found.exponents is not None and found.exponents.shape == (1, 1)
    monkeypatch.setattr(layer_inspection, "_MOST_PRODUCTS", 1)
    assert inspect_read_layer(read, "", "", sequences=2).jacobian.h_frobenius.shape == (26, 1)
