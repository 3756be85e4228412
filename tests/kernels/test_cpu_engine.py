"""The fused CPU engine computes the cells' equations and their gradients, whatever the shape."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from recurra.cells import CELLS, Cell
from recurra.cells.algebra import State, sigmoid, tanh
from recurra.kernels import reference
from recurra.kernels.call import LayerCall
from recurra.kernels.cpu import compiled
from recurra.kernels.cpu import run as engine
from recurra.kernels.packing import run_padded

from .engine_calls import (
    PROJECTABLE,
    assert_agrees,
    assert_close,
    each_instruction_set,
    fused,
    gradients,
    leaves,
    make,
    packed,
    resting,
    rows_of,
    same_bits,
    tensors_of,
    with_leaves,
)

pytestmark = pytest.mark.skipif(compiled.engine() is None, reason="this installation was built without the engine")

NAMES = list(CELLS)
DTYPES = [torch.float32, torch.float64]
# Sums of some tens of terms, through some steps: two hundred roundings of the dtype.
ROUNDINGS = 200


def tolerance(dtype: torch.dtype) -> float:
    return ROUNDINGS * torch.finfo(dtype).eps


# ---- gradients


@pytest.mark.parametrize("name", NAMES)
def test_gradients_of_every_tensor_are_those_of_finite_differences(name: str) -> None:
    call = make(name, 3, 3, 2, 3, directions=2, lengths=[3, 1, 0], all_states=True)
    assert torch.autograd.gradcheck(lambda *values: tuple(tensors_of(fused(with_leaves(call, values)))), leaves(call))


@pytest.mark.parametrize("name", PROJECTABLE)
def test_gradients_through_a_projection_are_those_of_finite_differences(name: str) -> None:
    call = make(name, 3, 3, 2, 4, directions=2, lengths=[3, 1, 0], all_states=True, projection=2)
    assert torch.autograd.gradcheck(lambda *values: tuple(tensors_of(fused(with_leaves(call, values)))), leaves(call))


@pytest.mark.parametrize(
    ("name", "directions", "projection"),
    [("rnn_tanh", 2, 0), ("lstm_peephole", 1, 0), ("gru", 1, 0), ("gru_cho", 1, 0), ("lstm", 1, 1)],
)
def test_second_derivatives_are_those_of_finite_differences(name: str, directions: int, projection: int) -> None:
    call = make(name, 2, 2, 1, 2, directions, lengths=[2, 1], all_states=True, projection=projection)
    assert torch.autograd.gradgradcheck(
        lambda *values: tuple(tensors_of(fused(with_leaves(call, values)))), leaves(call)
    )


@pytest.mark.parametrize("name", NAMES)
def test_gradients_that_can_be_differentiated_again_are_the_same(name: str) -> None:
    call = make(name, 4, 3, 2, 5, directions=2, lengths=[4, 2, 0])
    values = tensors_of(fused(call))
    again = gradients(values, leaves(call), create_graph=True)
    for one, other in zip(again, gradients(values, leaves(call)), strict=True):
        assert_close(one, other, 1e-12)


@pytest.mark.parametrize("create_graph", [False, True])
def test_a_weight_shared_by_both_directions_gets_the_sum_of_its_gradients(create_graph: bool) -> None:
    call = make("gru", directions=2)
    tied = replace(call, weights=(call.weights[0], call.weights[0]))
    wanted = [call.input, *call.states, *call.weights[0].values()]
    actual = gradients(tensors_of(fused(tied)), wanted, create_graph=create_graph)
    for one, other in zip(actual, gradients(tensors_of(reference.run(tied)), wanted), strict=True):
        assert_close(one, other, 1e-12)


@pytest.mark.parametrize("create_graph", [False, True])
def test_gradients_through_a_carried_state_count_every_path_once(create_graph: bool) -> None:
    call = make("lstm")

    def both_halves(run: object) -> list[Tensor]:
        first = run(replace(call, input=call.input[:2]))
        second = run(replace(call, input=call.input[2:], states=first.final))
        return [*first.outputs, *second.outputs, *second.final]

    actual = gradients(both_halves(fused), leaves(call), create_graph=create_graph)
    for one, other in zip(actual, gradients(both_halves(reference.run), leaves(call)), strict=True):
        assert_close(one, other, 1e-12)


# ---- shapes


@st.composite
def calls(draw: st.DrawFn) -> LayerCall:
    steps, batch = draw(st.integers(0, 9)), draw(st.integers(0, 20))
    lengths = st.lists(st.integers(0, steps), min_size=batch, max_size=batch)
    # About the edges of whole vectors and of the groups of vectors that are computed together.
    sizes = st.one_of(st.integers(1, 20), st.sampled_from([31, 32, 33, 47, 48, 49, 63, 64, 65, 79, 80, 81, 129]))
    name, hidden = draw(st.sampled_from(NAMES)), draw(sizes)
    projection = draw(sizes) if name in PROJECTABLE and draw(st.booleans()) else 0
    return make(
        name,
        steps,
        batch,
        draw(st.integers(1, 40)),
        hidden,
        draw(st.integers(1, 2)),
        lengths=draw(st.one_of(st.none(), lengths)),
        bias=draw(st.booleans()),
        all_states=draw(st.booleans()),
        seed=draw(st.integers(0, 99)),
        projection=projection if projection < hidden else 0,
    )


@settings(max_examples=250, derandomize=True)
@given(calls())
def test_any_shape_agrees_with_the_reference(call: LayerCall) -> None:
    assert_agrees(call, 1e-12)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_cell_agrees_with_the_reference(name: str, dtype: torch.dtype) -> None:
    assert_agrees(make(name, 4, 7, 33, 70, 2, dtype, [4, 0, 2, 4, 1, 3, 0], all_states=True), tolerance(dtype))


@pytest.mark.parametrize(
    ("steps", "batch", "input_size", "hidden"),
    [
        pytest.param(2, 700, 3, 9, id="hundreds of rows"),
        pytest.param(2, 3, 600, 9, id="long sums over the input"),
        pytest.param(2, 3, 4, 530, id="long sums over the state"),
        pytest.param(70, 3, 2, 4, id="more rows than are multiplied ahead"),
    ],
)
@pytest.mark.parametrize("name", ["lstm", "gru_cho"])
def test_a_size_far_from_the_others_agrees_with_the_reference(
    name: str, steps: int, batch: int, input_size: int, hidden: int
) -> None:
    for lengths in (None, [(37 * row + steps) % (steps + 1) for row in range(batch)]):
        assert_agrees(make(name, steps, batch, input_size, hidden, 2, lengths=lengths), 1e-12)


@pytest.mark.parametrize("name", ["lstm", "gru_cho"])
@pytest.mark.parametrize("zoneout", [0.0, 0.3])
def test_a_packed_input_is_the_padded_one_bit_for_bit(name: str, zoneout: float) -> None:
    call = make(name, 6, 5, 7, 37, 2, torch.float32, [6, 6, 4, 1, 0])
    if zoneout:
        masks = tuple(torch.rand(6, 5, 74, generator=torch.Generator().manual_seed(1)) < zoneout for _ in call.states)
        call = replace(call, zoneout=zoneout, zoneout_masks=masks)
    short = packed(call)
    counts = torch.arange(6)[:, None] < call.lengths
    expected, actual = fused(call), fused(short)
    assert same_bits([actual.outputs[0], *actual.final], [expected.outputs[0][counts], *expected.final])
    # Padding has no gradient, so that weighting only what counts is the same sum.
    weights = torch.randn(expected.outputs[0].shape, generator=torch.Generator().manual_seed(2))
    wanted = leaves(call)
    same = [
        torch.autograd.grad(result.outputs[0], wanted, g)
        for result, g in ((expected, weights), (actual, weights[counts]))
    ]
    assert same_bits(*same)


@pytest.mark.parametrize("create_graph", [False, True])
def test_gradients_of_a_packed_input_agree_with_the_reference(create_graph: bool) -> None:
    call = packed(make("lstm", 4, 4, 3, 6, 2, lengths=[4, 3, 3, 1], projection=2))
    actual = gradients(tensors_of(fused(call)), leaves(call), create_graph=create_graph)
    expected = gradients(tensors_of(run_padded(reference.run, call)), leaves(call))
    for one, other in zip(actual, expected, strict=True):
        assert_close(one, other, 1e-12)


@pytest.mark.parametrize("sizes", [[1, 2], [2, 2], [3, 0], [2], [4, -1]])
def test_sizes_of_steps_that_do_not_fit_are_an_error(sizes: list[int]) -> None:
    call = make("lstm", 3, 1)
    call = replace(
        call,
        input=call.input[:, 0],
        batch_sizes=torch.tensor(sizes),
        states=tuple(torch.zeros(1, 2, 6).double() for _ in range(2)),
    )
    with pytest.raises(RuntimeError, match="batch_sizes"):
        fused(call)


def test_no_input_features_leave_the_biases() -> None:
    for bias in (True, False):
        assert_agrees(make("lstm", input_size=0, bias=bias), 1e-12)


# ---- torch.nn


TORCH = {
    "rnn_tanh": lambda *sizes: nn.RNN(*sizes, bidirectional=True),
    "rnn_relu": lambda *sizes: nn.RNN(*sizes, nonlinearity="relu", bidirectional=True),
    "lstm": lambda *sizes: nn.LSTM(*sizes, bidirectional=True),
    "gru": lambda *sizes: nn.GRU(*sizes, bidirectional=True),
}


def torch_run(call: LayerCall) -> tuple[list[Tensor], list[Tensor]]:
    """torch.nn's values and gradients on the call's tensors, in the order of `leaves`."""
    name = next(name for name in TORCH if CELLS[name] == call.cell)
    layer = TORCH[name](call.input.shape[2], call.states[0].shape[2]).to(call.input.dtype)
    parameters = []
    with torch.no_grad():
        for direction, suffix in zip(call.weights, ("_l0", "_l0_reverse"), strict=True):
            for key, value in direction.items():
                parameters.append(layer.get_parameter(key + suffix))
                parameters[-1].copy_(value)
    output, final = layer(call.input, call.states if len(call.states) > 1 else call.states[0])
    values = [output, *(final if isinstance(final, tuple) else (final,))]
    return values, gradients(values, [call.input, *call.states, *parameters])


def engine_run(call: LayerCall) -> tuple[list[Tensor], list[Tensor]]:
    values = tensors_of(fused(call))
    return values, gradients(values, leaves(call))


@pytest.mark.parametrize("name", list(TORCH))
@pytest.mark.parametrize("dtype", DTYPES)
def test_values_and_gradients_are_those_of_torch_nn(name: str, dtype: torch.dtype) -> None:
    call = make(name, 12, 5, 10, 21, 2, dtype)
    for ours, theirs in zip(engine_run(call), torch_run(call), strict=True):
        for one, other in zip(ours, theirs, strict=True):
            assert_close(one, other, tolerance(dtype))


@pytest.mark.parametrize("name", ["lstm", "gru"])
def test_thousands_of_steps_are_those_of_torch_nn(name: str) -> None:
    call = make(name, 3000, 1, 2, 5, 2)
    for ours, theirs in zip(engine_run(call), torch_run(call), strict=True):
        for one, other in zip(ours, theirs, strict=True):
            assert_close(one, other, 1e-12)


@pytest.mark.parametrize("name", list(TORCH))
def test_float32_errors_are_no_larger_than_those_of_torch_nn(name: str) -> None:
    kinds = ["output", *(f"final {state}" for state in CELLS[name].states), "gradient of input"]
    kinds += [f"gradient of initial {state}" for state in CELLS[name].states]
    kinds += 2 * [f"gradient of {parameter}" for parameter in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]
    errors: dict[str, list[tuple[float, float]]] = {kind: [] for kind in kinds}
    for seed in range(8):
        call = make(name, 40, 16, 32, 64, 2, torch.float32, seed=seed)
        wide = with_leaves(call, [leaf.detach().double().requires_grad_() for leaf in leaves(call)])
        runs = (engine_run(call), torch_run(call), torch_run(wide))
        for kind, ours, theirs, exact in zip(kinds, *([*a, *b] for a, b in runs), strict=True):
            squares = [float((one.detach() - exact.detach()).square().mean()) for one in (ours, theirs)]
            errors[kind].append((squares[0], squares[1]))
    # Both round as often; which of the two is luckier changes with the numbers, and with the order of a sum's terms.
    ratios = {kind: float(np.divide(*np.sqrt(np.mean(pairs, axis=0)))) for kind, pairs in errors.items()}
    assert not {kind: ratio for kind, ratio in ratios.items() if ratio > 1.5}


# ---- instruction sets


@each_instruction_set
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_instruction_set_agrees_with_the_reference(instruction_set: str, dtype: torch.dtype) -> None:
    assert compiled.instruction_set() == instruction_set
    for name in NAMES:
        assert_agrees(make(name, 3, 5, 9, 21, 2, dtype, [3, 0, 2, 3, 1], all_states=True), tolerance(dtype))
        assert_agrees(make(name, 2, 13, 40, 67, 1, dtype, bias=False), tolerance(dtype))


@each_instruction_set
@pytest.mark.parametrize("dtype", DTYPES)
def test_on_every_instruction_set_a_row_does_not_depend_on_the_others(instruction_set: str, dtype: torch.dtype) -> None:
    for name in ("lstm", "gru", "gru_cho", "lstm_fgr"):
        call = resting(make(name, 4, 13, 9, 37, 2, dtype))
        whole = tensors_of(fused(call))
        for count in range(1, 13):
            assert same_bits(tensors_of(fused(rows_of(call, range(count)))), [part[:, :count] for part in whole])


@pytest.mark.parametrize("threads", [1, 2])
def test_reading_memory_is_measured_in_gigabytes_a_second(threads: int) -> None:
    speed = compiled.engine().reading(compiled.instruction_set(), 1 << 14, threads)
    assert 0.001 < speed < 1e6


def test_an_instruction_set_that_is_not_there_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECURRA_ISA", "mmx")
    compiled.instruction_set.cache_clear()
    with pytest.raises(ValueError, match=r"this machine has .*portable"):
        compiled.instruction_set()
    monkeypatch.undo()
    compiled.instruction_set.cache_clear()


# ---- cells of the user's own


class InputOnly(Cell):
    gates = ("n",)

    def step(self, gate, state, weight):
        return State(h=tanh(gate.n.x))


class StateOnly(Cell):
    gates = ("n",)

    def step(self, gate, state, weight):
        return State(h=tanh(gate.n.h))


class TwoGatesInOneSum(Cell):
    gates = ("a", "b")

    def step(self, gate, state, weight):
        return State(h=tanh(gate.a + gate.b))


class UnusedParts(Cell):
    gates = ("n", "unused")
    matrices = ("m",)

    def step(self, gate, state, weight):
        return State(h=tanh(gate.n))


class OneMatrixTwice(Cell):
    states = ("h", "c")
    gates = tuple("ifgo")
    matrices = ("m",)

    def step(self, gate, state, weight):
        i, f, g = sigmoid(gate.i + weight.m @ state.c), sigmoid(gate.f + weight.m @ state.h), tanh(gate.g)
        c = f * state.c + i * g
        return State(h=sigmoid(gate.o) * tanh(c), c=c)


class OneMatrixTwiceInOneSum(Cell):
    states = ("h", "c")
    gates = tuple("ifgo")
    matrices = ("m",)

    def step(self, gate, state, weight):
        i, f = sigmoid(gate.i), sigmoid(gate.f)
        g = tanh(gate.g + weight.m @ state.c + weight.m @ state.h + weight.m @ state.c)
        c = f * state.c + i * g
        return State(h=sigmoid(gate.o) * tanh(c), c=c)


class GatesInAnotherOrder(Cell):
    states = ("h", "c")
    gates = tuple("ogfi")

    def step(self, gate, state, weight):
        i, f, g = sigmoid(gate.i), sigmoid(gate.f), tanh(gate.g)
        c = f * state.c + i * g
        return State(h=sigmoid(gate.o) * tanh(c), c=c)


class StatesInAnotherOrder(Cell):
    states = ("h", "b", "c")
    gates = tuple("ifgo")

    def step(self, gate, state, weight):
        i, f, g = sigmoid(gate.i), sigmoid(gate.f), tanh(gate.g)
        c = f * state.c + i * g
        return State(h=sigmoid(gate.o) * tanh(c), b=state.h, c=c)


class UnusedState(Cell):
    states = ("h", "c")
    gates = ("n",)

    def step(self, gate, state, weight):
        return State(h=tanh(gate.n), c=state.h)


class MatrixInsteadOfAGate(Cell):
    gates = ("r", "z", "n")
    matrices = ("m",)

    def step(self, gate, state, weight):
        r, z = sigmoid(gate.r + weight.m @ state.h), sigmoid(gate.z)
        n = tanh(gate.n.x + weight.m @ (r * state.h))
        return State(h=(1 - z) * state.h + z * n)


@dataclass(frozen=True)
class Scaled(Cell):
    factor: float = 2.0
    gates = ("n",)

    def step(self, gate, state, weight):
        return State(h=tanh(self.factor * gate.n))


USERS_CELLS = [
    InputOnly(),
    StateOnly(),
    TwoGatesInOneSum(),
    UnusedParts(),
    OneMatrixTwice(),
    OneMatrixTwiceInOneSum(),
    GatesInAnotherOrder(),
    StatesInAnotherOrder(),
    UnusedState(),
    MatrixInsteadOfAGate(),
    Scaled(),
    Scaled(0.5),
]


@pytest.mark.parametrize("cell", USERS_CELLS, ids=repr)
def test_a_cell_of_the_users_own_is_refused_or_right(cell: Cell) -> None:
    for call in (make(cell, 4, 3, 3, 5, 2, lengths=[4, 2, 0]), make(cell, 3, 2, 9, 37, bias=False, all_states=True)):
        if engine.refusal(call) is None:
            # Memory that held other numbers before, so that a gradient nobody wrote is not zero by luck.
            spoil = [torch.full_like(leaf, 1e30) for leaf in leaves(call) for _ in range(4)]
            del spoil
            assert_agrees(call, 1e-12)
            assert_agrees(resting(call), 1e-12, backward=False)


def test_a_cell_with_the_equations_of_a_known_one_runs_on_its_code() -> None:
    assert engine.refusal(make(GatesInAnotherOrder())) is None


def test_a_cell_without_compiled_code_is_refused_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECURRA_NO_COMPILE", "1")
    assert "Scaled(factor=3.0)" in engine.refusal(make(Scaled(3.0)))
