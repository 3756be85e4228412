"""lengths=: a padded batch gives what each sequence gives alone, whatever lies in the padding."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

import recurra
from recurra.kernels import record_backends
from recurra.kernels.cpu import compiled

from .builders import assert_close, build, states_of, zeros_or_random
from .oracles import CELLS

NAMES = sorted(CELLS)
T, I, H = 7, 3, 4
LENGTHS = [4, 7, 1, 0, 6]


def sequences(batch: int, device: torch.device | str = "cpu") -> Tensor:
    generator = torch.Generator().manual_seed(4)
    return torch.randn(T, batch, I, generator=generator, dtype=torch.float64).to(device)


def rows_of(hx: Any, row: int) -> Any:
    return tuple(s[:, row : row + 1] for s in hx) if isinstance(hx, tuple) else hx[:, row : row + 1]


def spoil(x: Tensor, lengths: list[int], value: float = float("nan")) -> Tensor:
    """The same sequences with `value` in the padding."""
    x = x.clone()
    for row, length in enumerate(lengths):
        x[length:, row] = value
    return x


def assert_each_as_if_alone(layer: nn.Module, name: str, lengths: list[int], as_lengths: Any) -> None:
    device = layer.weight_ih_l0.device
    rows = layer.num_layers * (2 if layer.bidirectional else 1)
    x = sequences(len(lengths), device)
    hx = zeros_or_random(name, rows, len(lengths), H, device=device)
    output, last = layer(spoil(x, lengths), hx, lengths=as_lengths)
    assert output.shape == (T, len(lengths), H * (2 if layer.bidirectional else 1))
    for row, length in enumerate(lengths):
        assert (output[length:, row] == 0).all()
        if length == 0:
            for state, first in zip(states_of(last), states_of(hx), strict=True):
                assert torch.equal(state[:, row], first[:, row])
            continue
        alone, alone_last = layer(x[:length, row : row + 1], rows_of(hx, row))
        assert_close(output[:length, row : row + 1], alone)
        for state, alone_state in zip(states_of(last), states_of(alone_last), strict=True):
            assert_close(state[:, row : row + 1], alone_state)


@pytest.mark.parametrize("num_layers", [1, 2])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_each_sequence_as_if_alone(name: str, bidirectional: bool, num_layers: int, device: torch.device) -> None:
    layer = build(name, I, H, num_layers, bidirectional=bidirectional, device=device)
    assert_each_as_if_alone(layer, name, LENGTHS, torch.tensor(LENGTHS, device=device))


@pytest.mark.parametrize("name", ["lstm", "gru_cho"])
@pytest.mark.parametrize(
    "convert",
    [list, tuple, torch.tensor, lambda lengths: torch.tensor(lengths, dtype=torch.int32)],
    ids=["list", "tuple", "int64", "int32"],
)
def test_kinds_of_lengths(name: str, convert: Any, device: torch.device) -> None:
    layer = build(name, I, H, 2, bidirectional=True, device=device)
    assert_each_as_if_alone(layer, name, LENGTHS, convert(LENGTHS))
    assert_each_as_if_alone(layer, name, [2, 3, 1], convert([2, 3, 1]))
    assert_each_as_if_alone(layer, name, [T, T], convert([T, T]))


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("name", ["rnn_tanh", "lstm", "gru", "gru_cho", "mgu", "lstm_peephole"])
@settings(max_examples=12, derandomize=True)
@given(lengths=st.lists(st.integers(0, T), min_size=1, max_size=6))
def test_any_lengths(name: str, bidirectional: bool, lengths: list[int]) -> None:
    layer = build(name, I, H, 2, bidirectional=bidirectional)
    assert_each_as_if_alone(layer, name, lengths, torch.tensor(lengths))


@pytest.mark.parametrize("name", NAMES)
def test_padding_reaches_no_gradient(name: str, device: torch.device) -> None:
    layer = build(name, I, H, 2, bidirectional=True, device=device)
    gradients = []
    for padding in (0.0, float("nan"), 1e30):
        x = spoil(sequences(5, device), LENGTHS, padding).requires_grad_()
        layer.zero_grad()
        output, last = layer(x, lengths=torch.tensor(LENGTHS))
        (output.square().sum() + sum(state.square().sum() for state in states_of(last))).backward()
        for row, length in enumerate(LENGTHS):
            assert (x.grad[length:, row] == 0).all()
        gradients.append([x.grad, *(parameter.grad.clone() for parameter in layer.parameters())])
    for clean, *others in zip(*gradients, strict=True):
        assert clean.abs().sum() > 0
        for other in others:
            assert_close(other, clean)


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
def test_lengths_equal_torch_packing(kind: str, batch_first: bool, device: torch.device) -> None:
    lengths = [4, 7, 1, 6]
    options: dict[str, Any] = {"num_layers": 2, "bidirectional": True, "batch_first": batch_first}
    theirs = getattr(nn, kind)(I, H, **options, dtype=torch.float64, device=device)
    ours = getattr(recurra, kind)(I, H, **options, dtype=torch.float64, device=device)
    ours.load_state_dict(theirs.state_dict())
    x = sequences(4, device)
    x = x.transpose(0, 1) if batch_first else x
    packed = pack_padded_sequence(x, torch.tensor(lengths), batch_first, enforce_sorted=False)
    packed_output, expected_last = theirs(packed)
    expected, _ = pad_packed_sequence(packed_output, batch_first, total_length=T)
    output, last = ours(x, lengths=torch.tensor(lengths, device=device))
    assert_close(output, expected)
    for state, expected_state in zip(states_of(last), states_of(expected_last), strict=True):
        assert_close(state, expected_state)


@pytest.mark.parametrize("enforce_sorted", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_packing_equals_lengths_for_every_cell(name: str, enforce_sorted: bool, device: torch.device) -> None:
    layer = build(name, I, H, 2, bidirectional=True, device=device)
    lengths = torch.tensor([7, 6, 4, 1] if enforce_sorted else [4, 7, 1, 6])
    x, hx = sequences(4, device), zeros_or_random(name, 4, 4, H, device=device)
    expected, expected_last = layer(x, hx, lengths=lengths)
    packed, last = layer(pack_padded_sequence(x, lengths, enforce_sorted=enforce_sorted), hx)
    output, output_lengths = pad_packed_sequence(packed)
    assert torch.equal(output_lengths, lengths)
    assert_close(output, expected)
    for state, expected_state in zip(states_of(last), states_of(expected_last), strict=True):
        assert_close(state, expected_state)


@pytest.mark.skipif(compiled.engine() is None, reason="this installation was built without the engine")
@pytest.mark.parametrize("options", [{"residual": "highway"}, {"merge": "mean"}, {"proj_size": 2}], ids=str)
def test_the_engine_takes_packed_input_as_it_is(options: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    layer = build("lstm", I, H, 2, bidirectional=True, **options)
    lengths = torch.tensor([4, 7, 1, 6])
    x = sequences(4)
    expected, expected_last = layer(x, lengths=lengths)
    packed = pack_padded_sequence(x, lengths, enforce_sorted=False)

    def refuse(*_: Any) -> None:
        raise AssertionError("padded")

    monkeypatch.setattr("recurra.layers.recurrent.PackedRows", refuse)
    monkeypatch.setattr("recurra.kernels.packing.PackedRows", refuse)
    with record_backends() as backends:
        output, last = layer(packed)
    assert backends == ["cpu", "cpu"]
    assert torch.equal(pad_packed_sequence(output)[0], expected)
    for state, expected_state in zip(states_of(last), states_of(expected_last), strict=True):
        assert torch.equal(state, expected_state)


@pytest.mark.skipif(compiled.engine() is None, reason="this installation was built without the engine")
def test_locked_dropout_of_packed_input_is_one_mask_a_sequence() -> None:
    layer = build("rnn_tanh", I, H, 1, input_dropout=0.5)
    seen = []
    handle = layer._locked
    layer._locked = lambda *arguments: seen.append(handle(*arguments)) or seen[-1]
    lengths = torch.tensor([7, 5, 2])
    layer(pack_padded_sequence(torch.ones(T, 3, I, dtype=torch.float64), lengths))
    masks, _ = pad_packed_sequence(PackedSequence(seen[0], torch.tensor([3, 3, 2, 2, 2, 1, 1])))
    for row, length in enumerate(lengths):
        assert (masks[:length, row] == masks[0, row]).all()
    assert set(masks[0].unique().tolist()) == {0.0, 2.0}


@pytest.mark.parametrize("name", ["lstm", "lstm_peephole", "gru", "janet"])
def test_all_states_within_the_lengths(name: str) -> None:
    layer = build(name, I, H, 2, bidirectional=True)
    x = sequences(len(LENGTHS))
    output, _, states = layer(spoil(x, LENGTHS), lengths=LENGTHS, return_all_states=True)
    assert_close(states[-1].h, output)
    for row, length in enumerate(LENGTHS):
        if length:
            _, _, alone = layer(x[:length, row : row + 1], return_all_states=True)
            for of_layer, alone_of_layer in zip(states, alone, strict=True):
                for state, alone_state in zip(of_layer, alone_of_layer, strict=True):
                    assert_close(state[:length, row : row + 1], alone_state)


@pytest.mark.parametrize("options", [{"residual": "residual"}, {"residual": "highway"}, {"merge": "sum"}], ids=str)
@pytest.mark.parametrize("name", ["lstm", "gru_cho"])
def test_padding_stays_silent_in_deep_stacks(name: str, options: dict[str, Any]) -> None:
    layer = build(name, I, H, 3, bidirectional=True, **options)
    x = sequences(len(LENGTHS))
    output, _ = layer(spoil(x, LENGTHS), lengths=LENGTHS)
    for row, length in enumerate(LENGTHS):
        assert (output[length:, row] == 0).all()
        if length:
            assert_close(output[:length, row : row + 1], layer(x[:length, row : row + 1])[0])


@pytest.mark.parametrize(
    "option", ["dropout", "input_dropout", "locked_dropout", "recurrent_dropout", "weight_dropout", "zoneout"]
)
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("name", ["lstm", "gru_cho"])
def test_padding_stays_silent_in_training(name: str, packed: bool, option: str) -> None:
    torch.manual_seed(0)
    layer = build(name, I, H, 2, bidirectional=True, **{option: 0.4})
    lengths = [4, 7, 1, 6]
    x = spoil(sequences(4), lengths).requires_grad_()
    if packed:
        sequence, _ = layer(pack_padded_sequence(x, torch.tensor(lengths), enforce_sorted=False))
        output, _ = pad_packed_sequence(sequence)
    else:
        output, _ = layer(x, lengths=lengths)
    for row, length in enumerate(lengths):
        assert (output[length:, row] == 0).all()
        assert output[:length, row].any()
    output.square().sum().backward()
    assert x.grad.isfinite().all()
    for parameter in layer.parameters():
        assert parameter.grad.isfinite().all() and parameter.grad.any()


@pytest.mark.parametrize("name", ["lstm", "gru_cho"])
def test_learnt_initial_state_is_the_end_of_an_empty_sequence(name: str) -> None:
    layer = build(name, I, H, 2, learn_initial_state=True)
    _, last = layer(sequences(2), lengths=[0, T])
    _, nothing = layer(sequences(2)[:0])
    for state, first in zip(states_of(last), states_of(nothing), strict=True):
        assert torch.equal(state[:, 0], first[:, 0])
        assert first.abs().sum() > 0


@pytest.mark.parametrize("name", ["lstm", "gru_cho"])
@pytest.mark.parametrize("lengths", [[T + 1, 2, 3], [-1, 2, 3], [2, 3], [1, 2, 3, 4], [], [[1, 2, 3]]], ids=str)
@pytest.mark.parametrize("convert", [list, torch.LongTensor], ids=["list", "tensor"])
def test_bad_lengths(name: str, lengths: Any, convert: Any) -> None:
    layer = build(name, I, H)
    with pytest.raises(ValueError, match="length"):
        layer(sequences(3), lengths=convert(lengths))


@pytest.mark.parametrize("name", ["lstm", "gru_cho"])
def test_fractional_lengths_are_refused(name: str) -> None:
    with pytest.raises((TypeError, ValueError), match="length"):
        build(name, I, H)(sequences(3), lengths=torch.tensor([1.5, 2.0, 3.0]))


@pytest.mark.parametrize("name", ["lstm", "gru_cho"])
def test_lengths_beside_packing_are_refused(name: str) -> None:
    packed = pack_padded_sequence(sequences(3), torch.tensor([7, 5, 2]))
    with pytest.raises((TypeError, ValueError), match="length"):
        build(name, I, H)(packed, lengths=[7, 5, 2])
