"""The gated recurrent unit, as published and as common libraries have it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from .algebra import State, sigmoid, tanh
from .cell import Cell

__all__ = ["GRU"]


@dataclass(frozen=True, repr=False)
class GRU(Cell):
    """Gated recurrent unit (Cho et al. 2014).

    Cho, van Merrienboer, Gulcehre, Bahdanau, Bougares, Schwenk & Bengio, "Learning phrase representations using RNN
    encoder-decoder", 2014 (arXiv:1406.1078). Gate rows in torch's order r, z, n, where n is the candidate h~.

    The paper resets h *before* the recurrent product of the candidate; cuDNN and torch reset *after* it, to need one
    product a step. Which of old state and candidate z weighs also differs: z keeps the old state in torch and in
    equation 7 of the paper, and lets in the candidate in Chung et al. 2014 (arXiv:1412.3555, equation 4) and in most
    later texts. `recurra.layers.flip_update_gate` converts weights between the two exactly. The paper has no biases
    (`bias=False`).

    Attributes:
        reset: "after" is torch's n = tanh(W x + r * (U h)), "before" is the paper's n = tanh(W x + U (r * h)).
        update: "keep" is h' = z * h + (1 - z) * n, "replace" is h' = (1 - z) * h + z * n.
    """

    reset: Literal["before", "after"] = "after"
    update: Literal["keep", "replace"] = "keep"

    gates = ("r", "z", "n")

    def __post_init__(self) -> None:
        if self.reset not in ("before", "after"):
            raise ValueError(f"reset must be 'before' or 'after', not {self.reset!r}")
        if self.update not in ("keep", "replace"):
            raise ValueError(f"update must be 'keep' or 'replace', not {self.update!r}")

    @property
    def citation(self) -> str:
        kind = "reset after the product, as in cuDNN and torch" if self.reset == "after" else "reset before the product"
        source = "Cho et al. 2014; Chung et al. 2014" if self.update == "replace" else "Cho et al. 2014"
        return f"Gated recurrent unit, {kind} ({source})."

    def step(self, gate: Any, state: Any, weight: Any) -> State:
        r, z = sigmoid(gate.r), sigmoid(gate.z)
        n = tanh(gate.n.x + r * gate.n.h) if self.reset == "after" else tanh(gate.n.on(r * state.h))
        if self.update == "keep":
            return State(h=(1 - z) * n + z * state.h)
        return State(h=(1 - z) * state.h + z * n)
