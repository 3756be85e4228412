"""Which values of a step are gates: written out by hand for every published cell, and found in those of one's own."""

from __future__ import annotations

from typing import Any

import pytest

from recurra import cells
from recurra.cells import Cell
from recurra.cells.algebra import State, clamp, sigmoid, tanh
from recurra.cells.gates import gate_values
from recurra.cells.trace import trace

GATES = {
    "rnn_tanh": "", "rnn_relu": "", "lstm": "i f o", "lstm_1997": "i o", "lstm_peephole": "i f o", "lstm_nig": "f o",
    "lstm_nfg": "i o", "lstm_nog": "i f", "lstm_niaf": "i f o", "lstm_noaf": "i f o", "lstm_cifg": "i o",
    "lstm_fgr": "i f o", "gru": "r z", "gru_cho": "r z", "mgu": "f", "janet": "σ(f_t),σ(f_t - 1)",
}  # fmt: skip
CANDIDATES = {"gru": "n", "gru_cho": "n", "mgu": "n", "janet": "g", "rnn_tanh": "", "rnn_relu": "", "lstm_niaf": ""}


@pytest.mark.parametrize("name", cells.names())
def test_gates_of_published_cells(name: str) -> None:
    found = gate_values(trace(cells.get(name)))
    wanted = GATES[name].split(",") if "," in GATES[name] else GATES[name].split()
    assert sorted(each.name for each in found if each.kind == "gate") == sorted(wanted)
    assert " ".join(each.name for each in found if each.kind == "candidate") == CANDIDATES.get(name, "g")


class Hard(Cell):
    """A cell with a hard sigmoid and a gate that is used twice."""

    gates = ("a", "b")

    def step(self, gate: Any, state: Any, weight: Any) -> State:
        a, b = clamp(0.2 * gate.a + 0.5, 0.0, 1.0), sigmoid(gate.b)
        return State(h=a * state.h + (1 - a) * tanh(b * state.h))


def test_gates_of_a_cell_of_ones_own() -> None:
    found = gate_values(trace(Hard()))
    assert [each.kind for each in found] == ["gate", "gate"]
    assert found[1].name == "b" or found[0].name == "b"
