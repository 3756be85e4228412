"""Every published cell, against recurrences written by hand from the papers and against relations between the cells."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn
from torch.func import functional_call

import recurra

from ..layers.builders import assert_close, build, numpy_state, states_of, zeros_or_random
from ..layers.oracles import CELLS, run_stack

DEVICES = ["cpu"] + (["cuda"] if torch.cuda.is_available() else [])
NAMES = sorted(CELLS)
T, B, I, H = 6, 3, 4, 5


def rows(layer: nn.Module, name: str, gate: str) -> slice:
    index = CELLS[name].gates.index(gate)
    size = layer.weight_hh_l0.shape[0] // len(CELLS[name].gates)
    return slice(index * size, (index + 1) * size)


def copy_gates(source: nn.Module, source_name: str, target: nn.Module, target_name: str, pairs: dict[str, str]) -> None:
    """Copy gate `pairs[g]` of source into gate g of target, and the peepholes that both have."""
    with torch.no_grad():
        for key in ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0"):
            for gate, origin in pairs.items():
                value = getattr(source, key)[rows(source, source_name, origin)]
                getattr(target, key)[rows(target, target_name, gate)] = value
        for key in ("weight_ci_l0", "weight_cf_l0", "weight_co_l0"):
            if hasattr(source, key) and hasattr(target, key):
                getattr(target, key).copy_(getattr(source, key))


def saturate(layer: nn.Module, name: str, gate: str) -> None:
    """Hold a sigmoid gate at exactly 1: sigma(60) rounds to 1 in float64."""
    with torch.no_grad():
        layer.weight_ih_l0[rows(layer, name, gate)] = 0
        layer.weight_hh_l0[rows(layer, name, gate)] = 0
        layer.bias_ih_l0[rows(layer, name, gate)] = 60
        layer.bias_hh_l0[rows(layer, name, gate)] = 0
        if hasattr(layer, f"weight_c{gate}_l0"):
            getattr(layer, f"weight_c{gate}_l0").zero_()


def sequence(seed: int = 3) -> torch.Tensor:
    return torch.randn(T, B, I, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def assert_same_sequence(one: nn.Module, other: nn.Module, name: str) -> None:
    hx = zeros_or_random(name, 1, B, H)
    (output, last), (other_output, other_last) = one(sequence(), hx), other(sequence(), hx)
    assert_close(output, other_output)
    for state, other_state in zip(states_of(last), states_of(other_last), strict=True):
        assert_close(state, other_state)


def test_registry_has_exactly_the_published_cells() -> None:
    assert sorted(recurra.cells.names()) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_states_gates_and_parameters(name: str) -> None:
    oracle = CELLS[name]
    cell = recurra.cells.get(name)
    assert tuple(cell.states) == oracle.states
    assert len(cell.gates) == len(oracle.gates)
    if not name.startswith("rnn"):
        assert tuple(cell.gates) == oracle.gates
    rows_in_all = len(oracle.gates) * H
    expected = {
        "weight_ih_l0": (rows_in_all, I),
        "weight_hh_l0": (rows_in_all, H),
        "bias_ih_l0": (rows_in_all,),
        "bias_hh_l0": (rows_in_all,),
        **{f"{key}_l0": (H,) for key in oracle.vectors},
        **{f"{key}_l0": (H, H) for key in oracle.matrices},
    }
    assert {key: tuple(value.shape) for key, value in build(name).named_parameters()} == expected
    without = {key for key in expected if not key.startswith("bias")}
    assert {key for key, _ in build(name, bias=False).named_parameters()} == without


@pytest.mark.parametrize("name", NAMES)
def test_docstring_cites_its_paper(name: str) -> None:
    doc = type(recurra.cells.get(name)).__doc__ or ""
    assert any(str(year) in doc for year in range(1985, 2027))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("name", NAMES)
def test_sequence_equals_the_hand_written_recurrence(name: str, bias: bool, device: str) -> None:
    layer = build(name, I, H, bias=bias, device=device)
    x, hx = sequence(), zeros_or_random(name, 1, B, H)
    on_device = tuple(state.to(device) for state in states_of(hx))
    output, last = layer(x.to(device), on_device if len(on_device) > 1 else on_device[0])
    expected, expected_last, _ = run_stack(name, numpy_state(layer), x.numpy(), tuple(map(np.asarray, states_of(hx))))
    assert_close(output, expected)
    assert len(states_of(last)) == len(expected_last)
    for state, expected_state in zip(states_of(last), expected_last, strict=True):
        assert_close(state, expected_state)


def gradient_inputs(name: str, layer: nn.Module) -> tuple[list[str], tuple[torch.Tensor, ...]]:
    names = [key for key, _ in layer.named_parameters()]
    x = sequence()[:3, :2, :2].clone().requires_grad_()
    states = [state.requires_grad_() for state in states_of(zeros_or_random(name, 1, 2, 2))]
    return names, (x, *states, *(value.detach().clone().requires_grad_() for _, value in layer.named_parameters()))


def through(layer: nn.Module, names: list[str], count: int) -> Callable[..., tuple[torch.Tensor, ...]]:
    def function(x: torch.Tensor, *rest: torch.Tensor) -> tuple[torch.Tensor, ...]:
        hx = rest[:count] if count > 1 else rest[0]
        output, last = functional_call(layer, dict(zip(names, rest[count:], strict=True)), (x, hx))
        return output, *states_of(last)

    return function


@pytest.mark.parametrize("name", NAMES)
def test_first_derivatives(name: str) -> None:
    layer = build(name, 2, 2)
    names, inputs = gradient_inputs(name, layer)
    assert torch.autograd.gradcheck(through(layer, names, len(CELLS[name].states)), inputs)


@pytest.mark.parametrize("name", NAMES)
def test_second_derivatives(name: str) -> None:
    layer = build(name, 2, 2)
    names, inputs = gradient_inputs(name, layer)
    # Fast mode projects both Jacobians on random directions: the slow one is quadratic in the number of parameters.
    function = through(layer, names, len(CELLS[name].states))
    assert torch.autograd.gradgradcheck(function, inputs, fast_mode=True)


@pytest.mark.parametrize(
    ("variant", "gate"), [("lstm_nig", "i"), ("lstm_nfg", "f"), ("lstm_nog", "o")], ids=["nig", "nfg", "nog"]
)
def test_a_missing_gate_is_a_gate_held_open(variant: str, gate: str) -> None:
    full, without = build("lstm_peephole"), build(variant)
    saturate(full, "lstm_peephole", gate)
    copy_gates(full, "lstm_peephole", without, variant, {name: name for name in CELLS[variant].gates})
    assert_same_sequence(full, without, variant)


def test_lstm_of_1997_is_lstm_that_never_forgets() -> None:
    later, first = build("lstm"), build("lstm_1997")
    saturate(later, "lstm", "f")
    copy_gates(later, "lstm", first, "lstm_1997", {name: name for name in "igo"})
    assert_same_sequence(later, first, "lstm")


def test_peephole_lstm_with_closed_peepholes_is_lstm() -> None:
    peephole, plain = build("lstm_peephole"), build("lstm")
    with torch.no_grad():
        for key in ("weight_ci_l0", "weight_cf_l0", "weight_co_l0"):
            getattr(peephole, key).zero_()
    copy_gates(peephole, "lstm_peephole", plain, "lstm", {name: name for name in "ifgo"})
    assert_same_sequence(peephole, plain, "lstm")


def test_full_gate_recurrence_without_its_matrices_is_peephole_lstm() -> None:
    full, peephole = build("lstm_fgr"), build("lstm_peephole")
    with torch.no_grad():
        for key in CELLS["lstm_fgr"].matrices:
            getattr(full, f"{key}_l0").zero_()
    copy_gates(full, "lstm_fgr", peephole, "lstm_peephole", {name: name for name in "ifgo"})
    hx = zeros_or_random("lstm_fgr", 1, B, H)
    output, last = full(sequence(), hx)
    expected, expected_last = peephole(sequence(), hx[:2])
    assert_close(output, expected)
    for state, expected_state in zip(last[:2], expected_last, strict=True):
        assert_close(state, expected_state)


def test_coupled_gates_are_peephole_lstm_with_opposite_gates() -> None:
    coupled, free = build("lstm_cifg"), build("lstm_peephole")
    copy_gates(coupled, "lstm_cifg", free, "lstm_peephole", {"i": "i", "f": "i", "g": "g", "o": "o"})
    with torch.no_grad():  # 1 - sigma(a) = sigma(-a)
        for key in ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0"):
            getattr(free, key)[rows(free, "lstm_peephole", "f")] *= -1
        free.weight_cf_l0.copy_(-coupled.weight_ci_l0)
    assert_same_sequence(coupled, free, "lstm_cifg")


def test_both_grus_agree_when_nothing_is_reset_and_z_is_turned_round() -> None:
    published, fused = build("gru_cho"), build("gru")
    saturate(published, "gru_cho", "r")
    copy_gates(published, "gru_cho", fused, "gru", {name: name for name in "rzn"})
    with torch.no_grad():
        for key in ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0"):
            getattr(fused, key)[rows(fused, "gru", "z")] *= -1
    assert_same_sequence(published, fused, "gru")


def test_minimal_gated_unit_is_the_published_gru_with_one_gate_for_both() -> None:
    minimal, published = build("mgu"), build("gru_cho")
    copy_gates(minimal, "mgu", published, "gru_cho", {"r": "f", "z": "f", "n": "n"})
    assert_same_sequence(minimal, published, "mgu")


def test_janet_starts_from_its_forget_gate_alone() -> None:
    """All weights 0: h -> sigma(0) h + (1 - sigma(-1)) tanh(b), in closed form."""
    layer = build("janet", 1, 1)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.zero_()
        layer.bias_ih_l0[1] = 0.25
    output, _ = layer(torch.zeros(3, 1, 1, dtype=torch.float64), torch.full((1, 1, 1), 2.0, dtype=torch.float64))
    gain = (1 - 1 / (1 + np.e)) * np.tanh(0.25)
    expected = [1 + gain, 0.5 + 1.5 * gain, 0.25 + 1.75 * gain]
    assert_close(output.flatten(), expected)
