"""The fused CPU engine's functions and derivatives where they end: NaN, infinities, signed zeros, exact bounds."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

import recurra
from recurra.cells import Cell
from recurra.cells.algebra import State, clamp, exp, relu, sigmoid, tanh
from recurra.kernels.cpu import compiled

from .engine_calls import each_instruction_set, fused, make
from .native import CXX

pytestmark = [
    pytest.mark.skipif(compiled.engine() is None, reason="this installation was built without the engine"),
    pytest.mark.skipif(CXX is None, reason="this machine has no C++ compiler"),
]

FUNCTIONS = {
    "relu": relu,
    "clamp": lambda x: clamp(x, -1, 1),
    "from_zero": lambda x: clamp(x, 0.0, 1.5),
    "to_zero": lambda x: clamp(x, -1.5, -0.0),
    "tanh": tanh,
    "sigmoid": sigmoid,
    "exp": exp,
}
POINTS = [float("nan"), float("inf"), -float("inf"), 0.0, -0.0, 1e-40, -1e-40, 1.0, -1.0, 1.5, -1.5, 2.0, -2.0]
# Where exp is first 0 or infinite, and where tanh is first 1, about.
POINTS += [
    88.72,
    88.73,
    88.8,
    -87.4,
    -103.9,
    -104.0,
    709.7,
    709.8,
    -745.1,
    -745.2,
    22.0,
    -22.0,
    23.0,
    -23.0,
    1000.0,
    -1000.0,
]


class Elementwise(Cell):
    """Each state but h is a function of what it was."""

    states = ("h", *FUNCTIONS)
    gates = ("a",)

    def step(self, gate, state, weight):
        return State(h=tanh(gate.a), **{name: of(getattr(state, name)) for name, of in FUNCTIONS.items()})


def values_of(points: Tensor, name: str) -> list[Tensor]:
    """A function and its derivative times 3, as torch has them."""
    x = points.clone().requires_grad_()
    function = {"relu": torch.relu, "tanh": torch.tanh, "sigmoid": torch.sigmoid, "exp": torch.exp}
    y = function[name](x) if name in function else FUNCTIONS[name](x)
    return [y.detach(), *torch.autograd.grad(y, x, torch.full_like(y, 3.0))]


def on_the_engine(points: Tensor) -> dict[str, list[Tensor]]:
    # Whole vectors of every width and a rest.
    hidden = len(points)
    call = make(Elementwise(), steps=1, batch=2, hidden=hidden, dtype=points.dtype)
    states = [call.states[0], *(points.expand(1, 2, hidden).clone().requires_grad_() for _ in FUNCTIONS)]
    call = replace(call, states=tuple(states))
    final = fused(call).final[1:]
    d = torch.autograd.grad(final, states[1:], [torch.full_like(value, 3.0) for value in final])
    return {name: [y[0, 1].detach(), dx[0, 1]] for name, y, dx in zip(FUNCTIONS, final, d, strict=True)}


@each_instruction_set
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_functions_at_their_ends(dtype: torch.dtype, instruction_set: str) -> None:
    points = torch.tensor(POINTS, dtype=dtype)
    found = on_the_engine(points)
    for name in FUNCTIONS:
        for what, one, other in zip(("value", "derivative"), found[name], values_of(points, name), strict=True):
            case = f"{what} of {name}"
            if name in ("tanh", "sigmoid", "exp"):
                tiny = torch.finfo(dtype).tiny
                torch.testing.assert_close(
                    one, other, rtol=1e-5, atol=4 * tiny, equal_nan=True, msg=lambda m, c=case: f"{c}: {m}"
                )
            else:
                assert torch.equal(one.nan_to_num(7.0), other.nan_to_num(7.0)), case
            # NaN has no sign that means anything.
            sign = one.signbit() == other.signbit()
            assert (sign | one.isnan() | (one.abs() < 4 * torch.finfo(dtype).tiny) & (points != 0)).all(), case


@each_instruction_set
def test_a_relu_layer_sends_gradients_through_nan(instruction_set: str) -> None:
    # As torch.nn.RNN does: what was NaN on the way forward is not silently without a gradient on the way back.
    torch.manual_seed(0)
    layer = recurra.Recurrent("rnn_relu", 2, 3)
    x = torch.randn(4, 2, 2)
    x[1, 0, 0] = float("nan")
    results: list[Any] = []
    for backend in ("cpu", "reference"):
        leaf = x.clone().requires_grad_()
        with recurra.backend(backend):
            output, _ = layer(leaf)
            results.append([output, *torch.autograd.grad(output.sum(), [leaf, *layer.parameters()])])
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, equal_nan=True)
