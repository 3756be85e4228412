"""Recurrences written out in NumPy, one plain function a cell, straight from the papers; no other library is used.

Every step takes the weights of one layer and direction, x (B, I) and the previous states (each (B, H)), and returns the
new states. Names follow torch: W is weight_ih, U is weight_hh, and each gate owns H rows in the order given in CELLS.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["CELLS", "CellOracle", "Weights", "run_layer", "run_stack"]

Array = NDArray[np.float64]
States = dict[str, Array]


def sigmoid(a: Array) -> Array:
    # This form cannot overflow, whatever the sign of a.
    return 0.5 * (1.0 + np.tanh(0.5 * a))


class Weights:
    """Parameters of one layer and direction, by gate."""

    def __init__(self, parameters: Mapping[str, Array], gates: tuple[str, ...]) -> None:
        def rows(name: str) -> dict[str, Array]:
            return dict(zip(gates, np.split(parameters[name], len(gates)), strict=True))

        self.W, self.U = rows("weight_ih"), rows("weight_hh")
        zeros = {gate: np.zeros(len(self.U[gate])) for gate in gates}
        self.b_x = rows("bias_ih") if "bias_ih" in parameters else zeros
        self.b_h = rows("bias_hh") if "bias_hh" in parameters else zeros
        self.extra = parameters

    def net(self, gate: str, x: Array, h: Array) -> Array:
        return x @ self.W[gate].T + self.b_x[gate] + h @ self.U[gate].T + self.b_h[gate]


def rnn_tanh(w: Weights, x: Array, s: States) -> States:
    """Elman 1990."""
    return {"h": np.tanh(w.net("h", x, s["h"]))}


def rnn_relu(w: Weights, x: Array, s: States) -> States:
    return {"h": np.maximum(w.net("h", x, s["h"]), 0.0)}


def lstm(w: Weights, x: Array, s: States) -> States:
    """Gers, Schmidhuber & Cummins 2000, without peepholes (Greff et al.'s NP)."""
    h, c = s["h"], s["c"]
    i, f, o = sigmoid(w.net("i", x, h)), sigmoid(w.net("f", x, h)), sigmoid(w.net("o", x, h))
    c = f * c + i * np.tanh(w.net("g", x, h))
    return {"h": o * np.tanh(c), "c": c}


def lstm_1997(w: Weights, x: Array, s: States) -> States:
    """Hochreiter & Schmidhuber 1997: the constant error carousel has no forget gate."""
    h, c = s["h"], s["c"]
    i, o = sigmoid(w.net("i", x, h)), sigmoid(w.net("o", x, h))
    c = c + i * np.tanh(w.net("g", x, h))
    return {"h": o * np.tanh(c), "c": c}


def lstm_peephole(w: Weights, x: Array, s: States) -> States:
    """Graves 2013, equations 7 to 11; Greff et al. 2015's vanilla LSTM."""
    h, c, p = s["h"], s["c"], w.extra
    i = sigmoid(w.net("i", x, h) + p["weight_ci"] * c)
    f = sigmoid(w.net("f", x, h) + p["weight_cf"] * c)
    c = f * c + i * np.tanh(w.net("g", x, h))
    o = sigmoid(w.net("o", x, h) + p["weight_co"] * c)
    return {"h": o * np.tanh(c), "c": c}


def lstm_nig(w: Weights, x: Array, s: States) -> States:
    """Greff et al. 2015, no input gate: i = 1."""
    h, c, p = s["h"], s["c"], w.extra
    f = sigmoid(w.net("f", x, h) + p["weight_cf"] * c)
    c = f * c + np.tanh(w.net("g", x, h))
    o = sigmoid(w.net("o", x, h) + p["weight_co"] * c)
    return {"h": o * np.tanh(c), "c": c}


def lstm_nfg(w: Weights, x: Array, s: States) -> States:
    """Greff et al. 2015, no forget gate: f = 1."""
    h, c, p = s["h"], s["c"], w.extra
    i = sigmoid(w.net("i", x, h) + p["weight_ci"] * c)
    c = c + i * np.tanh(w.net("g", x, h))
    o = sigmoid(w.net("o", x, h) + p["weight_co"] * c)
    return {"h": o * np.tanh(c), "c": c}


def lstm_nog(w: Weights, x: Array, s: States) -> States:
    """Greff et al. 2015, no output gate: o = 1."""
    h, c, p = s["h"], s["c"], w.extra
    i = sigmoid(w.net("i", x, h) + p["weight_ci"] * c)
    f = sigmoid(w.net("f", x, h) + p["weight_cf"] * c)
    c = f * c + i * np.tanh(w.net("g", x, h))
    return {"h": np.tanh(c), "c": c}


def lstm_niaf(w: Weights, x: Array, s: States) -> States:
    """Greff et al. 2015, no input activation function: g(x) = x."""
    h, c, p = s["h"], s["c"], w.extra
    i = sigmoid(w.net("i", x, h) + p["weight_ci"] * c)
    f = sigmoid(w.net("f", x, h) + p["weight_cf"] * c)
    c = f * c + i * w.net("g", x, h)
    o = sigmoid(w.net("o", x, h) + p["weight_co"] * c)
    return {"h": o * np.tanh(c), "c": c}


def lstm_noaf(w: Weights, x: Array, s: States) -> States:
    """Greff et al. 2015, no output activation function: h(x) = x."""
    h, c, p = s["h"], s["c"], w.extra
    i = sigmoid(w.net("i", x, h) + p["weight_ci"] * c)
    f = sigmoid(w.net("f", x, h) + p["weight_cf"] * c)
    c = f * c + i * np.tanh(w.net("g", x, h))
    o = sigmoid(w.net("o", x, h) + p["weight_co"] * c)
    return {"h": o * c, "c": c}


def lstm_cifg(w: Weights, x: Array, s: States) -> States:
    """Greff et al. 2015, coupled input and forget gate: f = 1 - i."""
    h, c, p = s["h"], s["c"], w.extra
    i = sigmoid(w.net("i", x, h) + p["weight_ci"] * c)
    c = (1.0 - i) * c + i * np.tanh(w.net("g", x, h))
    o = sigmoid(w.net("o", x, h) + p["weight_co"] * c)
    return {"h": o * np.tanh(c), "c": c}


def lstm_fgr(w: Weights, x: Array, s: States) -> States:
    """Greff et al. 2015, full gate recurrence: the gates also see all three gates of the step before.

    weight_fi is the paper's R_fi: from the previous forget gate into the input gate.
    """
    h, c, p = s["h"], s["c"], w.extra
    i_0, f_0, o_0 = s["i"], s["f"], s["o"]
    from_gates = {
        gate: i_0 @ p[f"weight_i{gate}"].T + f_0 @ p[f"weight_f{gate}"].T + o_0 @ p[f"weight_o{gate}"].T
        for gate in "ifo"
    }
    i = sigmoid(w.net("i", x, h) + p["weight_ci"] * c + from_gates["i"])
    f = sigmoid(w.net("f", x, h) + p["weight_cf"] * c + from_gates["f"])
    c = f * c + i * np.tanh(w.net("g", x, h))
    o = sigmoid(w.net("o", x, h) + p["weight_co"] * c + from_gates["o"])
    return {"h": o * np.tanh(c), "c": c, "i": i, "f": f, "o": o}


def gru(w: Weights, x: Array, s: States) -> States:
    """torch and cuDNN: the reset comes after the product and its bias, and z keeps the old state."""
    h = s["h"]
    r, z = sigmoid(w.net("r", x, h)), sigmoid(w.net("z", x, h))
    n = np.tanh(x @ w.W["n"].T + w.b_x["n"] + r * (h @ w.U["n"].T + w.b_h["n"]))
    return {"h": (1.0 - z) * n + z * h}


def gru_cho(w: Weights, x: Array, s: States) -> States:
    """Cho et al. 2014: reset before the product, and z takes the new state (as Chung et al. 2014 write it)."""
    h = s["h"]
    r, z = sigmoid(w.net("r", x, h)), sigmoid(w.net("z", x, h))
    n = np.tanh(w.net("n", x, r * h))
    return {"h": (1.0 - z) * h + z * n}


def mgu(w: Weights, x: Array, s: States) -> States:
    """Zhou et al. 2016."""
    h = s["h"]
    f = sigmoid(w.net("f", x, h))
    return {"h": (1.0 - f) * h + f * np.tanh(w.net("n", x, f * h))}


def janet(w: Weights, x: Array, s: States) -> States:
    """van der Westhuizen & Lasenby 2018, with their beta of 1."""
    h = s["h"]
    forget = w.net("f", x, h)
    return {"h": sigmoid(forget) * h + (1.0 - sigmoid(forget - 1.0)) * np.tanh(w.net("g", x, h))}


class CellOracle(NamedTuple):
    step: Callable[[Weights, Array, States], States]
    gates: tuple[str, ...]
    states: tuple[str, ...] = ("h",)
    vectors: tuple[str, ...] = ()
    matrices: tuple[str, ...] = ()


_LSTM = ("h", "c")
_PEEPHOLES = ("weight_ci", "weight_cf", "weight_co")
_I_O, _F_O, _I_F = ("weight_ci", "weight_co"), ("weight_cf", "weight_co"), ("weight_ci", "weight_cf")
_GATE_TO_GATE = tuple(f"weight_{source}{target}" for target in "ifo" for source in "ifo")

CELLS: dict[str, CellOracle] = {
    "rnn_tanh": CellOracle(rnn_tanh, ("h",)),
    "rnn_relu": CellOracle(rnn_relu, ("h",)),
    "lstm": CellOracle(lstm, tuple("ifgo"), _LSTM),
    "lstm_1997": CellOracle(lstm_1997, tuple("igo"), _LSTM),
    "lstm_peephole": CellOracle(lstm_peephole, tuple("ifgo"), _LSTM, _PEEPHOLES),
    "lstm_nig": CellOracle(lstm_nig, tuple("fgo"), _LSTM, _F_O),
    "lstm_nfg": CellOracle(lstm_nfg, tuple("igo"), _LSTM, _I_O),
    "lstm_nog": CellOracle(lstm_nog, tuple("ifg"), _LSTM, _I_F),
    "lstm_niaf": CellOracle(lstm_niaf, tuple("ifgo"), _LSTM, _PEEPHOLES),
    "lstm_noaf": CellOracle(lstm_noaf, tuple("ifgo"), _LSTM, _PEEPHOLES),
    "lstm_cifg": CellOracle(lstm_cifg, tuple("igo"), _LSTM, _I_O),
    "lstm_fgr": CellOracle(lstm_fgr, tuple("ifgo"), ("h", "c", "i", "f", "o"), _PEEPHOLES, _GATE_TO_GATE),
    "gru": CellOracle(gru, tuple("rzn")),
    "gru_cho": CellOracle(gru_cho, tuple("rzn")),
    "mgu": CellOracle(mgu, tuple("fn")),
    "janet": CellOracle(janet, tuple("fg")),
}


def run_layer(name: str, parameters: Mapping[str, Array], x: Array, initial: States, reverse: bool = False) -> States:
    """Every state after every step, (T, B, H) each, in the order of the input's time axis."""
    cell = CELLS[name]
    weights = Weights(parameters, cell.gates)
    history: dict[int, States] = {}
    states = dict(initial)
    for t in reversed(range(len(x))) if reverse else range(len(x)):
        states = cell.step(weights, x[t], states)
        history[t] = states
    return {state: np.stack([history[t][state] for t in range(len(x))]) for state in cell.states}


def run_stack(
    name: str,
    state_dict: Mapping[str, Array],
    x: Array,
    hx: tuple[Array, ...],
    num_layers: int = 1,
    bidirectional: bool = False,
) -> tuple[Array, tuple[Array, ...], list[States]]:
    """Output (T, B, D*H), final states (num_layers*D, B, H) each, and all states (T, B, D*H) of each layer."""
    cell = CELLS[name]
    suffixes = ("", "_reverse") if bidirectional else ("",)
    finals: list[States] = []
    all_states: list[States] = []
    for layer in range(num_layers):
        ways: list[States] = []
        for direction, suffix in enumerate(suffixes):
            tail = f"_l{layer}{suffix}"
            parameters = {key.removesuffix(tail): value for key, value in state_dict.items() if key.endswith(tail)}
            row = layer * len(suffixes) + direction
            initial = {state: array[row] for state, array in zip(cell.states, hx, strict=True)}
            ways.append(run_layer(name, parameters, x, initial, reverse=direction == 1))
            finals.append({state: ways[-1][state][0 if direction else -1] for state in cell.states})
        all_states.append({state: np.concatenate([way[state] for way in ways], axis=-1) for state in cell.states})
        x = all_states[-1]["h"]
    return x, tuple(np.stack([final[state] for final in finals]) for state in cell.states), all_states
