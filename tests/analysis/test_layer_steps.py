"""The steps of a layer are those that the layer takes, in every cell, layer and direction."""

from __future__ import annotations

import pytest
import torch

import recurra
from recurra.analysis.layer_steps import steps_of, steps_of_call
from recurra.analysis.untrained import noise
from recurra.errors import ConfigError
from recurra.kernels import LayerCall
from recurra.kernels.dispatch import running_layers
from recurra.kernels.reference import run as run_reference

from .known_layers import a_layer


@pytest.mark.parametrize("cell", recurra.cells.names())
def test_the_states_are_those_of_the_layer(cell: str) -> None:
    layer = a_layer(cell, zoneout=0.25).eval()
    x = noise(6, 3, 2)
    with torch.no_grad():
        _, _, states = layer(x, return_all_states=True)
    steps = steps_of(layer, x)
    torch.testing.assert_close(steps.vectors[1:], torch.cat(tuple(states[0]), dim=-1))
    assert steps.vectors.shape == (7, 3, 5 * len(layer.cell.states))


@pytest.mark.parametrize("layer", [0, 1])
@pytest.mark.parametrize("direction", [0, 1])
def test_each_layer_and_direction_of_a_stack_can_be_taken(layer: int, direction: int) -> None:
    stack = a_layer("lstm", num_layers=2, bidirectional=True, dropout=0.5, weight_dropout=0.5, learn_initial_state=True)
    with torch.no_grad():
        stack.initial_c_l1.copy_(torch.randn(2, 5))
    x = noise(6, 3, 2)
    steps = steps_of(stack, x, layer=layer, direction=direction)
    assert stack.training
    with torch.no_grad():
        _, _, states = stack.eval()(x, return_all_states=True)
    both = torch.cat([each.chunk(2, dim=-1)[direction] for each in states[layer]], dim=-1)
    torch.testing.assert_close(steps.vectors[1:], both.flip(0) if direction else both)


def test_batch_first_and_a_projection() -> None:
    layer = a_layer("lstm", proj_size=3, batch_first=True)
    x = noise(6, 3, 2).transpose(0, 1)
    with torch.no_grad():
        _, _, states = layer(x, return_all_states=True)
    steps = steps_of(layer, x)
    assert steps.widths == [3, 5]
    torch.testing.assert_close(steps.vectors[1:, :, :3], states[0].h.transpose(0, 1))


def test_rows_of_different_lengths_are_parted_and_the_backward_direction_begins_at_each_rows_end() -> None:
    layer = a_layer("gru", bidirectional=True)
    x, lengths = noise(6, 4, 2), [6, 2, 6, 0]
    calls: list[LayerCall] = []

    def keep(call: LayerCall) -> object:
        calls.append(call)
        return run_reference(call)

    with torch.no_grad(), running_layers(keep):  # type: ignore[arg-type]
        layer(x, lengths=lengths)
    found = steps_of_call(calls[0], direction=1)
    assert [(each.length, each.batch) for each in found] == [(6, 2), (2, 1)]
    short = steps_of(layer, x[:2, 1:2], direction=1)
    torch.testing.assert_close(found[1].vectors, short.vectors)


@pytest.mark.parametrize("cell", recurra.cells.names())
def test_the_jacobian_of_a_step_is_autograds(cell: str) -> None:
    steps = steps_of(a_layer(cell), noise(5, 2, 2))
    found = dict(steps.jacobians(numbers=1))
    assert list(found) == [4, 3, 2, 1, 0]
    for t, jacobian in found.items():
        for row in range(2):
            product, before = steps.products[t, row : row + 1], steps.vectors[t, row : row + 1]
            wanted = torch.autograd.functional.jacobian(lambda v, p=product: steps.step_vector(p, v), before)
            torch.testing.assert_close(jacobian[row], wanted[0, :, 0])
    in_pieces = dict(steps.jacobians(numbers=1))
    for t, jacobian in steps.jacobians():
        torch.testing.assert_close(jacobian, in_pieces[t])


@pytest.mark.parametrize(
    ("given", "said"),
    [({"layer": 1}, "there is no layer 1"), ({"direction": 1}, "there is no direction 1")],
)
def test_what_the_stack_lacks_is_refused(given: dict[str, int], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        steps_of(a_layer("gru"), noise(3, 1, 2), **given)


def test_states_that_overflow_are_refused() -> None:
    layer = a_layer("rnn_relu")
    with torch.no_grad():
        layer.weight_hh_l0.copy_(100 * torch.eye(5))
    with pytest.raises(ConfigError, match="overflow within 400 steps"):
        _ = steps_of(layer, noise(400, 1, 2)).vectors
