"""Networks of memory blocks as Hochreiter & Schmidhuber (1997) built and trained them.

This is not the LSTM cell of `recurra.cells`: gates and cells see the outputs of all gates as well as of all cells, the
cells of a block share their gates, there is no forget gate, and the gradient is truncated. The outputs of all hidden
units one step earlier count as constants (appendix A.1 of the paper), so only a cell's own state carries error back.

A step of a network with B blocks of S cells each, for cell c of block j:

    in_j  = sigmoid(W_in x(t) + U_in y(t-1) + b_in)         out_j = sigmoid(W_out x(t) + U_out y(t-1) + b_out)
    s_c   = s_c(t-1) + in_j g(W_c x(t) + U_c y(t-1) + b_c)  y_c   = out_j h(s_c)

where y(t-1) are the outputs of all gates and cells. Outputs are sigmoid(V y_c(t) + b). Weights change after each
sequence, and all states are 0 at the start of a sequence.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

try:
    from . import _blocks  # type: ignore[attr-defined]
except ImportError:  # built without a C++ compiler
    _blocks = None

__all__ = ["BlockNetwork", "Sequences", "Weights", "is_compiled", "run", "run_in_numpy"]

Floats = npt.NDArray[np.float64]


def is_compiled() -> bool:
    """Whether `run` uses the compiled loop, which is some hundred times faster than NumPy."""
    return _blocks is not None


@dataclass(frozen=True)
class BlockNetwork:
    """The shape of a network.

    Attributes:
        inputs, outputs: numbers of units.
        blocks: memory blocks; 0: outputs see the inputs alone.
        cells: of each block, which share the block's gates.
        output_gates: whether blocks have output gates.
        recurrent: whether gates and cells see the outputs of all gates and cells one step before.
        direct: whether the outputs see the inputs too.
        biases: which units have one: "none", "gates", "hidden" (gates and cells) or "all" (outputs too).
        plain: g is the logistic function and h the identity (experiments 2a and 2b). Otherwise g(x) is
            4 sigmoid(x) - 2 and h(x) is 2 sigmoid(x) - 1.
    """

    inputs: int
    blocks: int
    cells: int
    outputs: int
    output_gates: bool = True
    recurrent: bool = True
    direct: bool = False
    biases: str = "none"
    plain: bool = False

    @property
    def units_of_a_block(self) -> int:
        """Gates and cells of a block; the input gate comes first, then the output gate, then the cells."""
        return 1 + self.output_gates + self.cells

    @property
    def hidden(self) -> int:
        """Gates and cells of all blocks."""
        return self.blocks * self.units_of_a_block

    @property
    def has_biases(self) -> tuple[bool, bool, bool]:
        """Whether gates, cells and outputs have biases."""
        return self.biases != "none", self.biases in ("hidden", "all"), self.biases == "all"

    @property
    def weights(self) -> int:
        """The number of weights and biases that are learnt."""
        gates, cells, outputs = self.has_biases
        of_gates = self.blocks * (1 + self.output_gates)
        hidden = self.hidden * (self.inputs + (self.hidden if self.recurrent else 0))
        hidden += gates * of_gates + cells * self.blocks * self.cells
        return hidden + self.outputs * (self.blocks * self.cells + self.direct * self.inputs + outputs)

    def start(
        self,
        generator: np.random.Generator,
        scale: float,
        input_gate_biases: Sequence[float] = (),
        output_gate_biases: Sequence[float] = (),
    ) -> Weights:
        """Weights to begin with.

        Args:
            generator: of random numbers.
            scale: weights and biases are uniform in +-scale.
            input_gate_biases, output_gate_biases: of the first blocks, in place of random ones.

        Raises:
            ValueError: if there are more biases than blocks.
        """
        if max(len(input_gate_biases), len(output_gate_biases)) > self.blocks:
            raise ValueError(f"there are more biases of gates than the {self.blocks} blocks have gates")
        hidden = generator.uniform(-scale, scale, (self.hidden, self.inputs + self.recurrent * self.hidden + 1))
        wide = self.direct * self.inputs + self.blocks * self.cells + 1
        output = generator.uniform(-scale, scale, (self.outputs, wide))
        gates, cells, outputs = self.has_biases
        kind = np.arange(self.hidden) % self.units_of_a_block
        is_gate = kind < 1 + self.output_gates
        hidden[~(is_gate * gates | ~is_gate * cells), -1] = 0
        if not outputs:
            output[:, -1] = 0
        for biases, place in ((input_gate_biases, 0), (output_gate_biases, 1)):
            hidden[np.flatnonzero(kind == place)[: len(biases)], -1] = biases
        return Weights(hidden, output)


@dataclass(frozen=True)
class Weights:
    """Weights, which training changes in place.

    Attributes:
        hidden: of gates and cells, (hidden, inputs + hidden + 1): what they give to inputs, to gates and cells one step
            before (if `recurrent`), and the bias.
        output: (outputs, inputs + cells + 1): to inputs (if `direct`), to cells, and the bias.
    """

    hidden: Floats
    output: Floats

    def copy(self) -> Weights:
        """The same numbers, apart."""
        return Weights(self.hidden.copy(), self.output.copy())


@dataclass(frozen=True)
class Sequences:
    """Sequences one after the other, and what a network is to answer.

    Attributes:
        starts: where each sequence begins, and where the last ends: (sequences + 1,) int64.
        symbols: for each step the only input that is 1: (steps,) int32; or
        values: for each step all inputs: (steps, inputs).
        ends: wanted at the end of each sequence: (sequences, outputs); or
        next: for each step the only output that is to be 1: (steps,) int32.
    """

    starts: npt.NDArray[np.int64]
    symbols: npt.NDArray[np.int32] | None = None
    values: Floats | None = None
    ends: Floats | None = None
    next: npt.NDArray[np.int32] | None = None

    def __len__(self) -> int:
        return len(self.starts) - 1

    @property
    def steps(self) -> int:
        """Steps of all sequences together."""
        return int(self.starts[-1])

    def head(self, count: int) -> Sequences:
        """The first sequences."""
        cut = int(self.starts[count])
        parts: dict[str, Any] = {"starts": self.starts[: count + 1]}
        for name, most in (("symbols", cut), ("values", cut), ("next", cut), ("ends", count)):
            array = getattr(self, name)
            parts[name] = None if array is None else array[:most]
        return Sequences(**parts)


def run(network: BlockNetwork, weights: Weights, data: Sequences, rate: float = 0.0) -> Floats:
    """Go through sequences, and learn from each if there is a learning rate.

    Args:
        network: its shape.
        weights: are changed in place after each sequence, by the rate times the truncated gradient of half the squared
            error.
        data: the sequences.
        rate: 0: weights stay.

    Returns:
        What the network answered before it learnt from the sequence: (sequences, outputs), or (steps, outputs) where
        every step has a target.

    Raises:
        ValueError, TypeError: if shapes, types or symbols do not fit the network.
    """
    if _blocks is None:
        return run_in_numpy(network, weights, data, rate)
    answers = np.empty((len(data) if data.next is None else data.steps, network.outputs))
    shape = (network.inputs, network.blocks, network.cells, network.outputs)
    flags = (network.output_gates, network.recurrent, network.direct, *network.has_biases, network.plain)
    _blocks.run(
        *(*shape, *flags, weights.hidden, weights.output),
        *(data.symbols, data.values, data.starts, data.ends, data.next, rate, answers),
    )
    return answers


def run_in_numpy(network: BlockNetwork, weights: Weights, data: Sequences, rate: float = 0.0) -> Floats:
    """The same as `run`, step by step in NumPy: slow, and easy to compare with the paper."""
    answers = []
    for n in range(len(data)):
        steps = range(int(data.starts[n]), int(data.starts[n + 1]))
        walk = _Walk(network, weights)
        for t in steps:
            walk.step(_inputs(network, data, t))
            if data.next is None and t != steps[-1]:
                continue
            answers.append(walk.answer())
            wanted = np.eye(network.outputs)[data.next[t]] if data.ends is None else data.ends[n]  # type: ignore[index]
            if rate:
                walk.learn(wanted)
        if rate:
            walk.change(rate)
    return np.array(answers).reshape(len(answers), network.outputs)


def _inputs(network: BlockNetwork, data: Sequences, t: int) -> Floats:
    if data.values is not None:
        return data.values[t]
    assert data.symbols is not None
    found: Floats = np.eye(network.inputs)[data.symbols[t]]
    return found


def _sigmoid(x: Floats) -> Floats:
    found: Floats = 1 / (1 + np.exp(-x))
    return found


class _Walk:
    """One sequence: states, how they depend on weights, and the sum of the weights' changes."""

    def __init__(self, network: BlockNetwork, weights: Weights) -> None:
        self.network, self.weights = network, weights
        blocks, cells = network.blocks, network.cells
        first = np.arange(blocks) * network.units_of_a_block
        self.input_gates = first
        self.output_gates = first + 1 if network.output_gates else first[:0]
        self.cells = (first[:, None] + 1 + network.output_gates + np.arange(cells)).reshape(-1)
        self.block = np.repeat(np.arange(blocks), cells)
        self.y = np.zeros(network.hidden)
        self.state = np.zeros(blocks * cells)
        width = weights.hidden.shape[1]
        # How states depend on the weights of the input gate and on those of the cell: (cells, width).
        self.of_gate, self.of_cell = np.zeros((2, blocks * cells, width))
        self.hidden_change, self.output_change = np.zeros_like(weights.hidden), np.zeros_like(weights.output)

    def step(self, x: Floats) -> None:
        network, block = self.network, self.block
        self.x = x
        self.seen = np.concatenate([x, self.y if network.recurrent else self.y[:0], [1.0]])
        net = self.weights.hidden @ self.seen
        gate = _sigmoid(net[self.input_gates])
        self.out = _sigmoid(net[self.output_gates]) if network.output_gates else np.ones(network.blocks)
        logistic = _sigmoid(net[self.cells])
        g = logistic if network.plain else 4 * logistic - 2
        g_slope = (1 if network.plain else 4) * logistic * (1 - logistic)
        self.state = self.state + gate[block] * g
        self.of_gate += (g * (gate * (1 - gate))[block])[:, None] * self.seen
        self.of_cell += (g_slope * gate[block])[:, None] * self.seen
        squashed = _sigmoid(self.state)
        self.h = self.state if network.plain else 2 * squashed - 1
        self.h_slope = np.ones_like(self.state) if network.plain else 2 * squashed * (1 - squashed)
        self.y = np.zeros(network.hidden)
        self.y[self.input_gates] = gate
        if network.output_gates:
            self.y[self.output_gates] = self.out
        self.y[self.cells] = self.out[block] * self.h

    def answer(self) -> Floats:
        self.read = np.concatenate([self.x if self.network.direct else self.x[:0], self.y[self.cells], [1.0]])
        self.answered = _sigmoid(self.weights.output @ self.read)
        return self.answered

    def learn(self, wanted: Floats) -> None:
        error = (wanted - self.answered) * self.answered * (1 - self.answered)
        self.output_change += np.outer(error, self.read)
        direct = self.network.direct * self.network.inputs
        back = error @ self.weights.output[:, direct : direct + len(self.cells)]
        of_state = self.out[self.block] * self.h_slope * back
        if self.network.output_gates:
            sums = np.bincount(self.block, self.h * back, self.network.blocks)
            self.hidden_change[self.output_gates] += np.outer(self.out * (1 - self.out) * sums, self.seen)
        np.add.at(self.hidden_change, self.input_gates[self.block], of_state[:, None] * self.of_gate)
        self.hidden_change[self.cells] += of_state[:, None] * self.of_cell

    def change(self, rate: float) -> None:
        gates, cells, outputs = self.network.has_biases
        if not gates:
            self.hidden_change[self.input_gates, -1] = 0
            self.hidden_change[self.output_gates, -1] = 0
        if not cells:
            self.hidden_change[self.cells, -1] = 0
        if not outputs:
            self.output_change[:, -1] = 0
        self.weights.hidden[...] += rate * self.hidden_change
        self.weights.output[...] += rate * self.output_change
