"""No steps, no sequences, single units, long sequences, saturation; and bad arguments that torch.nn does not have."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import recurra
from recurra.errors import RecurraError

from .builders import assert_close, build, states_of, zeros_or_random
from .oracles import CELLS

NAMES = sorted(CELLS)
T, B, I, H = 6, 3, 4, 5
EMPTY = [(0, B), (T, 0), (0, 0)]


def sequence(*shape: int) -> torch.Tensor:
    return torch.randn(shape or (T, B, I), generator=torch.Generator().manual_seed(3), dtype=torch.float64)


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize(("time", "batch"), EMPTY)
@pytest.mark.parametrize("name", NAMES)
def test_no_steps_or_no_sequences(name: str, time: int, batch: int, bidirectional: bool, device: torch.device) -> None:
    layer = build(name, I, H, 2, bidirectional=bidirectional, device=device)
    x = sequence(time, batch, I).to(device).requires_grad_()
    hx = zeros_or_random(name, 2 * (1 + bidirectional), batch, H, device=device)
    for state in states_of(hx):
        state.requires_grad_()
    output, last, states = layer(x, hx, return_all_states=True)
    assert output.shape == (time, batch, H * (1 + bidirectional))
    assert output.dtype == torch.float64 and output.device == x.device
    assert all(value.shape == output.shape for of_layer in states for value in of_layer)
    for state, first in zip(states_of(last), states_of(hx), strict=True):
        assert torch.equal(state, first)
    assert layer(x)[0].shape == output.shape
    assert layer(x, lengths=[0] * batch)[0].shape == output.shape
    (output.sum() + sum(state.sum() for state in states_of(last))).backward()
    assert all(torch.equal(state.grad, torch.ones_like(state)) for state in states_of(hx))
    assert all(parameter.grad is None or not parameter.grad.any() for parameter in layer.parameters())


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
@pytest.mark.parametrize(("time", "batch"), EMPTY)
def test_drop_ins_take_empty_input(kind: str, time: int, batch: int) -> None:
    layer = getattr(recurra, kind)(I, H, 2, bidirectional=True, batch_first=True)
    output, last = layer(torch.zeros(batch, time, I))
    assert output.shape == (batch, time, 2 * H)
    assert all(state.shape == (4, batch, H) and not state.any() for state in states_of(last))


@pytest.mark.parametrize("options", [{"residual": "residual"}, {"residual": "highway"}, {"weight_dropout": 0.5},
                                     {"locked_dropout": 0.5, "input_dropout": 0.5}, {"zoneout": 0.5},
                                     {"recurrent_dropout": 0.5}, {"learn_initial_state": True}], ids=str)  # fmt: skip
@pytest.mark.parametrize("name", ["lstm", "gru_cho"])
@pytest.mark.parametrize(("time", "batch"), EMPTY)
def test_empty_input_with_every_option(name: str, options: dict[str, Any], time: int, batch: int) -> None:
    assert build(name, I, H, 3, **options)(sequence(time, batch, I))[0].shape == (time, batch, H)


@pytest.mark.parametrize("name", NAMES)
def test_single_step_single_unit(name: str) -> None:
    layer = build(name, 1, 1, 2, bidirectional=True)
    output, last = layer(sequence(1, 1, 1))
    assert output.shape == (1, 1, 2) and output.isfinite().all()
    assert_close(states_of(last)[0][2:].flatten(), output.flatten())


@pytest.mark.parametrize("name", NAMES)
def test_inputs_are_left_as_they_were(name: str) -> None:
    layer = build(name, I, H, 2, bidirectional=True)
    x, hx = sequence(), zeros_or_random(name, 4, B, H)
    for lengths in (None, [3, 6, 0]):
        layer(x, hx, lengths=lengths, return_all_states=True)
        assert torch.equal(x, sequence())
        for state, original in zip(states_of(hx), states_of(zeros_or_random(name, 4, B, H)), strict=True):
            assert torch.equal(state, original)


@pytest.mark.parametrize("name", NAMES)
def test_memory_layout_does_not_matter(name: str) -> None:
    layer = build(name, I, H, 2)
    expected, _ = layer(sequence())
    strided = sequence().permute(2, 1, 0).contiguous().permute(2, 1, 0)
    assert not strided.is_contiguous()
    assert_close(layer(strided)[0], expected)
    repeated = sequence(1, 1, I).expand(T, B, I)
    assert_close(layer(repeated)[0], layer(repeated.contiguous())[0])
    hx = zeros_or_random(name, 2, 1, H)
    wide = tuple(state.expand(2, B, H) for state in states_of(hx))
    packed = tuple(state.contiguous() for state in wide)
    one, other = (group if len(group) > 1 else group[0] for group in (wide, packed))
    assert_close(layer(sequence(), one)[0], layer(sequence(), other)[0])


@pytest.mark.parametrize("name", NAMES)
def test_a_row_does_not_see_the_others(name: str) -> None:
    layer = build(name, I, H, 2, bidirectional=True)
    output, _ = layer(sequence())
    for row in range(B):
        assert_close(layer(sequence()[:, row : row + 1])[0], output[:, row : row + 1])


@pytest.mark.parametrize("name", NAMES)
def test_states_carry_a_sequence_over_a_cut(name: str) -> None:
    layer = build(name, I, H, 2)
    expected, expected_last = layer(sequence())
    first, middle = layer(sequence()[:2])
    second, last = layer(sequence()[2:], middle)
    assert_close(torch.cat([first, second]), expected)
    for state, expected_state in zip(states_of(last), states_of(expected_last), strict=True):
        assert_close(state, expected_state)


@pytest.mark.parametrize("size", [1e4, -1e4])
@pytest.mark.parametrize("name", [name for name in NAMES if name not in ("rnn_relu", "lstm_niaf")])
def test_saturation_is_finite(name: str, size: float) -> None:
    """Bounded activations stay finite, and so do their gradients, however large the input."""
    layer = build(name, I, H, dtype=torch.float32)
    x = torch.full((T, B, I), size, requires_grad=True)
    output, _ = layer(x)
    output.sum().backward()
    assert output.isfinite().all() and x.grad.isfinite().all()
    assert all(parameter.grad.isfinite().all() for parameter in layer.parameters())


@pytest.mark.parametrize("name", ["lstm_peephole", "gru_cho"])
def test_a_long_sequence_needs_no_deep_recursion(name: str) -> None:
    layer = build(name, 1, 2)
    x = sequence(3000, 1, 1).requires_grad_()
    layer(x)[0][-1].sum().backward()
    assert x.grad.isfinite().all() and x.grad[-1].abs().sum() > 0


@pytest.mark.parametrize("name", NAMES)
def test_no_gradient_is_recorded_without_need(name: str) -> None:
    layer = build(name, I, H)
    with torch.no_grad():
        assert not layer(sequence())[0].requires_grad
    with torch.inference_mode():
        assert layer(sequence())[0].is_inference()
    layer.requires_grad_(False)
    assert not layer(sequence())[0].requires_grad


@pytest.mark.parametrize(
    ("name", "nearest"),
    [("lstm_peepholes", "lstm_peephole"), ("gru-cho", "gru_cho"), ("janett", "janet")],
)
def test_unknown_cells_name_the_nearest(name: str, nearest: str) -> None:
    with pytest.raises((ValueError, RecurraError), match=rf"{nearest}\b"):
        recurra.Recurrent(name, I, H)


@pytest.mark.parametrize(
    ("arguments", "error", "word"),
    [
        ({"hidden_size": [4, 5], "num_layers": 3}, ValueError, "hidden_size"),
        ({"hidden_size": []}, ValueError, "hidden_size"),
        ({"hidden_size": [4, 0]}, ValueError, "hidden_size"),
        ({"hidden_size": [4, 5.0], "num_layers": 2}, TypeError, "hidden_size"),
        ({"residual": "dense"}, ValueError, "residual"),
        ({"merge": "max"}, ValueError, "merge"),
        ({"hidden_size": 0}, ValueError, "hidden_size"),
        ({"input_size": 0}, ValueError, "input_size"),
        ({"num_layers": 0}, ValueError, "num_layers"),
        ({"proj_size": 5}, ValueError, "proj_size"),
    ],
    ids=str,
)
@pytest.mark.parametrize("name", ["lstm", "gru_cho"])
def test_bad_arguments(name: str, arguments: dict[str, Any], error: type[Exception], word: str) -> None:
    with pytest.raises(error, match=word):
        recurra.Recurrent(name, **{"input_size": I, "hidden_size": H, **arguments})


def test_forget_bias_needs_a_forget_gate() -> None:
    for name in ("rnn_tanh", "lstm_1997", "lstm_nfg"):
        with pytest.raises(ValueError, match="forget"):
            recurra.Recurrent(name, I, H, forget_bias=1.0)


@pytest.mark.parametrize("name", NAMES)
def test_wrong_number_of_states(name: str) -> None:
    layer = build(name, I, H)
    one = torch.zeros(1, B, H, dtype=torch.float64)
    with pytest.raises((ValueError, TypeError, RuntimeError)):
        layer(sequence(), (one,) * (len(CELLS[name].states) + 1))
