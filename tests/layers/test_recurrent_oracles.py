"""Stacks, directions, widths, skips and merges of recurra.Recurrent, against hand-composed NumPy recurrences."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import recurra
from recurra.kernels import cpu_engine

from .builders import TORCH_CELLS, assert_close, build, numpy_state, randomise, states_of, zeros_or_random
from .oracles import CELLS, run_layer, run_stack

NAMES = sorted(CELLS)
T, B, I, H = 6, 3, 4, 5


def sequence(*shape: int) -> torch.Tensor:
    return torch.randn(shape or (T, B, I), generator=torch.Generator().manual_seed(3), dtype=torch.float64)


def to(device: torch.device, hx: Any) -> Any:
    return tuple(state.to(device) for state in hx) if isinstance(hx, tuple) else hx.to(device)


def oracle(layer: nn.Module, name: str, x: torch.Tensor, hx: Any, layers: int, both: bool) -> Any:
    return run_stack(name, numpy_state(layer), x.numpy(), tuple(map(np.asarray, states_of(hx))), layers, both)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_stack_equals_the_oracle(name: str, bidirectional: bool, bias: bool, device: torch.device) -> None:
    layer = build(name, I, H, 2, bidirectional=bidirectional, bias=bias, device=device)
    x, hx = sequence(), zeros_or_random(name, 2 * (1 + bidirectional), B, H)
    output, last = layer(x.to(device), to(device, hx))
    expected, expected_last, _ = oracle(layer, name, x, hx, 2, bidirectional)
    assert_close(output, expected)
    for state, expected_state in zip(states_of(last), expected_last, strict=True):
        assert_close(state, expected_state)


@pytest.mark.parametrize("name", NAMES)
def test_states_start_at_zero_and_batch_first_only_turns_the_input(name: str) -> None:
    layer = build(name, I, H, 2, batch_first=True)
    x = sequence()
    output, last = layer(x.transpose(0, 1))
    expected, expected_last, _ = oracle(layer, name, x, zeros_or_random(name, 2, B, H, random=False), 2, False)
    assert_close(output.transpose(0, 1), expected)
    for state, expected_state in zip(states_of(last), expected_last, strict=True):
        assert_close(state, expected_state)


@pytest.mark.parametrize("name", NAMES)
def test_unbatched_input(name: str) -> None:
    layer = build(name, I, H, 2, bidirectional=True)
    x, hx = sequence(), zeros_or_random(name, 4, B, H)
    one = tuple(state[:, 1] for state in states_of(hx))
    output, last = layer(x[:, 1], one if len(one) > 1 else one[0])
    expected, expected_last, _ = oracle(layer, name, x, hx, 2, True)
    assert_close(output, expected[:, 1])
    for state, expected_state in zip(states_of(last), expected_last, strict=True):
        assert_close(state, expected_state[:, 1])


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_every_state_of_every_step(name: str, bidirectional: bool) -> None:
    layer = build(name, I, H, 2, bidirectional=bidirectional)
    x, hx = sequence(), zeros_or_random(name, 2 * (1 + bidirectional), B, H)
    output, last, states = layer(x, hx, return_all_states=True)
    plain_output, plain_last = layer(x, hx)
    assert_close(output, plain_output)
    for state, plain_state in zip(states_of(last), states_of(plain_last), strict=True):
        assert_close(state, plain_state)
    _, _, expected = oracle(layer, name, x, hx, 2, bidirectional)
    assert len(states) == 2
    for of_layer, expected_of_layer in zip(states, expected, strict=True):
        assert of_layer._fields == CELLS[name].states
        for field, value in of_layer._asdict().items():
            assert_close(value, expected_of_layer[field])


def test_projection_leaves_the_cell_state_wide() -> None:
    layer = build("lstm", I, H, 2, proj_size=2, bidirectional=True)
    output, (h, c), states = layer(sequence(), return_all_states=True)
    assert output.shape == (T, B, 4) and h.shape == (4, B, 2) and c.shape == (4, B, H)
    assert states[0].h.shape == (T, B, 4) and states[0].c.shape == (T, B, 2 * H)
    assert_close(states[1].h, output)
    assert_close(states[1].c[-1, :, :H], c[2])
    assert_close(states[1].c[0, :, H:], c[3])


@pytest.mark.parametrize("name", ["lstm", "lstm_peephole", "lstm_fgr", "gru", "gru_cho", "mgu"])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_a_width_for_each_layer(name: str, bidirectional: bool) -> None:
    widths, ways = [5, 3, 4], 1 + bidirectional
    layer = build(name, I, widths, len(widths), bidirectional=bidirectional)
    count = len(CELLS[name].states)
    first = [states_of(zeros_or_random(name, ways, B, width, seed=width)) for width in widths]
    hx = tuple([of_layer[index] for of_layer in first] for index in range(count))
    output, last, states = layer(sequence(), hx if count > 1 else hx[0], return_all_states=True)
    last = last if count > 1 else (last,)
    x = sequence().numpy()
    for index, width in enumerate(widths):
        tail = f"_l{index}"
        parameters = {
            key.replace(tail, "_l0"): value
            for key, value in numpy_state(layer).items()
            if key.removesuffix("_reverse").endswith(tail)
        }
        initial = tuple(np.asarray(state) for state in first[index])
        x, expected_last, expected_states = run_stack(name, parameters, x, initial, 1, bidirectional)
        assert x.shape == (T, B, ways * width)
        for state, expected in zip(last, expected_last, strict=True):
            assert isinstance(state, list) and len(state) == len(widths)
            assert_close(state[index], expected)
        for field, value in states[index]._asdict().items():
            assert_close(value, expected_states[0][field])
    assert_close(output, x)
    default_output, _ = layer(sequence())
    zeros = tuple([torch.zeros_like(state) for state in of_state] for of_state in hx)
    assert_close(default_output, layer(sequence(), zeros if count > 1 else zeros[0])[0])


def test_widths_alone_say_how_many_layers() -> None:
    layer = recurra.Recurrent("gru_cho", I, (5, 3))
    assert layer.num_layers == 2
    assert layer.weight_hh_l1.shape == (9, 3)


def single(layer: nn.Module, name: str, index: int, input_size: int, **options: Any) -> nn.Module:
    """Layer `index` of a stack as a stack of its own."""
    alone = build(name, input_size, H, 1, **options)
    mine = {key.removesuffix("_reverse"): key for key in layer.state_dict() if key.endswith("_reverse")}
    state = {
        key.replace(f"_l{index}", "_l0"): value for key, value in layer.state_dict().items() if f"_l{index}" in key
    }
    assert not options.get("bidirectional") or mine
    alone.load_state_dict({key: state[key] for key in alone.state_dict()})
    return alone


@pytest.mark.parametrize("input_size", [I, H])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("name", ["rnn_tanh", "lstm", "gru", "gru_cho", "lstm_peephole"])
def test_residual_stack_adds_each_upper_layer_to_its_input(name: str, bidirectional: bool, input_size: int) -> None:
    layer = build(name, input_size, H, 3, bidirectional=bidirectional, residual="residual")
    plain = build(name, input_size, H, 3, bidirectional=bidirectional)
    assert list(layer.state_dict()) == list(plain.state_dict())
    x = sequence(T, B, input_size)
    expected = single(layer, name, 0, input_size, bidirectional=bidirectional)(x)[0]
    width = H * (1 + bidirectional)
    for index in (1, 2):
        expected = single(layer, name, index, width, bidirectional=bidirectional)(expected)[0] + expected
    assert_close(layer(x)[0], expected)


@pytest.mark.parametrize("residual", ["residual", "highway"])
def test_skips_need_layers_of_one_width(residual: str) -> None:
    with pytest.raises(ValueError, match=residual):
        build("gru_cho", I, [5, 5, 3], 3, residual=residual)
    assert build("gru_cho", I, [5, 5, 5], 3, residual=residual)(sequence())[0].shape == (T, B, 5)


@pytest.mark.parametrize("name", ["lstm", "gru_cho"])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_highway_stack_lies_between_carrying_and_transforming(name: str, bidirectional: bool) -> None:
    layer = build(name, I, H, 2, bidirectional=bidirectional, residual="highway")
    plain = build(name, I, H, 2, bidirectional=bidirectional)
    extra = set(layer.state_dict()) - set(plain.state_dict())
    assert extra and set(plain.state_dict()) <= set(layer.state_dict())
    carried = single(layer, name, 0, I, bidirectional=bidirectional)(sequence())[0]
    transformed = single(layer, name, 1, H * (1 + bidirectional), bidirectional=bidirectional)(carried)[0]
    output, _ = layer(sequence())
    gate = (output - carried) / (transformed - carried)
    assert ((gate > 0) & (gate < 1)).all()
    assert gate.std() > 0
    output.square().sum().backward()
    gradients = {key: value.grad for key, value in layer.named_parameters()}
    assert all(gradients[key].abs().sum() > 0 for key in extra)


@pytest.mark.parametrize("name", ["lstm", "gru", "gru_cho", "lstm_peephole"])
@pytest.mark.parametrize("merge", ["sum", "mean"])
def test_directions_merge_by_sum_or_mean(name: str, merge: str) -> None:
    layer = build(name, I, H, 2, bidirectional=True, merge=merge)
    assert layer.weight_ih_l1.shape[1] == H
    parameters = numpy_state(layer)
    x = sequence().numpy()
    for index in range(2):
        zero = {state: np.zeros((B, H)) for state in CELLS[name].states}
        ways = []
        for suffix in ("", "_reverse"):
            tail = f"_l{index}{suffix}"
            own = {key.removesuffix(tail): value for key, value in parameters.items() if key.endswith(tail)}
            ways.append(run_layer(name, own, x, zero, reverse=bool(suffix))["h"])
        x = (ways[0] + ways[1]) / (2 if merge == "mean" else 1)
    output, last = layer(sequence())
    assert_close(output, x)
    assert all(state.shape == (4, B, H) for state in states_of(last))


@pytest.mark.parametrize("value", [0.0, 1.0, 2.5])
@pytest.mark.parametrize("name", ["lstm", "lstm_peephole", "lstm_nig", "lstm_fgr", "janet"])
def test_forget_bias_is_the_sum_of_both_biases(name: str, value: float) -> None:
    layer = recurra.Recurrent(name, I, H, 2, bidirectional=True, forget_bias=value)
    where = CELLS[name].gates.index("f")
    for tail in ("_l0", "_l0_reverse", "_l1", "_l1_reverse"):
        into, recurrent = getattr(layer, f"bias_ih{tail}"), getattr(layer, f"bias_hh{tail}")
        rows = slice(where * H, (where + 1) * H)
        assert torch.equal(into[rows], torch.full((H,), value))
        assert torch.equal(recurrent[rows], torch.zeros(H))
        others = torch.cat([into[: rows.start], into[rows.stop :]])
        assert others.unique().numel() > 1


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("bidirectional", [False, True])
def test_learnt_initial_state(name: str, bidirectional: bool) -> None:
    layer = build(name, I, H, 2, bidirectional=bidirectional, learn_initial_state=True)
    plain = build(name, I, H, 2, bidirectional=bidirectional)
    extra = [key for key in layer.state_dict() if key not in plain.state_dict()]
    assert extra
    plain.load_state_dict({key: layer.state_dict()[key] for key in plain.state_dict()})
    with torch.no_grad():
        for key in extra:
            layer.get_parameter(key).fill_(0.3)
    rows = 2 * (1 + bidirectional)
    filled = tuple(torch.full((rows, B, H), 0.3, dtype=torch.float64) for _ in CELLS[name].states)
    output, _ = layer(sequence())
    assert_close(output, plain(sequence(), filled if len(filled) > 1 else filled[0])[0])
    output.square().sum().backward()
    assert all(layer.get_parameter(key).grad.abs().sum() > 0 for key in extra)
    given = zeros_or_random(name, rows, B, H)
    assert_close(layer(sequence(), given)[0], plain(sequence(), given)[0])


@pytest.mark.parametrize("name", NAMES)
def test_which_backend_ran(name: str, device: torch.device) -> None:
    layer = build(name, I, H, 2, device=device)
    x = sequence().to(device)
    with recurra.kernels.record_backends() as names:
        output, _ = layer(x)
    if device.type == "cpu" and cpu_engine.engine() is not None:
        assert set(names) == {"cpu"}
    else:
        assert set(names) == {"torch" if name in TORCH_CELLS else "reference"}
    with recurra.backend("reference"), recurra.kernels.record_backends() as names:
        reference, _ = layer(x)
    assert set(names) == {"reference"}
    assert_close(output, reference)


@pytest.mark.parametrize("name", NAMES)
def test_float32_stays_within_its_rounding(name: str, device: torch.device) -> None:
    layer = build(name, I, H, 2, dtype=torch.float32, device=device)
    randomise(layer, scale=0.3)
    x, hx = sequence(), zeros_or_random(name, 2, B, H, random=False)
    expected, _, _ = oracle(layer, name, x, hx, 2, False)
    output, _ = layer(x.float().to(device))
    assert output.dtype == torch.float32
    # Two layers of six steps: about a hundred roundings of 6e-8 each, on values below one.
    assert_close(output.double(), expected, 1e-5)
