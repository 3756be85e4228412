"""The operators' schemas, which stored graphs rely on, and the way of a layer call through an operator's arguments."""

from __future__ import annotations

from dataclasses import fields

import pytest
import torch
from torch import Tensor

import recurra
from recurra.kernels.call import LayerCall
from recurra.kernels.known_cells import key_of
from recurra.kernels.operators.arguments import flatten, gradients_of, needs_of, unflatten

# As graphs that were stored by version 0.1.0 have them.
CALL = (
    "str cell, Tensor input, Tensor[] states, Tensor[] weights, Tensor? lengths, Tensor? recurrent_mask, "
    "float zoneout, Tensor[] zoneout_masks, bool all_states, bool bias, bool projection, "
    "Tensor? resets, Tensor[] restart"
)
SCHEMAS = {
    "layer": f"({CALL}) -> Tensor[]",
    "layer_backward": f"(Tensor[] gradients, {CALL}) -> Tensor[]",
    "layer_training": f"({CALL}, bool autocast) -> Tensor[]",
    "layer_training_backward": (
        f"(Tensor?[] gradients, Tensor[] recorded, Tensor kept, Tensor ran, bool[] needs, {CALL}, bool autocast) "
        "-> Tensor[]"
    ),
}


@pytest.mark.parametrize("name", SCHEMAS)
def test_stored_graphs_find_the_operators_that_they_name(name: str) -> None:
    assert str(getattr(torch.ops.recurra, name).default._schema) == f"recurra::{name}{SCHEMAS[name]}"


def full_call() -> LayerCall:
    """Two directions of a projected LSTM, with every option set; each number in its tensors is another one."""
    numbers = iter(range(10_000))

    def tensor(*shape: int) -> Tensor:
        count = torch.Size(shape).numel()
        return torch.tensor([next(numbers) for _ in range(count)], dtype=torch.float32).view(shape)

    def weights() -> dict[str, Tensor]:
        shapes = {"weight_ih": (16, 3), "weight_hh": (16, 2), "bias_ih": (16,), "bias_hh": (16,), "weight_hr": (2, 4)}
        return {name: tensor(*shape) for name, shape in shapes.items()}

    return LayerCall(
        recurra.cells.CELLS["lstm"],
        tensor(5, 2, 3),
        (tensor(2, 2, 2), tensor(2, 2, 4)),
        (weights(), weights()),
        lengths=torch.tensor([5, 3]),
        recurrent_mask=tensor(2, 2, 2),
        zoneout=0.25,
        zoneout_masks=(tensor(5, 2, 4) > 0, tensor(5, 2, 8) > 0),
        all_states=True,
        resets=tensor(5, 2) > 0,
        restart=(tensor(2, 1, 2), tensor(2, 1, 4)),
    )


def test_a_call_comes_back_from_its_arguments() -> None:
    call = full_call()
    back = unflatten(*flatten(call))
    for name in (field.name for field in fields(LayerCall)):
        before, after = getattr(call, name), getattr(back, name)
        if name == "key":
            assert after == key_of(call.cell)
        elif name == "weights":
            assert [list(direction) for direction in after] == [list(direction) for direction in before]
            assert [[id(w) for w in d.values()] for d in after] == [[id(w) for w in d.values()] for d in before]
        elif isinstance(before, tuple):
            assert len(before) == len(after) and all(a is b for a, b in zip(before, after, strict=True)), name
        else:
            assert before is after, name


def test_each_leaf_gets_its_own_gradient_and_nothing_else_gets_one() -> None:
    call = full_call()
    arguments = flatten(call)
    gradients = gradients_of(arguments, [leaf + 0.5 for leaf in call.leaves()])
    given = 0
    for argument, gradient in zip(arguments, gradients, strict=True):
        several = isinstance(argument, list)
        pairs = zip(argument, gradient, strict=True) if several else [(argument, gradient)]
        for value, one in pairs:
            assert one is None or torch.equal(one, value + 0.5)
            given += one is not None
    assert given == len(call.leaves())


def test_needs_are_in_the_order_of_the_leaves() -> None:
    call = full_call()
    wanted = {id(call.states[1]), id(call.weights[1]["bias_hh"]), id(call.restart[0])}
    asked = [
        [id(value) in wanted for value in argument] if isinstance(argument, list) else id(argument) in wanted
        for argument in flatten(call)
    ]
    assert needs_of([*asked, False]) == [id(leaf) in wanted for leaf in call.leaves()]


def test_missing_weights_are_said_to_be_missing() -> None:
    key, input, states, weights, *rest = flatten(full_call())
    with pytest.raises(RuntimeError, match=r"a direction has the weights .*weight_hr, but 9 tensors were given"):
        unflatten(key, input, states, weights[:-1], *rest)
