"""What a layer returns may be changed in place wherever torch.nn's results may."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence

import recurra

from .builders import states_of

CHANGES: dict[str, Callable[[Tensor], Any]] = {
    "mul_": lambda state: state.mul_(0.5),
    "detach_": lambda state: state.detach_(),
    "zero_ of a row": lambda state: state[:, 0].zero_(),
}
LAYERS: list[dict[str, Any]] = [
    {},
    {"num_layers": 2, "bidirectional": True},
    {"batch_first": True, "hidden_size": [4]},
    {"hidden_size": [4, 3]},
    {"learn_initial_state": True},
    {"num_layers": 2, "residual": "residual"},
]
T, B, I, H = 5, 2, 3, 4


def build(name: str, dtype: torch.dtype = torch.float32, **options: Any) -> recurra.Recurrent:
    torch.manual_seed(0)
    return recurra.Recurrent(name, I, **{"hidden_size": H, **options}, dtype=dtype)


def flat(value: Any) -> list[Tensor]:
    return [value] if isinstance(value, Tensor) else [tensor for part in value for tensor in flat(part)]


def call(layer: nn.Module, kind: str) -> Any:
    x = torch.randn(T, B, I, generator=torch.Generator().manual_seed(1)).to(layer.weight_dtype)
    x = x[:0] if kind == "no steps" else x
    if kind == "packed":
        return layer(pack_padded_sequence(x, [T, 3]))
    if layer.batch_first:
        x = x.transpose(0, 1)
    if kind == "lengths":
        return layer(x, lengths=[3, 0])
    return layer(x, return_all_states=kind == "all states")


@pytest.mark.parametrize("kind", ["padded", "lengths", "packed", "no steps", "all states"])
@pytest.mark.parametrize("options", LAYERS, ids=str)
@pytest.mark.parametrize(
    ("backend", "name", "dtype"),
    [
        (None, "lstm", torch.float32),
        (None, "gru_cho", torch.float32),
        (None, "gru", torch.float16),
        ("torch", "lstm", torch.float32),
        ("reference", "gru", torch.float32),
    ],
    ids=str,
)
def test_final_states(backend: str | None, name: str, dtype: torch.dtype, options: dict[str, Any], kind: str) -> None:
    if backend == "torch" and kind in ("no steps", "all states"):
        backend = None  # torch's kernels take neither
    layer = build(name, dtype, **options)
    for change in CHANGES.values():
        for gradients in (True, False):
            with recurra.backend(backend) if backend else nullcontext(), torch.set_grad_enabled(gradients):
                for index in range(len(flat(states_of(call(layer, kind)[1])))):
                    result = call(layer, kind)
                    output = result[0].data if kind == "packed" else result[0]
                    before = output.detach().clone()
                    state = flat(states_of(result[1]))[index]
                    change(state)
                    assert torch.equal(output, before)
                    if gradients and kind != "no steps":
                        (output.float().sum() + state.float().sum()).backward()


@pytest.mark.parametrize("name", ["lstm", "gru"])
@pytest.mark.parametrize("backend", ["cpu", "torch", "reference"])
def test_outputs_without_gradients(backend: str, name: str) -> None:
    if backend == "cpu" and recurra.kernels.cpu_engine.engine() is None:
        backend = "reference"
    with recurra.backend(backend), torch.no_grad():
        for options in ({}, {"num_layers": 2}, {"bidirectional": True}):
            for change in CHANGES.values():
                output, last = call(build(name, **options), "padded")
                expected = [state.clone() for state in states_of(last)]
                change(output)
                assert all(torch.equal(state, before) for state, before in zip(states_of(last), expected, strict=True))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("kind", ["GRU", "RNN"])
def test_outputs_with_gradients_on_torchs_kernels(kind: str, dtype: torch.dtype) -> None:
    gradients = []
    for library in (nn, recurra):
        torch.manual_seed(0)
        layer = getattr(library, kind)(I, H, dtype=dtype)
        with recurra.backend("torch"):
            output, _ = layer(torch.ones(T, B, I, dtype=dtype))
        output.mul_(0.5)
        output[:, 0].zero_()
        output.square().sum().backward()
        gradients.append([parameter.grad for parameter in layer.parameters()])
    for theirs, ours in zip(*gradients, strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("backend", [None, "reference"])
def test_the_output_and_all_states_are_not_one_tensor(backend: str | None) -> None:
    for name in ("lstm", "gru"):
        with recurra.backend(backend) if backend else nullcontext(), torch.no_grad():
            for number in (1, 2):
                output, _, states = call(build(name, num_layers=number), "all states")
                assert torch.equal(states[-1].h, output)
                before = states[-1].h.clone()
                output.zero_()
                assert torch.equal(states[-1].h, before)
