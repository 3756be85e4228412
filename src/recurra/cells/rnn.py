"""The vanilla recurrent network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from .algebra import State, relu, tanh
from .cell import Cell

__all__ = ["RNN"]


@dataclass(frozen=True, repr=False)
class RNN(Cell):
    """Simple recurrent network (Elman 1990).

    Elman, "Finding structure in time", Cognitive Science 14, 1990. His units are logistic; tanh became the custom, and
    relu with an identity start is Le, Jaitly & Hinton 2015 (arXiv:1504.00941).
    """

    nonlinearity: Literal["tanh", "relu"] = "tanh"

    gates = ("h",)

    def __post_init__(self) -> None:
        if self.nonlinearity not in ("tanh", "relu"):
            raise ValueError(f"Unknown nonlinearity '{self.nonlinearity}'. Select from 'tanh' or 'relu'.")

    @property
    def citation(self) -> str:
        if self.nonlinearity == "relu":
            return "Simple recurrent network with rectified units (Elman 1990; Le, Jaitly & Hinton 2015)."
        return super().citation

    def step(self, gate: Any, state: Any, weight: Any) -> State:
        return State(h=tanh(gate.h) if self.nonlinearity == "tanh" else relu(gate.h))
