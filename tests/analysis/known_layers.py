"""Layers whose gradients, Jacobians and exponents are known."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from recurra import Cell, Recurrent, State
from recurra.analysis.layer_steps import LayerSteps, steps_of
from recurra.analysis.untrained import noise


class Linear(Cell):
    """h_t = W x_t + U h_t-1, whose Jacobian is U."""

    gates = ("h",)

    def step(self, gate: Any, state: Any, weight: Any) -> State:
        return State(h=gate.h.sum)


def linear(matrix: Tensor) -> Recurrent:
    """A linear layer of this recurrent matrix, in float64."""
    torch.manual_seed(0)
    layer = Recurrent(Linear(), 1, len(matrix), dtype=torch.float64)
    with torch.no_grad():
        layer.weight_hh_l0.copy_(matrix)
    return layer


def linear_steps(matrix: Tensor, length: int, batch: int = 1) -> LayerSteps:
    return steps_of(linear(matrix), noise(length, batch))


def a_layer(cell: str | Cell, units: int = 5, seed: int = 3, **options: Any) -> Recurrent:
    """A small layer in float64, its weights large enough to bend its curves."""
    torch.manual_seed(seed)
    layer = Recurrent(cell, 2, units, dtype=torch.float64, **options)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.mul_(2.0)
    return layer
