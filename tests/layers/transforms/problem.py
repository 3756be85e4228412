"""One cell, one way to call its layer, and the same recurrence written out step by step in torch's plain operations.

The plain recurrence is the oracle: it knows neither kernels nor Cell.step, and torch's own formulas differentiate it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.utils.rnn import PackedSequence

import recurra
from recurra import Cell, State
from recurra.cells.algebra import relu, sigmoid, tanh

from ..builders import randomise

__all__ = ["CELLS", "ENTRIES", "B", "H", "I", "Mixed", "Problem", "T", "compare", "gradients", "loss"]

T, B, I, H = 4, 3, 3, 4
ENTRIES = ("forward", "lengths", "packed", "stream", "all_states")

Step = Callable[[Tensor, Sequence[Tensor], Mapping[str, Tensor]], tuple[Tensor, ...]]


class Mixed(Cell):
    """A cell that only these tests have: two states, a peephole and relu."""

    states = ("h", "m")
    gates = ("a", "b")
    vectors = ("peep",)

    def step(self, gate: Any, state: Any, weight: Any) -> State:
        a = sigmoid(gate.a + weight.peep * state.m)
        m = a * state.m + (1 - a) * relu(gate.b)
        return State(h=a * tanh(m) - (1 - a) * state.h, m=m)


def net(x: Tensor, h: Tensor, w: Mapping[str, Tensor]) -> Tensor:
    return x @ w["weight_ih"].T + w["bias_ih"] + h @ w["weight_hh"].T + w["bias_hh"]


def lstm(x: Tensor, states: Sequence[Tensor], w: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
    """torch.nn.LSTMCell."""
    return torch.lstm_cell(x, list(states), w["weight_ih"], w["weight_hh"], w["bias_ih"], w["bias_hh"])


def gru_cho(x: Tensor, states: Sequence[Tensor], w: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
    """Cho et al. 2014: the reset gate acts before the product."""
    (h,) = states
    r, z = net(x, h, w)[..., : 2 * H].sigmoid().chunk(2, -1)
    n = net(x, r * h, w)[..., 2 * H :].tanh()
    return ((1 - z) * h + z * n,)


def mixed(x: Tensor, states: Sequence[Tensor], w: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
    h, m = states
    to_a, to_b = net(x, h, w).chunk(2, -1)
    a = (to_a + w["weight_peep"] * m).sigmoid()
    m = a * m + (1 - a) * to_b.relu()
    return a * m.tanh() - (1 - a) * h, m


# The cell as recurra takes it, the number of its states, and its step.
CELLS: dict[str, tuple[Callable[[], Any], int, Step]] = {
    "lstm": (lambda: "lstm", 2, lstm),
    "gru_cho": (lambda: "gru_cho", 1, gru_cho),
    "own": (Mixed, 2, mixed),
}


def lengths_of(entry: str, steps: int, batch: int) -> list[int] | None:
    """Lengths for the rows in no order; the first row has them all, and zero occurs where it is allowed."""
    if entry == "lengths":
        return [(0, steps, steps - 1, 1)[(row + 1) % 4] for row in range(batch)]
    if entry == "packed":
        return [(steps - 1, steps, 1)[(row + 1) % 3] for row in range(batch)]
    return None


def packed_places(lengths: Sequence[int]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Which places of the flattened (T*B, ...) a PackedSequence of these lengths holds, its sizes and its orders."""
    sorted_rows = torch.tensor(lengths, device="cpu").argsort(descending=True, stable=True)
    sizes = [sum(length > t for length in lengths) for t in range(max(lengths))]
    places = [t * len(lengths) + int(row) for t, size in enumerate(sizes) for row in sorted_rows[:size]]
    return (
        torch.tensor(places, device="cpu"),
        torch.tensor(sizes, device="cpu"),
        sorted_rows,
        sorted_rows.argsort(),
    )


class Runner(nn.Module):
    """A layer behind one of its entry points: tensors in, a flat tuple of tensors out."""

    def __init__(self, layer: nn.Module, entry: str, steps: int = T, batch: int = B) -> None:
        super().__init__()
        self.layer = layer
        self.entry = entry
        given = lengths_of(entry, steps, batch)
        # Buffers, so that a trace can take them as arguments.
        if given is not None:
            self.register_buffer("lengths", torch.tensor(given, device="cpu"))
        if entry == "packed" and given is not None:
            for name, value in zip(("places", "sizes", "order", "back"), packed_places(given), strict=True):
                self.register_buffer(name, value)

    def forward(self, x: Tensor, *states: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, ...]:
        hx = states if len(states) > 1 else states[0]
        if self.entry == "stream":
            stream = self.layer.stream(batch_size=x.shape[1])
            stream.state = hx
            output = torch.stack([stream.step(x[t]) for t in range(x.shape[0])])
            return output, *self.flat(stream.state)
        if self.entry == "packed":
            places, order, back = (index.to(x.device) for index in (self.places, self.order, self.back))
            packed = PackedSequence(x.flatten(0, 1)[places], self.sizes, order, back)
            result, last = self.layer(packed, hx)
            return result.data, *self.flat(last)
        if self.entry == "lengths":
            output, last = self.layer(x, hx, lengths=self.lengths if lengths is None else lengths)
            return output, *self.flat(last)
        if self.entry == "all_states":
            output, last, kept = self.layer(x, hx, return_all_states=True)
            return output, *self.flat(last), *(state for of_layer in kept for state in of_layer)
        output, last = self.layer(x, hx)
        return output, *self.flat(last)

    @staticmethod
    def flat(hx: Any) -> tuple[Tensor, ...]:
        return tuple(hx) if isinstance(hx, tuple) else (hx,)


def loss(outputs: Sequence[Tensor]) -> Tensor:
    """A number that depends on every place of every output in its own way, for tensors of any shape."""
    terms = [(index + 1) * (value + value.square() / 2).sum() for index, value in enumerate(outputs)]
    return torch.stack(terms).sum()


def gradients(outputs: Sequence[Tensor], wrt: Sequence[Tensor], **options: Any) -> tuple[Tensor, ...]:
    """The gradients of the loss; none where no output has a gradient, as those of a stream."""
    total = loss(outputs)
    if not total.requires_grad:
        return ()
    return torch.autograd.grad(total, wrt, materialize_grads=True, **options)


class Problem:
    """A layer with random weights, its inputs, and what it should give.

    Args:
        cell: a name in CELLS.
        entry: a name in ENTRIES.
        layers: how many are stacked.
        dtype: of weights and inputs; what is expected is always computed in float64.
    """

    def __init__(self, cell: str, entry: str, layers: int = 2, dtype: torch.dtype = torch.float64) -> None:
        self.cell, self.entry, self.layers, self.dtype = cell, entry, layers, dtype
        make, self.states, self.step = CELLS[cell]
        self.layer = recurra.Recurrent(make(), I, H, layers, dtype=dtype)
        randomise(self.layer)
        self.runner = self.runner_for()
        self.names = [name for name, _ in self.layer.named_parameters()]
        self.parameters = dict(self.layer.named_parameters())

    def runner_for(self, steps: int = T, batch: int = B) -> Runner:
        return Runner(self.layer, self.entry, steps, batch)

    @property
    def has_gradients(self) -> bool:
        """Streams are for inference: they promise no gradients, and may have none, or zeros."""
        return self.entry != "stream"

    @property
    def detached(self) -> dict[str, Tensor]:
        return {name: value.detach().clone() for name, value in self.parameters.items()}

    def inputs(self, seed: int = 0, steps: int = T, batch: int = B, requires_grad: bool = False) -> tuple[Tensor, ...]:
        """x (T, B, I) and each state (layers, B, H)."""
        generator = torch.Generator().manual_seed(100 + seed)
        shapes = [(steps, batch, I)] + [(self.layers, batch, H)] * self.states
        values = [torch.randn(shape, generator=generator, dtype=torch.float64, device="cpu") for shape in shapes]
        return tuple(value.to(self.dtype).requires_grad_(requires_grad) for value in values)

    def with_parameters(
        self, parameters: Mapping[str, Tensor], *inputs: Tensor, buffers: Mapping[str, Tensor] | None = None
    ) -> tuple[Tensor, ...]:
        """The layer with these parameters in the place of its own, and these of the runner's buffers."""
        given = {f"layer.{name}": value for name, value in parameters.items()}
        return functional_call(self.runner, given | dict(buffers or {}), inputs)

    def plain(self, parameters: Mapping[str, Tensor], x: Tensor, *states: Tensor) -> tuple[Tensor, ...]:
        """The recurrence step by step."""
        given = lengths_of(self.entry, x.shape[0], x.shape[1])
        finals: list[list[Tensor]] = []
        kept: list[Tensor] = []
        for layer in range(self.layers):
            suffix = f"_l{layer}"
            weights = {name.removesuffix(suffix): w for name, w in parameters.items() if name.endswith(suffix)}
            now = [state[layer] for state in states]
            history: list[list[Tensor]] = []
            for t in range(x.shape[0]):
                new = list(self.step(x[t], now, weights))
                if given is not None:
                    counts = torch.tensor([[length > t] for length in given], device=x.device)
                    now = [torch.where(counts, a, b) for a, b in zip(new, now, strict=True)]
                    new = [torch.where(counts, a, torch.zeros_like(a)) for a in new]
                else:
                    now = new
                history.append(new)
            stacked = [torch.stack(values) for values in zip(*history, strict=True)]
            finals.append(now)
            kept.extend(stacked)
            x = stacked[0]
        last = [torch.stack(values) for values in zip(*finals, strict=True)]
        if self.entry == "packed" and given is not None:
            x = x.flatten(0, 1)[packed_places(given)[0]]
        return x, *last, *(kept if self.entry == "all_states" else ())

    def expected(self, seed: int = 0, steps: int = T, batch: int = B) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        """Outputs, and the gradients of the loss by x, states and parameters."""
        return expected_of(self.cell, self.entry, self.layers, seed, steps, batch)

    def jacobians(self, seed: int = 0) -> tuple[tuple[Tensor, ...], ...]:
        """For each output its derivative by x and each state, by one backward a number."""
        return jacobians_of(self.cell, self.entry, self.layers, seed)

    def check_outputs(self, outputs: Sequence[Any], seed: int = 0, steps: int = T, batch: int = B) -> None:
        compare("output", outputs, self.expected(seed, steps, batch)[0])

    def check_derivatives(self, found: Sequence[Any], right: Sequence[Tensor], tolerance: float = 1e-10) -> None:
        if self.has_gradients or any(value.detach().any() for value in found):
            compare("derivative", found, right, tolerance)

    def check(self, outputs: Sequence[Any], found: Sequence[Any], seed: int = 0) -> None:
        """Outputs, then gradients in the order of `expected`, against the plain recurrence."""
        self.check_outputs(outputs, seed)
        self.check_derivatives(found, self.expected(seed)[1])

    def run_and_check(self, run: Callable[..., Sequence[Tensor]], seed: int = 0) -> None:
        """Run a function of x and the states on the layer's own parameters, forward and backward."""
        inputs = self.inputs(seed, requires_grad=True)
        outputs = run(*inputs)
        self.check(outputs, gradients(outputs, (*inputs, *self.parameters.values())), seed)


@functools.cache
def expected_of(
    cell: str, entry: str, layers: int, seed: int, steps: int, batch: int
) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    with torch.inference_mode(False), torch.enable_grad():
        problem = Problem(cell, entry, layers)
        inputs = problem.inputs(seed, steps, batch, requires_grad=True)
        outputs = problem.plain(problem.parameters, *inputs)
        found = gradients(outputs, (*inputs, *problem.parameters.values()))
    return tuple(value.detach() for value in outputs), found


@functools.cache
def jacobians_of(cell: str, entry: str, layers: int, seed: int) -> tuple[tuple[Tensor, ...], ...]:
    problem = Problem(cell, entry, layers)
    parameters = problem.detached
    return torch.autograd.functional.jacobian(lambda *z: problem.plain(parameters, *z), problem.inputs(seed))


def compare(what: str, actual: Sequence[Any], expected: Sequence[Tensor], tolerance: float = 1e-10) -> None:
    """Equal in number, shape, dtype and value; float64 leaves 1e-10 some hundred thousand roundings."""
    assert len(actual) == len(expected), f"{len(actual)} of {what}, not {len(expected)}"
    for index, (value, right) in enumerate(zip(actual, expected, strict=True)):
        value, right = value.detach(), right.detach()
        assert type(value) is Tensor, f"{what} {index} is a {type(value).__name__}"
        torch.testing.assert_close(
            value, right, rtol=tolerance, atol=tolerance, msg=lambda text, i=index: f"{what} {i} is wrong: {text}"
        )
