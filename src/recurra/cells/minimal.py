"""Cells with a single gate."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .algebra import State, sigmoid, tanh
from .cell import Cell

__all__ = ["JANET", "MGU"]


@dataclass(frozen=True, repr=False)
class MGU(Cell):
    """Minimal gated unit (Zhou, Wu, Zhang & Zhou 2016).

    "Minimal gated unit for recurrent neural networks", 2016 (arXiv:1603.09420), equations 6. One gate f both resets
    and updates. Gate rows f, n, where n is the candidate h~.
    """

    gates = ("f", "n")

    def step(self, gate: Any, state: Any, weight: Any) -> State:
        f = sigmoid(gate.f)
        n = tanh(gate.n.on(f * state.h))
        return State(h=(1 - f) * state.h + f * n)


@dataclass(frozen=True, repr=False)
class JANET(Cell):
    """Just another network, an LSTM with the forget gate alone (van der Westhuizen & Lasenby 2018).

    "The unreasonable effectiveness of the forget gate", 2018 (arXiv:1804.04849). The candidate is let in by
    1 - sigmoid(s - beta), a little more than is forgotten. Gate rows f (the paper's s) and g (its c~). The state c of
    the paper is also its output, so it is called h here.

    Attributes:
        beta: the paper's constant, 1; 0 gives its simplest form.
    """

    beta: float = 1.0

    gates = ("f", "g")
    forget_bias_gate = "f"

    def step(self, gate: Any, state: Any, weight: Any) -> State:
        keep = sigmoid(gate.f)
        let_in = 1 - (sigmoid(gate.f - self.beta) if self.beta else keep)
        return State(h=keep * state.h + let_in * tanh(gate.g))
