"""Left padding, nested tensors, NumPy lengths and other default devices: other ways in, the same numbers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import recurra

from .builders import assert_close, build, states_of, zeros_or_random

T, I, H = 7, 3, 4
LENGTHS = [4, 6, 0, 2]
B = len(LENGTHS)
LAYERS: list[dict[str, Any]] = [
    {},
    {"num_layers": 2, "bidirectional": True, "batch_first": True},
    {"num_layers": 2, "residual": "residual", "bidirectional": True, "merge": "sum", "input_dropout": 0.5},
]
BACKENDS = [None, "torch", "reference"]
# torch has no kernel for gru_cho.
RUNS = [
    (name, backend)
    for name in ("lstm", "gru", "gru_cho")
    for backend in BACKENDS
    if (name, backend) != ("gru_cho", "torch")
]


def rows() -> list[Tensor]:
    generator = torch.Generator().manual_seed(4)
    return [torch.randn(length, I, generator=generator, dtype=torch.float64) for length in LENGTHS]


def padded(side: str, batch_first: bool) -> Tensor:
    x = torch.full((T, B, I), float("nan"), dtype=torch.float64)
    for index, row in enumerate(rows()):
        x[slice(len(row)) if side == "right" else slice(T - len(row), T), index] = row
    return (x.transpose(0, 1) if batch_first else x).requires_grad_()


def layer_of(name: str, options: dict[str, Any]) -> recurra.Recurrent:
    return build(name, I, **{"hidden_size": H if "residual" not in options else I, **options})


def backward(layer: torch.nn.Module, values: list[Tensor]) -> list[Tensor]:
    layer.zero_grad()
    sum((value.square().sum() for value in values), torch.zeros(())).backward()
    return [parameter.grad for parameter in layer.parameters()]


@pytest.mark.parametrize("options", LAYERS, ids=str)
@pytest.mark.parametrize(("name", "backend"), RUNS)
def test_left_padding_gives_the_bits_of_right_padding(name: str, backend: str | None, options: dict[str, Any]) -> None:
    layer = layer_of(name, options)
    every = backend != "torch" or name == "gru"
    results, gradients = {}, {}
    for side in ("right", "left"):
        x = padded(side, layer.batch_first)
        torch.manual_seed(0)
        with recurra.backend(backend) if backend else nullcontext():
            output, last, *states = layer(x, lengths=LENGTHS, padding=side, return_all_states=every)
        results[side] = ([output, *(value for of_layer in states for s in of_layer for value in s)], states_of(last))
        gradients[side] = [*backward(layer, [output, *states_of(last)]), x.grad]
    for right, left in zip(results["right"][1], results["left"][1], strict=True):
        assert torch.equal(left, right)
    *of_parameters, of_input = range(len(gradients["right"]))
    for index in of_parameters:
        assert torch.equal(gradients["left"][index], gradients["right"][index])
    values = [*zip(*(results[side][0] for side in ("right", "left")), strict=True)]
    values.append((gradients["right"][of_input], gradients["left"][of_input]))
    for right, left in values:
        right, left = (v.transpose(0, 1) if layer.batch_first else v for v in (right, left))
        for row, length in enumerate(LENGTHS):
            assert torch.equal(left[T - length :, row], right[:length, row])
            assert not left[: T - length, row].any()


@pytest.mark.parametrize("name", ["lstm", "mgu"])
def test_left_padding_as_each_row_alone(name: str) -> None:
    layer = build(name, I, H, 2, bidirectional=True)
    output, last = layer(padded("left", False), lengths=torch.tensor(LENGTHS, dtype=torch.int32), padding="left")
    for index, row in enumerate(rows()):
        if len(row):
            alone, alone_last = layer(row)
            assert_close(output[T - len(row) :, index], alone)
            for state, expected in zip(states_of(last), states_of(alone_last), strict=True):
                assert_close(state[:, index], expected)


def test_left_padding_of_nothing() -> None:
    layer = build("gru_cho", I, H)
    for shape in ((0, B, I), (T, 0, I), (0, 0, I)):
        x = torch.zeros(shape, dtype=torch.float64)
        assert layer(x, lengths=[0] * shape[1], padding="left")[0].shape == (*shape[:2], H)


def test_left_padding_compiles() -> None:
    torch._dynamo.reset()
    layer = build("lstm", I, H)
    compiled = torch.compile(layer, backend="aot_eager", fullgraph=True)
    lengths = torch.tensor(LENGTHS)
    expected, _ = layer(padded("left", False), lengths=lengths, padding="left")
    assert_close(compiled(padded("left", False), lengths=lengths, padding="left")[0], expected)


def test_padding_that_makes_no_sense_is_refused() -> None:
    layer = build("lstm", I, H)
    x = torch.zeros(T, B, I, dtype=torch.float64)
    with pytest.raises(ValueError, match="'right' or 'left'"):
        layer(x, lengths=LENGTHS, padding="both")
    with pytest.raises(ValueError, match="needs lengths"):
        layer(x, padding="left")


def nested(requires_grad: bool = False) -> Any:
    return torch.nested.nested_tensor(rows(), layout=torch.jagged, requires_grad=requires_grad)


@pytest.mark.parametrize("options", LAYERS, ids=str)
@pytest.mark.parametrize(("name", "backend"), RUNS)
def test_nested_tensors_as_padding_with_lengths(name: str, backend: str | None, options: dict[str, Any]) -> None:
    layer = layer_of(name, options).eval()
    hx = zeros_or_random(name, layer.num_layers * layer.num_directions, B, layer.hidden_size)
    every = backend != "torch" or name == "gru"
    x, dense = nested(requires_grad=True), padded("right", layer.batch_first)
    with recurra.backend(backend) if backend else nullcontext():
        output, last, *states = layer(x, hx, return_all_states=every)
        expected, expected_last, *expected_states = layer(dense, hx, lengths=LENGTHS, return_all_states=every)
    assert output.offsets() is x.offsets()
    for state, expected_state in zip(states_of(last), states_of(expected_last), strict=True):
        assert not state.is_nested
        assert_close(state, expected_state)
    pairs = [(output, expected)]
    pairs += [*zip(*([v for s in lists for of in s for v in of] for lists in (states, expected_states)), strict=True)]
    for jagged, value in pairs:
        value = value if layer.batch_first else value.transpose(0, 1)
        for row, part in enumerate(jagged.unbind()):
            assert_close(part, value[row, : LENGTHS[row]])
    for actual, wanted in zip(
        backward(layer, [output.values(), *states_of(last)]),
        [gradient.clone() for gradient in backward(layer, [expected, *states_of(expected_last)])],
        strict=True,
    ):
        assert_close(actual, wanted)
    for row, part in enumerate(x.grad.unbind()):
        assert_close(part, (dense.grad if layer.batch_first else dense.grad.transpose(0, 1))[row, : LENGTHS[row]])


def test_a_nested_output_meets_its_input() -> None:
    x = nested()
    output, _ = build("gru", I, I)(x)
    assert torch.equal((output + x).values(), output.values() + x.values())


def test_nested_tensors_of_nothing() -> None:
    layer = build("lstm", I, H)
    x = torch.nested.nested_tensor([torch.zeros(0, I, dtype=torch.float64)] * 2, layout=torch.jagged)
    output, (h, _) = layer(x)
    assert output.values().shape == (0, H) and h.shape == (1, 2, H)


def test_nested_tensors_that_do_not_fit_are_refused() -> None:
    layer = build("lstm", I, H)
    with pytest.raises(ValueError, match=r"layout=torch\.jagged"):
        layer(torch.nested.nested_tensor(rows()))
    with pytest.raises(ValueError, match=r"\(B, j, I\)"):
        layer(nested().transpose(1, 2))
    with pytest.raises(ValueError, match=r"\(B, j, I\)"):
        layer(nested().unsqueeze(-1))
    holes = torch.nested.narrow(torch.zeros(2, 5, I), 1, torch.tensor([0, 1]), torch.tensor([2, 3]), torch.jagged)
    with pytest.raises(ValueError, match=r"\(B, j, I\)"):
        layer(holes)
    with pytest.raises(ValueError, match="brings its own lengths"):
        layer(nested(), lengths=LENGTHS)
    with pytest.raises(ValueError, match="convert"):
        layer(nested().float())
    with pytest.raises(RuntimeError, match="last dimension"):
        build("lstm", I + 1, H)(nested())


@pytest.mark.parametrize(
    "convert",
    [
        np.array,
        lambda lengths: np.array(lengths, dtype=np.uint16),
        lambda lengths: np.array(lengths, dtype=">i4"),
        lambda lengths: np.array([lengths, lengths]).T[:, 0],
        lambda lengths: [np.int64(length) for length in lengths],
        lambda lengths: tuple(np.int32(length) for length in lengths),
        lambda lengths: list(torch.tensor(lengths)),
        tuple,
    ],
)
@pytest.mark.parametrize("name", ["lstm", "gru_cho"])
def test_lengths_from_numpy(name: str, convert: Any) -> None:
    layer = build(name, I, H)
    x = padded("right", False)
    expected, _ = layer(x, lengths=torch.tensor(LENGTHS))
    assert torch.equal(layer(x, lengths=convert(LENGTHS))[0], expected)


@pytest.mark.parametrize(
    "lengths",
    [
        np.array([1.0, 2.0, 0.0, 1.0]),
        np.array([True] * B),
        np.array([T + 1, 0, 0, 0]),
        np.array([-1, 0, 0, 0]),
        np.array([LENGTHS]),
        np.array(3),
        np.array([], dtype=np.int64),
    ],
    ids=str,
)
def test_bad_lengths_from_numpy(lengths: np.ndarray) -> None:
    with pytest.raises(ValueError, match="length"):
        build("lstm", I, H)(padded("right", False), lengths=lengths)


@pytest.fixture
def elsewhere() -> Iterator[None]:
    """A default device on which nothing could be computed."""
    torch.set_default_device("meta")
    yield
    torch.set_default_device(None)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
def test_another_default_device(kind: str, backend: str | None, elsewhere: None) -> None:
    with torch.device("cpu"):
        layer = getattr(recurra, kind)(I, H, 2, dtype=torch.float64, learn_initial_state=True)
        right, left, jagged = padded("right", False), padded("left", False), nested()
        expected, expected_last = layer(right, lengths=LENGTHS)
        expected_left, _ = layer(left, lengths=LENGTHS, padding="left")
    with recurra.backend(backend) if backend else nullcontext():
        for lengths in (LENGTHS, np.array(LENGTHS), torch.tensor(LENGTHS, device="cpu")):
            output, last = layer(right, lengths=lengths)
            assert_close(output, expected)
            assert_close(states_of(last)[0], states_of(expected_last)[0])
            assert_close(layer(left, lengths=lengths, padding="left")[0], expected_left)
        assert_close(states_of(layer(jagged)[1])[0], states_of(expected_last)[0])
