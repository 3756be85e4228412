"""Locked dropout, zoneout and weight dropout: the exact structure of masks in training, exact identities afterwards."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import recurra

from .builders import assert_close, build, numpy_state, states_of, zeros_or_random
from .oracles import CELLS, Weights

NAMES = sorted(CELLS)
REGULARISERS: list[dict[str, Any]] = [
    {"dropout": 0.4},
    {"input_dropout": 0.4},
    {"locked_dropout": 0.4},
    {"recurrent_dropout": 0.4},
    {"weight_dropout": 0.4},
]
T, B, H = 8, 40, 50


def echo(num_layers: int = 1, recurrent: bool = False, **options: Any) -> nn.Module:
    """A relu net that repeats its input, or with `recurrent` adds it to what it holds, so that its masks show."""
    layer = recurra.Recurrent("rnn_relu", H, H, num_layers, bias=False, dtype=torch.float64, **options)
    with torch.no_grad():
        for name, parameter in layer.named_parameters():
            if name.startswith("weight_ih"):
                parameter.copy_(torch.eye(H))
            elif name.startswith("weight_hh"):
                parameter.copy_(torch.eye(H) * recurrent)
    return layer


def ones() -> Tensor:
    return torch.ones(T, B, H, dtype=torch.float64)


def impulse() -> Tensor:
    x = torch.zeros(T, B, H, dtype=torch.float64)
    x[0] = 1
    return x


def assert_rate(dropped: Tensor, p: float) -> None:
    """`dropped` holds independent draws of probability p: five standard deviations, a chance of one in two million."""
    assert abs(dropped.double().mean().item() - p) < 5 * (p * (1 - p) / dropped.numel()) ** 0.5


@pytest.mark.parametrize("p", [0.25, 0.5])
@pytest.mark.parametrize(("option", "num_layers"), [("input_dropout", 1), ("locked_dropout", 2)])
def test_one_mask_a_sequence(option: str, num_layers: int, p: float, device: torch.device) -> None:
    torch.manual_seed(0)
    layer = echo(num_layers, **{option: p}, device=device)
    output, _ = layer(ones().to(device))
    assert torch.equal(output, output[:1].expand_as(output))
    mask = output[0]
    assert_close(mask[mask != 0], torch.full_like(mask[mask != 0], 1 / (1 - p)))
    assert_rate(mask == 0, p)
    assert mask.unique(dim=0).shape[0] == B  # another mask for every sequence
    assert not torch.equal(layer(ones().to(device))[0], output)


def test_ordinary_dropout_draws_anew_at_every_step() -> None:
    torch.manual_seed(0)
    output, _ = echo(2, dropout=0.5)(ones())
    assert set(output.unique().tolist()) == {0.0, 2.0}
    assert_rate(output == 0, 0.5)
    assert_rate((output[1:] == 0) != (output[:-1] == 0), 0.5)


def test_each_gap_between_layers_has_its_own_locked_mask() -> None:
    torch.manual_seed(0)
    output, _ = echo(3, locked_dropout=0.5)(ones())
    assert torch.equal(output, output[:1].expand_as(output))
    assert set(output.unique().tolist()) == {0.0, 4.0}
    assert_rate(output[0] == 0, 0.75)


def test_locked_dropout_spares_the_last_layer() -> None:
    assert torch.equal(echo(1, locked_dropout=0.5)(ones())[0], ones())


@pytest.mark.parametrize("p", [0.25, 0.5])
def test_recurrent_mask_is_one_for_the_whole_sequence(p: float, device: torch.device) -> None:
    torch.manual_seed(0)
    output, _ = echo(recurrent=True, recurrent_dropout=p, device=device)(impulse().to(device))
    assert (output[0] == 1).all()
    alive = output[1] != 0
    assert_rate(~alive, p)
    steps = torch.arange(T, dtype=torch.float64, device=device).view(-1, 1, 1)
    expected = (1 / (1 - p)) ** steps * torch.where(steps > 0, alive.double(), 1.0)
    assert_close(output, expected)


def test_recurrent_dropout_acts_in_every_layer_and_direction() -> None:
    torch.manual_seed(0)
    layer = echo(2, recurrent=True, recurrent_dropout=0.5, bidirectional=True, merge="sum")
    _, _, states = layer(ones(), return_all_states=True)
    for of_layer in states:
        assert of_layer.h[..., :H].unique(dim=-1).shape[-1] > 1
        assert of_layer.h[..., H:].unique(dim=-1).shape[-1] > 1


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("options", REGULARISERS, ids=str)
def test_evaluation_is_the_plain_layer(name: str, options: dict[str, Any]) -> None:
    regularised = build(name, 4, 5, 2, bidirectional=True, **options)
    plain = build(name, 4, 5, 2, bidirectional=True)
    assert list(regularised.state_dict()) == list(plain.state_dict())
    plain.load_state_dict(regularised.state_dict())
    x, hx = torch.randn(6, 3, 4, dtype=torch.float64), zeros_or_random(name, 4, 3, 5)
    regularised.eval()
    output, last = regularised(x, hx)
    expected, expected_last = plain(x, hx)
    assert_close(output, expected)
    for state, expected_state in zip(states_of(last), states_of(expected_last), strict=True):
        assert_close(state, expected_state)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("options", [*REGULARISERS, {"zoneout": 0.4}], ids=str)
def test_training_is_random_and_differentiable(name: str, options: dict[str, Any]) -> None:
    layer = build(name, 6, 7, 2, bidirectional=True, **options)
    x = torch.randn(6, 5, 6, dtype=torch.float64)
    torch.manual_seed(0)
    first, _ = layer(x)
    second, _ = layer(x)
    assert not torch.allclose(first, second)
    torch.manual_seed(0)
    again, _ = layer(x)
    assert torch.equal(first, again)
    first.square().sum().backward()
    for key, parameter in layer.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), key
        assert parameter.grad.abs().sum() > 0, key


@pytest.mark.parametrize("name", ["rnn_tanh", "lstm", "lstm_peephole", "gru", "gru_cho", "mgu", "janet"])
def test_zoneout_evaluates_to_its_expectation(name: str) -> None:
    """Krueger et al. 2017: every state becomes p * previous + (1 - p) * new, new h coming from the unmixed c."""
    p = 0.3
    layer = build(name, 4, 5, zoneout=p).eval()
    x, hx = torch.randn(6, 3, 4, dtype=torch.float64), zeros_or_random(name, 1, 3, 5)
    output, last = layer(x, hx)
    cell = CELLS[name]
    weights = Weights({key.removesuffix("_l0"): value for key, value in numpy_state(layer).items()}, cell.gates)
    states = {field: state[0].numpy() for field, state in zip(cell.states, states_of(hx), strict=True)}
    expected = []
    for step in x.numpy():
        new = cell.step(weights, step, states)
        states = {field: p * states[field] + (1 - p) * new[field] for field in cell.states}
        expected.append(states["h"])
    assert_close(output, np.stack(expected))
    for field, state in zip(cell.states, states_of(last), strict=True):
        assert_close(state[0], states[field])


@pytest.mark.parametrize("name", ["rnn_tanh", "lstm", "lstm_peephole", "gru", "gru_cho", "mgu", "janet"])
def test_zoneout_trains_by_keeping_units(name: str, device: torch.device) -> None:
    p = 0.3
    torch.manual_seed(0)
    layer = build(name, 4, H, zoneout=p, device=device)
    plain = build(name, 4, H, device=device)
    plain.load_state_dict(layer.state_dict())
    x = torch.randn(1, B, 4, dtype=torch.float64, device=device)
    hx = zeros_or_random(name, 1, B, H, device=device)
    _, last = layer(x, hx)
    _, new = plain(x, hx)
    kept = []
    for previous, fresh, state in zip(states_of(hx), states_of(new), states_of(last), strict=True):
        kept.append(state == previous)
        assert_close(torch.where(kept[-1], fresh, state), fresh)
        assert_rate(kept[-1], p)
    if len(kept) > 1:  # h and c draw their own masks
        assert_rate(kept[0] & kept[1], p * p)


def test_zoneout_draws_anew_at_every_step() -> None:
    torch.manual_seed(0)
    output, _ = build("gru_cho", 4, H, zoneout=0.5)(torch.randn(T, B, 4, dtype=torch.float64))
    kept = output[1:] == output[:-1]
    assert_rate(kept, 0.5)
    assert_rate(kept[1:] != kept[:-1], 0.5)


@pytest.mark.parametrize("name", NAMES)
def test_weight_dropout_neither_warns_nor_renames(name: str, device: torch.device) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        layer = build(name, 4, 5, 2, weight_dropout=0.5, device=device)
        keys = list(layer.state_dict())
        x = torch.randn(6, 3, 4, dtype=torch.float64, device=device)
        weight = layer.weight_hh_l0
        before = weight.detach().clone()
        layer(x)[0].square().sum().backward()
        layer.flatten_parameters()
        layer(x)
    assert layer.weight_hh_l0 is weight and isinstance(weight, nn.Parameter)
    assert torch.equal(weight, before)
    assert keys == list(layer.state_dict()) == list(build(name, 4, 5, 2).state_dict())
    assert (layer.weight_hh_l0.grad != 0).any() and (layer.weight_hh_l1.grad != 0).any()


def test_weight_dropout_zeroes_weights_for_all_steps_at_once() -> None:
    """With one unit a sequence and weight 1, the net counts while its weight lives and echoes when it is dropped."""
    torch.manual_seed(0)
    layer = recurra.Recurrent("rnn_relu", 1, 1, bias=False, dtype=torch.float64, weight_dropout=0.5)
    with torch.no_grad():
        layer.weight_ih_l0.fill_(1), layer.weight_hh_l0.fill_(1)
    x = torch.zeros(4, 3, 1, dtype=torch.float64)
    x[0] = 1
    seen = {tuple(layer(x)[0].flatten().tolist()) for _ in range(40)}
    dropped = tuple(torch.tensor([1.0, 0, 0, 0]).repeat_interleave(3).tolist())
    kept = tuple(torch.tensor([1.0, 2, 4, 8]).repeat_interleave(3).tolist())
    assert seen == {dropped, kept}


def test_weight_dropout_reaches_only_recurrent_weights() -> None:
    torch.manual_seed(0)
    layer = echo(2, weight_dropout=0.5)  # recurrent weights are zero, so nothing can change
    assert torch.equal(layer(ones())[0], ones())


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
def test_drop_ins_take_the_regularisers(kind: str) -> None:
    everything = {"input_dropout": 0.2, "locked_dropout": 0.2, "recurrent_dropout": 0.2, "weight_dropout": 0.2}
    torch.manual_seed(0)
    layer = getattr(recurra, kind)(4, 5, 2, **everything, zoneout=0.1)
    x = torch.randn(6, 3, 4)
    assert not torch.equal(layer(x)[0], layer(x)[0])
    layer.eval()
    assert torch.equal(layer(x)[0], layer(x)[0])


@pytest.mark.parametrize(
    "option", ["input_dropout", "locked_dropout", "recurrent_dropout", "zoneout", "weight_dropout", "dropout"]
)
@pytest.mark.parametrize("value", [-0.1, 1.5, float("nan")])
def test_probabilities_are_checked(option: str, value: float) -> None:
    with pytest.raises(ValueError, match=option):
        recurra.Recurrent("gru_cho", 4, 5, 2, **{option: value})


@pytest.mark.parametrize("option", ["input_dropout", "locked_dropout", "recurrent_dropout", "weight_dropout"])
def test_masks_that_drop_everything_are_refused(option: str) -> None:
    """Their scale 1 / (1 - p) would be infinite, and infinity times zero is NaN."""
    with pytest.raises(ValueError, match=option):
        recurra.Recurrent("gru_cho", 4, 5, 2, **{option: 1.0})
