"""Reported faults about what is kept between forward and backward: threads, changed arguments, hooks, checkpoints."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import save_on_cpu, saved_tensors_hooks
from torch.nn.utils.rnn import pack_padded_sequence
from torch.utils.checkpoint import checkpoint

import recurra

from ..builders import build, randomise
from .autograd import in_other_strides
from .problem import compare

__all__ = ["REPORTS"]

REPORTS: list[Callable[[], None]] = []


def report(function: Callable[[], None]) -> Callable[[], None]:
    REPORTS.append(function)
    return function


def noise(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


@report
def two_threads_on_one_graph() -> None:
    layer = recurra.LSTM(16, 64)
    randomise(layer)
    x = noise(20, 8, 16, dtype=torch.float32)
    parameters = list(layer.parameters())
    loss = layer(x)[0].sin().sum()
    right = torch.autograd.grad(loss, parameters, retain_graph=True)
    found: list[Sequence[Tensor]] = []

    def work() -> None:
        for _ in range(25):
            found.append(torch.autograd.grad(loss, parameters, retain_graph=True))

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 50
    assert all(torch.equal(a, b) for values in found for a, b in zip(values, right, strict=True))


@report
def sizes_changed_before_backward() -> None:
    layer = build("lstm", 3, 4, 2)
    x, lengths = noise(5, 3, 3), torch.tensor([5, 3, 2])
    results = []
    for changed in (False, True):
        packed = pack_padded_sequence(x, lengths)
        output, _ = layer(packed)
        if changed:
            packed.batch_sizes.fill_(1000)
        results.append(torch.autograd.grad(output.data.sin().sum(), list(layer.parameters())))
    compare("gradient", *results)


@report
def lengths_changed_before_backward() -> None:
    layer = build("gru_cho", 3, 4, 2)
    results = []
    for changed in (False, True):
        lengths = torch.tensor([5, 3, 2])
        output, _ = layer(noise(5, 3, 3), lengths=lengths)
        if changed:
            lengths.fill_(1000)
        results.append(torch.autograd.grad(output.sin().sum(), list(layer.parameters())))
    compare("gradient", *results)


def with_hooks(unpack: Callable[[Tensor], Tensor], tolerance: float = 1e-10) -> None:
    for name in ("lstm", "gru", "gru_cho", "lstm_peephole"):
        layer, x = build(name, 3, 4, 2, bidirectional=True), noise(4, 2, 3).requires_grad_()
        everything = (x, *layer.parameters())
        right = torch.autograd.grad(layer(x)[0].sin().sum(), everything)
        with saved_tensors_hooks(lambda value: value, unpack):
            loss = layer(x)[0].sin().sum()
        compare("gradient", torch.autograd.grad(loss, everything), right, tolerance)


@report
def saved_tensors_in_other_strides() -> None:
    with_hooks(in_other_strides)


@report
def saved_tensors_in_another_dtype() -> None:
    # float32 rounds what was saved by up to 6e-8 of itself.
    with_hooks(lambda value: value.float() if value.is_floating_point() else value, 1e-4)


@report
def saved_tensors_all_pass_the_hooks() -> None:
    """What backward needs of a long run goes through the hooks: else neither offloading nor checkpoints save memory."""
    for name in ("lstm", "gru", "gru_cho"):
        layer = recurra.Recurrent(name, 64, 64, 2)
        x = torch.randn(100, 32, 64)
        packed: list[int] = []

        def pack(value: Tensor, packed: list[int] = packed) -> Tensor:
            packed.append(value.numel() * value.element_size())
            return value

        with saved_tensors_hooks(pack, lambda value: value):
            output, _ = layer(x)
        # One number of each gate or state for each step, row, unit and layer is the least that backward needs.
        assert sum(packed) >= 2 * output.numel() * output.element_size(), f"{name}: only {sum(packed)} bytes"


def resident() -> int:
    """Bytes of memory that this process holds."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096


def held_after(run: Callable[[], Any]) -> tuple[Any, int]:
    before = resident()
    result = run()
    return result, resident() - before


@report
def memory_under_checkpoint() -> None:
    """4 layers x 128, T 400, B 64: a hidden state of one layer takes 13 MB, and all that backward needs over 200 MB."""
    layer = recurra.GRU(128, 128, 4)
    x = torch.randn(400, 64, 128, requires_grad=True)
    layer(x[:2])[0].sum().backward()
    again, little = held_after(lambda: checkpoint(layer, x, use_reentrant=False))
    plain, much = held_after(lambda: layer(x))
    assert much > 60e6, f"only {much} bytes are held without a checkpoint: the measure is wrong"
    # The output (13 MB), and what an allocator does not give back.
    assert little < 0.3 * much, f"a checkpoint holds {little} bytes after the forward, a plain call {much}"
    assert torch.equal(again[0], plain[0])


@report
def offloaded_tensors_are_let_go() -> None:
    """Saved tensors that hooks put into a file leave little memory behind."""
    layer = recurra.GRU(128, 128, 4)
    x = torch.randn(400, 64, 128)
    layer(x[:2])[0].sum().backward()
    _plain, much = held_after(lambda: layer(x))
    with tempfile.TemporaryDirectory() as folder:
        count = iter(range(10**6))

        def pack(value: Tensor) -> str:
            path = f"{folder}/{next(count)}"
            torch.save(value, path)
            return path

        with saved_tensors_hooks(pack, torch.load):
            (output, _), little = held_after(lambda: layer(x))
        assert little < 0.5 * much, f"{little} bytes are held beside what the hooks took, and {much} without hooks"
        output.sum().backward()
    with save_on_cpu():
        layer(x)[0].sum().backward()
