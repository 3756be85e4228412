"""Long short-term memory, with and without each of its parts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .algebra import Gate, State, sigmoid, tanh
from .cell import Cell

__all__ = ["LSTM"]


@dataclass(frozen=True, repr=False)
class LSTM(Cell):
    """Long short-term memory with a forget gate (Gers, Schmidhuber & Cummins 2000).

    Gers, Schmidhuber & Cummins, "Learning to forget", Neural Computation 12(10), 2000. Gate rows in torch's order
    i, f, g, o, where g is the paper's candidate C~; absent gates leave no rows.

    Every option removes or adds one part, as in Greff, Srivastava, Koutnik, Steunebrink & Schmidhuber, "LSTM: A search
    space odyssey", 2015 (arXiv:1503.04069), whose baseline has peepholes and whose "NP" variant is this class as it
    stands. Without a forget gate and peepholes it is the original of Hochreiter & Schmidhuber 1997 (Neural Computation
    9(8)), with tanh for their scaled logistic squashing.

    Attributes:
        peephole: i and f look at c_{t-1} and o at c_t through `weight_ci`, `weight_cf`, `weight_co` (Gers &
            Schmidhuber 2000; Graves 2013, arXiv:1308.0850, equations 7 to 11, whose peephole matrices are diagonal).
        input_gate: False is Greff's NIG, i = 1.
        forget_gate: False is NFG, f = 1.
        output_gate: False is NOG, o = 1.
        input_activation: False is NIAF, the candidate without tanh.
        output_activation: False is NOAF, the output without tanh.
        coupled: CIFG, f = 1 - i; no rows for f.
        full_gate_recurrence: FGR, the gates also see all gates of the step before through nine matrices, `weight_fi`
            being the one from f to i; the gates' activations become states.
    """

    peephole: bool = False
    input_gate: bool = True
    forget_gate: bool = True
    output_gate: bool = True
    input_activation: bool = True
    output_activation: bool = True
    coupled: bool = False
    full_gate_recurrence: bool = False

    def __post_init__(self) -> None:
        if self.coupled and not (self.input_gate and self.forget_gate):
            raise ValueError("coupled input and forget gates need both gates")

    @property
    def gates(self) -> tuple[str, ...]:  # type: ignore[override]
        return tuple(name for name in "ifgo" if name == "g" or name in self._sigmoids)

    @property
    def states(self) -> tuple[str, ...]:  # type: ignore[override]
        return ("h", "c", *self._sigmoids) if self.full_gate_recurrence else ("h", "c")

    @property
    def vectors(self) -> tuple[str, ...]:  # type: ignore[override]
        return tuple(f"c{name}" for name in self._sigmoids) if self.peephole else ()

    @property
    def matrices(self) -> tuple[str, ...]:  # type: ignore[override]
        if not self.full_gate_recurrence:
            return ()
        return tuple(source + gate for gate in self._sigmoids for source in self._sigmoids)

    @property
    def forget_bias_gate(self) -> str | None:  # type: ignore[override]
        return "f" if "f" in self._sigmoids else None

    @property
    def citation(self) -> str:
        greff = {
            "NIG, no input gate": not self.input_gate,
            "NFG, no forget gate": not self.forget_gate,
            "NOG, no output gate": not self.output_gate,
            "NIAF, no input activation": not self.input_activation,
            "NOAF, no output activation": not self.output_activation,
            "CIFG, coupled input and forget gates": self.coupled,
            "FGR, full gate recurrence": self.full_gate_recurrence,
        }
        changed = [name for name, present in greff.items() if present]
        if not changed and not self.peephole:
            return super().citation
        if changed == ["NFG, no forget gate"] and not self.peephole:
            return "Long short-term memory as first published, without a forget gate (Hochreiter & Schmidhuber 1997)."
        peepholes = " with peepholes" if self.peephole else ""
        if not changed:
            return f"Long short-term memory{peepholes} (Gers & Schmidhuber 2000; Graves 2013)."
        return f"Long short-term memory{peepholes}; {'; '.join(changed)} (Greff et al. 2015)."

    @property
    def _sigmoids(self) -> tuple[str, ...]:
        used = {
            "i": self.input_gate,
            "f": self.forget_gate and not self.coupled,
            "o": self.output_gate,
        }
        return tuple(name for name, present in used.items() if present)

    def step(self, gate: Any, state: Any, weight: Any) -> State:
        def activate(name: str, cell: Any) -> Any:
            if name not in self._sigmoids:
                return None
            total: Gate | Any = getattr(gate, name)
            if self.full_gate_recurrence:
                for source in self._sigmoids:
                    total = total + getattr(weight, source + name) @ getattr(state, source)
            if self.peephole:
                total = total + getattr(weight, "c" + name) * cell
            return sigmoid(total)

        i = activate("i", state.c)
        f = 1 - i if self.coupled else activate("f", state.c)
        g = tanh(gate.g) if self.input_activation else gate.g.sum
        c = (state.c if f is None else f * state.c) + (g if i is None else i * g)
        o = activate("o", c)
        out = tanh(c) if self.output_activation else c
        h = out if o is None else o * out
        return State(h=h, c=c, i=i, f=f, o=o)
