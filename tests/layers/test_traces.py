"""torch.jit.trace, torch.fx and torch.ao.quantization on models with these layers in them."""

from __future__ import annotations

import io
import warnings
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import recurra

from .builders import assert_close, build, states_of, zeros_or_random

T, B, I, H = 5, 2, 3, 3
SHAPES = [(T, B), (7, B), (4, 5), (1, 1)]
pytestmark = pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning", "ignore::DeprecationWarning")


class WithLengths(nn.Module):
    def __init__(self, layer: nn.Module, **options: Any) -> None:
        super().__init__()
        self.layer = layer
        self.options = options

    def forward(self, x: Tensor, lengths: Tensor) -> Any:
        return self.layer(x, lengths=lengths, **self.options)


class Everything(nn.Module):
    """Starts from given states and returns every state of every step."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor, *hx: Tensor) -> tuple[Tensor, ...]:
        output, last, states = self.layer(x, hx if len(hx) > 1 else hx[0], return_all_states=True)
        return output, *states_of(last), *(state for layer in states for state in layer)


def sequence(*shape: int, seed: int = 3) -> Tensor:
    return torch.randn(*shape, I, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def flat(value: Any) -> list[Tensor]:
    return [value] if isinstance(value, Tensor) else [tensor for part in value for tensor in flat(part)]


def assert_same(actual: Any, expected: Any) -> None:
    for one, other in zip(flat(actual), flat(expected), strict=True):
        assert_close(one, other)


STACKS: list[dict[str, Any]] = [
    {},
    {"num_layers": 2, "bidirectional": True},
    {"num_layers": 2, "residual": "highway"},
    {"zoneout": 0.2},
    {"hidden_size": [3, 4], "learn_initial_state": True},
]
NAMES = ["lstm", "gru", "rnn_tanh", "gru_cho", "lstm_peephole", "mgu"]


@pytest.mark.parametrize("gradients", [True, False])
@pytest.mark.parametrize("options", STACKS, ids=str)
@pytest.mark.parametrize("name", NAMES)
def test_a_trace_is_right_for_other_shapes(name: str, options: dict[str, Any], gradients: bool) -> None:
    layer = build(name, I, **{"hidden_size": H, **options}).eval()
    with torch.set_grad_enabled(gradients):
        traced = torch.jit.trace(layer, sequence(T, B))
        for shape in SHAPES:
            assert_same(traced(sequence(*shape)), layer(sequence(*shape)))


@pytest.mark.parametrize("name", ["lstm", "gru", "gru_cho", "lstm_peephole"])
@pytest.mark.parametrize("options", STACKS[:3], ids=str)
def test_a_trace_is_right_for_other_lengths(name: str, options: dict[str, Any]) -> None:
    layer = build(name, I, H, **options).eval()
    for padding in ("right", "left"):
        model = WithLengths(layer, padding=padding)
        traced = torch.jit.trace(model, (sequence(T, B), torch.tensor([3, T])))
        for shape, lengths in (((T, B), [5, 3]), ((7, B), [7, 0]), ((4, 3), [0, 1, 2]), ((4, 2), [0, 0])):
            x = sequence(*shape)
            assert_same(traced(x, torch.tensor(lengths)), model(x, torch.tensor(lengths)))
        for lengths in ([-1, 2], [T + 1, 2]):
            with pytest.raises((RuntimeError, ValueError)):
                traced(sequence(T, B), torch.tensor(lengths))


@pytest.mark.parametrize("name", ["lstm", "gru", "gru_cho"])
def test_a_trace_with_states_and_all_states(name: str) -> None:
    model = Everything(build(name, I, H, 2).eval())
    traced = torch.jit.trace(model, (sequence(T, B), *states_of(zeros_or_random(name, 2, B, H))))
    for time, batch in SHAPES:
        states = states_of(zeros_or_random(name, 2, batch, H, seed=5))
        assert_same(traced(sequence(time, batch), *states), model(sequence(time, batch), *states))


@pytest.mark.parametrize("name", ["lstm", "gru_cho"])
def test_a_trace_is_trained_and_stored(name: str) -> None:
    layer = build(name, I, H, 2).eval()
    traced = torch.jit.trace(layer, sequence(T, B))
    gradients = []
    for model in (traced, layer):
        layer.zero_grad()
        model(sequence(7, 4))[0].square().sum().backward()
        gradients.append([parameter.grad.clone() for parameter in layer.parameters()])
    assert_same(*gradients)
    buffer = io.BytesIO()
    torch.jit.save(traced, buffer)
    buffer.seek(0)
    assert_same(torch.jit.load(buffer)(sequence(7, 4)), layer(sequence(7, 4)))


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
def test_a_trace_equals_torchs(kind: str) -> None:
    theirs = getattr(nn, kind)(I, H, 2, bidirectional=True, batch_first=True).eval()
    ours = getattr(recurra, kind)(I, H, 2, bidirectional=True, batch_first=True).eval()
    ours.load_state_dict(theirs.state_dict())
    traces = [torch.jit.trace(layer, sequence(B, T).float()) for layer in (theirs, ours)]
    for batch, time in SHAPES:
        expected, actual = (flat(trace(sequence(batch, time).float())) for trace in traces)
        assert all(torch.equal(one, other) for one, other in zip(actual, expected, strict=True))


class Tagger(nn.Module):
    def __init__(self, name: str, **options: Any) -> None:
        super().__init__()
        self.recurrent = build(name, I, H, **options)
        self.linear = nn.Linear(H, 2, dtype=torch.float64)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        first, hx = self.recurrent(x)
        output, _ = self.recurrent(x, hx, lengths=lengths)
        return self.linear(torch.relu(output) + first)


@pytest.mark.parametrize("name", ["lstm", "gru", "gru_cho"])
def test_fx_sees_one_call(name: str) -> None:
    model = Tagger(name)
    graph = torch.fx.symbolic_trace(model)
    called = [node.target for node in graph.graph.nodes if node.op == "call_module"]
    assert called == ["recurrent", "recurrent", "linear"]
    for shape in SHAPES:
        lengths = torch.arange(shape[1]) % shape[0]
        assert torch.equal(graph(sequence(*shape), lengths), model(sequence(*shape), lengths))


def test_fx_is_refused_the_inside_of_a_layer() -> None:
    with pytest.raises(RuntimeError, match="trace a module that has the layer in it"):
        torch.fx.symbolic_trace(build("lstm", I, H))


@pytest.mark.filterwarnings("ignore:torch.ao.quantization is deprecated")
def test_quantisation_says_that_it_does_nothing() -> None:
    model = nn.Sequential(recurra.LSTM(I, H))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        quantised = torch.ao.quantization.quantize_dynamic(model)
    assert [str(w.message) for w in caught if "recurra" in str(w.message)] == [
        "torch's quantisation leaves recurra's LSTM in floating point: it is not quantised"
    ]
    x = torch.randn(T, B, I)
    assert torch.equal(quantised(x)[0], model(x)[0])
    assert not hasattr(model[0], "qconfig")
    with pytest.warns(UserWarning, match="floating point"):
        model[0].qconfig = None
    assert model[0].qconfig is None
