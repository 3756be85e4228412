"""The parts of torch.nn.RNNBase that other libraries reach for, against torch.nn's own."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import recurra

from .builders import build

I, H, B, T = 3, 5, 2, 4
LAYERS: list[tuple[str, dict[str, Any]]] = [
    ("LSTM", {}),
    ("LSTM", {"num_layers": 2, "bidirectional": True, "proj_size": 2}),
    ("GRU", {"batch_first": True}),
    ("GRU", {"num_layers": 2, "bias": False}),
    ("RNN", {"bidirectional": True}),
    ("RNN", {"nonlinearity": "relu", "batch_first": True}),
]


@pytest.fixture(params=LAYERS, ids=str)
def layers(request: pytest.FixtureRequest) -> tuple[Any, Any]:
    kind, options = request.param
    theirs, ours = getattr(nn, kind)(I, H, **options), getattr(recurra, kind)(I, H, **options)
    ours.load_state_dict(theirs.state_dict())
    return theirs, ours


def outcome(call: Callable[[], Any]) -> Any:
    try:
        return call()
    except Exception as error:
        return type(error)


def test_attributes(layers: tuple[Any, Any]) -> None:
    theirs, ours = layers
    for name in ("mode", "proj_size", "_flat_weights_names", "num_layers", "bidirectional", "hidden_size"):
        assert getattr(ours, name) == getattr(theirs, name)
    assert len(ours._flat_weights) == len(theirs._flat_weights)
    assert all(torch.equal(one, other) for one, other in zip(ours._flat_weights, theirs._flat_weights, strict=True))
    for one, other in zip(ours.all_weights, theirs.all_weights, strict=True):
        assert all(torch.equal(weight, expected) for weight, expected in zip(one, other, strict=True))
    assert ours.flatten_parameters() is None


def test_the_flat_weights_are_those_of_now(layers: tuple[Any, Any]) -> None:
    for layer in layers:
        weight = nn.Parameter(torch.zeros_like(layer.weight_hh_l0))
        layer.weight_hh_l0 = weight
        assert layer._flat_weights[layer._flat_weights_names.index("weight_hh_l0")] is weight


INPUTS: dict[str, tuple[Tensor, Tensor | None]] = {
    "padded": (torch.zeros(T, B, I), None),
    "packed": (torch.zeros(T, I), torch.tensor([2, 1, 1])),
    "two dimensions": (torch.zeros(T, I), None),
    "three packed dimensions": (torch.zeros(T, B, I), torch.tensor([2, 1, 1])),
    "another dtype": (torch.zeros(T, B, I, dtype=torch.float64), None),
    "another size": (torch.zeros(T, B, I + 1), None),
}


@pytest.mark.parametrize("case", INPUTS)
def test_checks(layers: tuple[Any, Any], case: str) -> None:
    input, batch_sizes = INPUTS[case]
    results = []
    for layer in layers:
        results.append([outcome(partial(layer.check_input, input, batch_sizes))])
        if input.dim() == 3 or batch_sizes is not None:
            size = layer.get_expected_hidden_size(input, batch_sizes)
            results[-1].append(size)
            several = isinstance(layer, nn.LSTM | recurra.LSTM)
            cell = layer.get_expected_cell_size(input, batch_sizes) if several else size
            for h, c in ((size, cell), ((size[0] + 1, *size[1:]), cell), (size, (*cell[:2], H + 1))):
                hidden = (torch.zeros(h), torch.zeros(c)) if several else torch.zeros(h)
                results[-1].append(
                    outcome(lambda layer=layer, hx=hidden: layer.check_forward_args(input, hx, batch_sizes))
                )
                results[-1].append(outcome(lambda layer=layer, h=h, s=size: layer.check_hidden_size(torch.zeros(h), s)))
    assert results[0] == results[1]


def test_check_hidden_size_takes_a_message() -> None:
    layer = recurra.LSTM(I, H)
    with pytest.raises(RuntimeError, match=r"wanted \(1, 2, 5\), got \[1, 2, 4\]"):
        layer.check_hidden_size(torch.zeros(1, 2, 4), (1, 2, 5), "wanted {}, got {}")


def test_permute_hidden(layers: tuple[Any, Any]) -> None:
    theirs, ours = layers
    order = torch.tensor([1, 0])
    state = torch.randn(2, B, H)
    hx = (state, state + 1) if isinstance(theirs, nn.LSTM) else state
    for permutation in (None, order):
        results = [layer.permute_hidden(hx, permutation) for layer in (theirs, ours)]
        expected, actual = (result if isinstance(result, tuple) else (result,) for result in results)
        assert all(torch.equal(one, other) for one, other in zip(actual, expected, strict=True))


def test_other_cells_and_sizes() -> None:
    assert [build(name, I, H).mode for name in ("lstm", "gru_cho", "lstm_peephole")] == [
        "LSTM",
        "gru_cho",
        "lstm_peephole",
    ]

    class Own(recurra.Cell):
        """One of a user's own."""

        gates = ("h",)

        def step(self, gate: Any, state: Any, weight: Any) -> Any:
            return recurra.cells.CELLS["rnn_tanh"].step(gate, state, weight)

    assert recurra.Recurrent(Own(), I, H).mode == "Own"
    layer = build("lstm_fgr", I, [4, 5])
    assert "weight_ci_l0" in layer._flat_weights_names
    with pytest.raises(RuntimeError, match="different sizes"):
        layer.get_expected_hidden_size(torch.zeros(T, B, I), None)
    hx = [torch.arange(2.0).view(1, 2, 1)] * 2
    assert layer.permute_hidden((hx, hx), torch.tensor([1, 0]))[1][0].flatten().tolist() == [1, 0]
