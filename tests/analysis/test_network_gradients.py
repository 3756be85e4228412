"""Recurrent layers within networks: what they read, and gradients against autograd and finite differences."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import recurra
from recurra.analysis.network_gradients import read_network
from recurra.analysis.untrained import noise
from recurra.errors import ConfigError

from .known_layers import a_layer


class Network(nn.Module):
    """Two stacks, the first bidirectional, the second called one step at a time."""

    def __init__(self) -> None:
        super().__init__()
        self.below = a_layer("lstm", bidirectional=True, num_layers=2)
        self.above = recurra.GRU(10, 3, dtype=torch.float64)
        self.requires_grad_(False)

    def forward(self, x: Tensor, lengths: Any = None, change: Any = None) -> Tensor:
        read = self.below(x, lengths=lengths)[0]
        hx = torch.zeros(1, x.shape[1], 3, dtype=torch.float64)
        for t, step in enumerate(read.split(1)):
            if change is not None and change[0] == t:
                hx = hx + change[1]
            _, hx = self.above(step, hx)
        return hx.sin().sum()


def test_layers_are_found_by_name_and_steps_joined_to_sequences() -> None:
    network, x = Network(), noise(6, 2, 2)
    found = {(each.module, each.layer, each.direction): each for each in read_network(network, [lambda: network(x)])}
    assert list(found) == [("below", 0, 0), ("below", 0, 1), ("below", 1, 0), ("below", 1, 1), ("above", 0, 0)]
    (steps,) = found["above", 0, 0].steps
    assert (steps.length, steps.batch) == (6, 2)
    assert float(steps.vectors[-1].sin().sum()) == pytest.approx(float(network(x)), rel=1e-12)
    assert list(found["below", 0, 0].log_norms) == ["h", "c"]


def test_the_gradients_of_a_stepped_layer_are_finite_differences() -> None:
    network, x = Network(), noise(6, 1, 2)
    above = read_network(network, [lambda: network(x)])[-1]
    for t in range(1, 6):
        gradient = []
        for unit in range(3):
            change = torch.zeros(1, 1, 3, dtype=torch.float64)
            change[..., unit] = 1e-5
            up, down = (float(network(x, change=(t, sign * change))) for sign in (1, -1))
            gradient.append((up - down) / 2e-5)
        # The state that step t begins with is the one after t steps, which has 6 - t steps to go.
        assert math.exp(above.log_norms["h"][6 - t, 0]) == pytest.approx(float(np.linalg.norm(gradient)), rel=1e-6)


@pytest.mark.parametrize("direction", [0, 1])
def test_rows_of_a_padded_batch_have_the_gradients_that_they_have_alone(direction: int) -> None:
    layers = a_layer("lstm", bidirectional=True, num_layers=2).requires_grad_(False)
    x, lengths = noise(6, 3, 2), [6, 2, 4]

    def loss(rows: Tensor, counts: list[int]) -> Tensor:
        return layers(rows, lengths=counts)[0].sin().sum()

    together = read_network(layers, [lambda: loss(x, lengths)])
    places = [(each.layer, each.direction) for each in together]
    found = together[places.index((0, direction))]
    assert found.module == ""
    for row, length in enumerate(lengths):
        alone = read_network(layers, [lambda r=row, n=length: loss(x[:n, r : r + 1], [n])])
        wanted = alone[places.index((0, direction))].log_norms
        for state in ("h", "c"):
            table = found.log_norms[state][:, row]
            np.testing.assert_allclose(table[:length], wanted[state][:, 0], rtol=1e-9)
            assert np.isnan(table[length:]).all()
    assert sorted(steps.length for steps in found.steps) == [2, 4, 6]


def test_the_backward_direction_counts_from_its_own_last_step() -> None:
    # A loss of the first output alone: nothing is nearer to the backward direction's last step than the step before.
    layers = a_layer("rnn_tanh", bidirectional=True).requires_grad_(False)
    x = noise(5, 1, 2)
    backward = read_network(layers, [lambda: layers(x)[0][0, :, 5:].sum()])[1]
    assert backward.direction == 1
    assert math.exp(backward.log_norms["h"][0, 0]) == pytest.approx(math.sqrt(5))
    turned = a_layer("rnn_tanh", bidirectional=True).requires_grad_(False)
    with torch.no_grad():
        for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
            getattr(turned, f"{name}_l0").copy_(getattr(layers, f"{name}_l0_reverse"))
    forward = read_network(turned, [lambda: turned(x.flip(0))[0][-1, :, :5].sum()])[0]
    np.testing.assert_allclose(backward.log_norms["h"], forward.log_norms["h"], rtol=1e-9)


def test_texts_of_several_losses_stand_side_by_side_and_a_layer_kept_as_it_is_has_no_gradients() -> None:
    layers = a_layer("gru").requires_grad_(False)

    def frozen() -> Tensor:
        with torch.no_grad():
            layers(noise(3, 1, 2))
        return layers(noise(4, 1, 2))[0].sum()

    (found,) = read_network(layers, [lambda: layers(noise(3, 1, 2))[0].sum(), lambda: layers(noise(5, 2, 2))[0].sum()])
    assert found.log_norms["h"].shape == (5, 3)
    (found,) = read_network(layers, [frozen])
    assert found.log_norms == {}
    assert sum(steps.batch for steps in found.steps) == 2


def test_a_network_without_recurrent_layers_is_refused() -> None:
    with pytest.raises(ConfigError, match="no recurrent layer"):
        read_network(nn.Linear(2, 2), [])
