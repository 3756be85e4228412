"""Small layers with random parameters, and their states, for the tests of cells and layers."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import recurra

from .oracles import CELLS

__all__ = ["TORCH_CELLS", "assert_close", "build", "numpy_state", "randomise", "states_of", "zeros_or_random"]

TORCH_CELLS = ("rnn_tanh", "rnn_relu", "lstm", "gru")


def randomise(layer: nn.Module, seed: int = 0, scale: float = 0.5) -> None:
    """Draw every parameter anew, so that those that start at zero (peepholes, initial states) take part in the test."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in layer.parameters():
            noise = torch.rand(parameter.shape, generator=generator, dtype=torch.float64) * 2 - 1
            parameter.copy_(noise * scale)


def build(name: str, input_size: int = 4, hidden_size: Any = 5, num_layers: int = 1, **options: Any) -> nn.Module:
    options.setdefault("dtype", torch.float64)
    layer = recurra.Recurrent(name, input_size, hidden_size, num_layers, **options)
    randomise(layer)
    return layer


def zeros_or_random(name: str, *shape: int, random: bool = True, seed: int = 1, **options: Any) -> Any:
    """States of the cell in the shape that forward takes: a tensor for one state, else a tuple of tensors."""
    options.setdefault("dtype", torch.float64)
    generator = torch.Generator().manual_seed(seed)
    states = tuple(
        (torch.randn(shape, generator=generator, dtype=torch.float64) * float(random)).to(**options)
        for _ in CELLS[name].states
    )
    return states if len(states) > 1 else states[0]


def states_of(hx: Any) -> tuple[Tensor, ...]:
    return hx if isinstance(hx, tuple) else (hx,)


def numpy_state(layer: nn.Module) -> dict[str, np.ndarray]:
    return {name: value.detach().double().cpu().numpy() for name, value in layer.state_dict().items()}


def assert_close(actual: Any, expected: Any, tolerance: float = 1e-12) -> None:
    """Equal to `tolerance`, relative and absolute: 1e-12 leaves float64 a few thousand roundings."""
    actual, expected = (
        value.detach().cpu().numpy() if isinstance(value, Tensor) else np.asarray(value) for value in (actual, expected)
    )
    assert actual.shape == expected.shape
    np.testing.assert_allclose(actual, expected, rtol=tolerance, atol=tolerance)
