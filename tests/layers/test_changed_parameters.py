"""Layers whose parameters pruning, weight normalisation, subclasses or users have changed."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize, prune, spectral_norm, weight_norm

import recurra
from recurra.layers import flip_update_gate

from .builders import assert_close, build

I, H = 3, 4
KINDS = ["LSTM", "GRU", "RNN"]
CHANGES: dict[str, Callable[[nn.Module, str], Any]] = {
    "pruning": lambda layer, name: prune.l1_unstructured(layer, name, 0.3),
    "the old weight_norm": weight_norm,
    "the old spectral_norm": spectral_norm,
    "weight_norm": parametrizations.weight_norm,
    "spectral_norm": parametrizations.spectral_norm,
}
pytestmark = pytest.mark.filterwarnings("ignore:.*is deprecated:FutureWarning")


def pair(kind: str, **options: Any) -> tuple[nn.Module, nn.Module]:
    theirs, ours = getattr(nn, kind)(I, H, **options), getattr(recurra, kind)(I, H, **options)
    ours.load_state_dict(theirs.state_dict())
    return theirs, ours


def assert_same_parameters(ours: nn.Module, theirs: nn.Module) -> None:
    expected = dict(theirs.named_parameters())
    assert list(dict(ours.named_parameters())) == list(expected)
    for name, parameter in ours.named_parameters():
        assert torch.equal(parameter, expected[name]), name


@pytest.mark.parametrize("name", ["weight_ih_l0", "weight_hh_l1_reverse"])
@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("kind", KINDS)
def test_a_reset_draws_what_torch_draws(kind: str, change: str, name: str) -> None:
    layers = pair(kind, num_layers=2, bidirectional=True)
    outputs = []
    for layer in layers:
        torch.manual_seed(0)
        CHANGES[change](layer, name)
        torch.manual_seed(1)
        layer.reset_parameters()
    assert_same_parameters(layers[1], layers[0])
    if change != "spectral_norm":  # whose power iterations depend on how often the weight is looked at
        for layer in layers:
            outputs.append(layer(torch.ones(2, 1, I))[0])
        torch.testing.assert_close(outputs[1], outputs[0])


@pytest.mark.parametrize("kind", KINDS)
def test_a_reset_draws_a_subclasss_parameters_too(kind: str) -> None:
    layers = []
    for library in (nn, recurra):

        class Scaled(getattr(library, kind)):  # type: ignore[misc]
            def __init__(self) -> None:
                super().__init__(I, H)
                self.scale_lr = nn.Parameter(torch.ones(3))
                self.weight_lx = nn.Parameter(torch.ones(2))
                self.linear = nn.Linear(2, 2)

        layer = Scaled()
        torch.manual_seed(2)
        layer.reset_parameters()
        layers.append(layer)
    assert_same_parameters(layers[1], layers[0])


@pytest.mark.parametrize("change", ["pruning", "a parametrization"])
def test_start_values_survive_pruning_and_parametrizations(change: str) -> None:
    layer = build(
        "lstm", H, [H, H], 2, forget_bias=1.0, residual="highway", learn_initial_state=True, dtype=torch.float32
    )
    for name in ("bias_ih_l0", "bias_hh_l1", "bias_highway_l1", "initial_c_l0"):
        if change == "pruning":
            prune.random_unstructured(layer, name, 1)
        else:
            parametrize.register_parametrization(layer, name, Doubled())
    layer.reset_parameters()
    suffix = "_orig" if change == "pruning" else ""
    value = {name: getattr(layer, name + suffix) for name in ("bias_ih_l0", "bias_hh_l1", "bias_highway_l1")}
    assert (value["bias_ih_l0"].chunk(4)[1] == 1).all() and (value["bias_ih_l0"].chunk(4)[0] != 1).all()
    assert (value["bias_hh_l1"].chunk(4)[1] == 0).all() and value["bias_hh_l1"].chunk(4)[2].all()
    assert (value["bias_highway_l1"] == -1).all()
    assert not getattr(layer, "initial_c_l0" + suffix).any()
    assert layer.bias_ih_l1.chunk(4)[1].eq(1).all()


class Doubled(nn.Module):
    def forward(self, half: Tensor) -> Tensor:
        return half * 2

    def right_inverse(self, value: Tensor) -> Tensor:
        return value / 2


def test_bounds_follow_the_layer_of_a_pruned_weight() -> None:
    layer = build("lstm", I, [400, 1])
    prune.random_unstructured(layer, "weight_ih_l0", 1)
    prune.random_unstructured(layer, "weight_ih_l1", 1)
    layer.reset_parameters()
    assert layer.weight_ih_l0_orig.abs().max() <= 1 / 20 < layer.weight_ih_l1_orig.abs().max() <= 1


@pytest.mark.parametrize("kind", KINDS)
def test_a_deleted_weight_is_missed_only_by_forward(kind: str) -> None:
    for layer in pair(kind):
        weight = layer.weight_hh_l0
        del layer.weight_hh_l0
        layer.to(torch.float64).flatten_parameters()
        with pytest.raises(AttributeError):
            layer.all_weights  # noqa: B018
        assert layer._flat_weights[1] is None
        # As implementations of dropped weights do: the raw weight is a parameter and what is used is made from it.
        layer.register_parameter("weight_hh_l0_raw", nn.Parameter(weight.detach().double()))
        layer.weight_hh_l0 = layer.weight_hh_l0_raw * 0.5
        output, _ = layer(torch.ones(2, 1, I, dtype=torch.float64))
        output.sum().backward()
        assert layer.weight_hh_l0_raw.grad.any()
        layer.reset_parameters()
        assert repr(layer)


def test_a_parametrized_first_weight_is_not_computed_for_its_dtype() -> None:
    class Counting(nn.Module):
        calls = 0

        def forward(self, weight: Tensor) -> Tensor:
            Counting.calls += 1
            return weight

    layer = build("lstm", I, H)
    parametrize.register_parametrization(layer, "weight_ih_l0", Counting())
    Counting.calls = 0
    assert layer.weight_dtype == torch.float64 and layer.weight_device.type == "cpu"
    layer.double()
    layer(torch.ones(2, 1, I, dtype=torch.float64))
    assert Counting.calls == 1


@pytest.mark.parametrize("change", ["pruning", "weight_norm", "spectral_norm"])
def test_copies_of_changed_layers(change: str) -> None:
    layer = build("gru", I, H).eval()
    CHANGES[change](layer, "weight_hh_l0")
    x = torch.ones(2, 1, I, dtype=torch.float64)
    with torch.no_grad():
        expected, _ = layer(x)
        copies = [copy.deepcopy(layer)]
        if change == "pruning":  # torch pickles no parametrized module
            copies.append(pickle.loads(pickle.dumps(layer)))
        for other in copies:
            assert torch.equal(other(x)[0], expected)


def test_flipping_refuses_weights_that_are_made_from_others() -> None:
    for change in CHANGES.values():
        layer = recurra.GRU(I, H)
        change(layer, "weight_hh_l0")
        with pytest.raises(ValueError, match="parametriz"):
            flip_update_gate(layer.state_dict())


def test_flipping_takes_weights_of_a_gru_alone() -> None:
    with pytest.raises(ValueError, match="not of a GRU"):
        flip_update_gate(recurra.LSTM(I, 6).state_dict())
    others = {"embedding.weight": torch.ones(5, 2), "weight_hh_lora": torch.ones(2), "scale_l0": torch.ones(3)}
    layer = recurra.Recurrent("gru", I, H, 2, bidirectional=True, dtype=torch.float64)
    twice = flip_update_gate(flip_update_gate({**layer.state_dict(), **others}))
    for name, value in {**layer.state_dict(), **others}.items():
        assert_close(twice[name], value)
    once = flip_update_gate(layer.state_dict())
    assert torch.equal(once["weight_hh_l1_reverse"][H : 2 * H], -layer.weight_hh_l1_reverse[H : 2 * H])
    assert torch.equal(once["weight_hh_l1_reverse"][2 * H :], layer.weight_hh_l1_reverse[2 * H :])
