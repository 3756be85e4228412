"""Reported faults about what tensors are: strides, types, memory, subclasses, devices, shapes, threads."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.func import functional_call
from torch.nn.utils.rnn import PackedSequence

import recurra

from ..builders import build, randomise
from .modes import Wrapped
from .problem import compare

__all__ = ["REPORTS"]

REPORTS: list[Callable[[], None]] = []


def report(function: Callable[[], None]) -> Callable[[], None]:
    REPORTS.append(function)
    return function


def noise(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def like_contiguous(
    layer: nn.Module, run: Callable[[Tensor, Tensor], tuple[Tensor, Any]], x: Tensor, hx: Tensor
) -> None:
    """Outputs and gradients for x and hx as they lie in memory are those for contiguous copies of them."""
    results = []
    for copied in (False, True):
        inputs = [value.detach().clone(memory_format=torch.contiguous_format) if copied else value for value in (x, hx)]
        inputs = [value.detach().resolve_neg().resolve_conj() if copied else value.detach() for value in inputs]
        for value in inputs:
            value.requires_grad_()
        output, last = run(*inputs)
        loss = output.sin().sum() + (last[-1] if isinstance(last, tuple) else last).cos().sum()
        results.append([output, *torch.autograd.grad(loss, (*inputs, *layer.parameters()))])
    compare("output and gradient", *[[value.contiguous() for value in values] for values in results])


@report
def overlapping_rows() -> None:
    layer = recurra.RNN(6, 1)
    randomise(layer)
    x = torch.arange(7.0).unfold(0, 6, 1)
    results = []
    for value in (x, x.contiguous()):
        value.requires_grad_()
        results.append(torch.autograd.grad(layer(value)[0].sum(), value)[0])
    compare("gradient", (results[0].contiguous(),), (results[1],))


def overlapping(name: str) -> Callable[[], None]:
    """Every form of input, with more units than steps, in memory where places overlap, are negated or conjugated."""

    def check() -> None:
        line = noise(40)
        negative = torch.view_as_complex(noise(4, 3, 6, 2)).conj().imag
        assert negative.is_neg()
        xs = {
            "windows": line.as_strided((4, 3, 6), (2, 1, 1)),
            "same row": noise(4, 1, 6).expand(4, 3, 6),
            "same step": noise(1, 3, 6).expand(4, 3, 6),
            "same unit": noise(4, 3, 1).expand(4, 3, 6),
            "one number": noise(1, 1, 1).expand(4, 3, 6),
            "negative bit": negative,
            "of a complex number": torch.view_as_complex(noise(4, 3, 6, 2)).conj().real,
        }
        for first in (False, True):
            layer = build(name, 6, 4, 1, batch_first=first)
            states = 2 if name == "lstm" else 1

            def given(h: Tensor, count: int = states) -> Any:
                return (h,) * count if count > 1 else h

            def flat(x: Tensor, h: Tensor, layer: Any = layer, first: bool = first) -> Any:
                return layer(x.transpose(0, 1) if first else x, given(h))

            def cut(x: Tensor, h: Tensor, layer: Any = layer, first: bool = first) -> Any:
                lengths = torch.tensor([4, 9, 0, 9, 2, 9])[::2]
                return layer(x.transpose(0, 1) if first else x, given(h), lengths=lengths)

            def packed(x: Tensor, h: Tensor, layer: Any = layer) -> Any:
                result, last = layer(PackedSequence(x, SIZES), given(h))
                return result.data, last

            for x in xs.values():
                for hx in (noise(1, 3, 4), noise(1, 1, 4).expand(1, 3, 4), noise(1, 1, 1).expand(1, 3, 4)):
                    like_contiguous(layer, flat, x, hx)
                    like_contiguous(layer, cut, x, hx)
            one = noise(1, 1).expand(1, 4)
            for x in (line.as_strided((4, 6), (1, 1)), noise(1, 6).expand(4, 6), noise(4, 1).expand(4, 6)):
                like_contiguous(layer, lambda x, h, layer=layer: layer(x, given(h)), x, one)
                like_contiguous(layer, flat, x.unsqueeze(1), one.unsqueeze(1))
            for data in (line.as_strided((9, 6), (1, 1)), noise(1, 6).expand(9, 6), noise(9, 1).expand(9, 6)):
                like_contiguous(layer, lambda x, h, run=packed: run(x, h), data, noise(1, 1, 4).expand(1, 3, 4))

    check.__name__ = f"overlapping_memory_{name}"
    return check


SIZES = torch.tensor([3, 3, 2, 1])


for _name in ("lstm", "gru_cho", "gru"):
    report(overlapping(_name))


def with_weight(replace: Callable[[Tensor], Any], stream: bool = False) -> None:
    """A layer with weight_hh_l0 replaced gives the reference's numbers, or refuses."""
    layer = build("lstm", 3, 4, 1)
    x = noise(4, 2, 3)
    with recurra.backend("reference"):
        right = layer(x)[0]
    given = replace(layer.weight_hh_l0.detach().clone())
    if stream:
        layer.weight_hh_l0 = nn.Parameter(given, requires_grad=False)
        steps = layer.stream(2)
        output = torch.stack([steps.step(value) for value in x])
    else:
        output = functional_call(layer, {"weight_hh_l0": given}, (x,))[0]
    compare("output", (output.inner if isinstance(output, Wrapped) else output,), (right,))


@report
def a_weight_that_is_fake() -> None:
    # As torch.nn's layer: what is computed with a fake weight is fake.
    layer, x = build("lstm", 3, 4, 1), noise(4, 2, 3)
    fake = FakeTensorMode(allow_non_fake_inputs=True).from_tensor(layer.weight_hh_l0.detach().clone())
    output = functional_call(layer, {"weight_hh_l0": fake}, (x,))[0]
    assert isinstance(output, FakeTensor) and output.shape == (4, 2, 4) and output.dtype == torch.float64


@report
def a_distributed_weight() -> None:
    import torch.distributed as dist
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import DTensor, Replicate, distribute_tensor

    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    mesh = init_device_mesh("cpu", (1,))
    layer = build("lstm", 3, 4, 1)
    x = noise(4, 2, 3)
    with recurra.backend("reference"):
        right = layer(x)[0]

    def spread(value: Tensor) -> Any:
        return distribute_tensor(value.detach().clone(), mesh, [Replicate()])

    weights = {name: spread(value) for name, value in layer.named_parameters()}
    # All distributed: the right numbers; weights alone among plain tensors: those, or a refusal.
    for input in (spread(x), x):
        output = functional_call(layer, weights, (input,))[0]
        compare("output", (output.full_tensor() if isinstance(output, DTensor) else output,), (right,))


@report
def a_stream_of_a_wrapped_weight() -> None:
    with_weight(Wrapped, stream=True)


@report
def a_sparse_weight() -> None:
    with_weight(lambda value: value.to_sparse())


@report
def a_sparse_input() -> None:
    layer = build("lstm", 3, 4, 1)
    x = noise(4, 2, 3)
    compare("output", (layer(x.to_sparse())[0],), (layer(x)[0],))


@report
def a_meta_weight() -> None:
    with_weight(lambda value: value.to("meta"))


def freed(value: Tensor) -> Tensor:
    """As FSDP leaves a parameter between its uses: a shape without memory."""
    value.untyped_storage().resize_(0)
    return value


@report
def a_freed_weight() -> None:
    with_weight(freed)


@report
def a_freed_weight_in_a_stream() -> None:
    with_weight(freed, stream=True)


@report
def a_freed_input() -> None:
    layer = build("lstm", 3, 4, 1)
    compare("output", (layer(freed(noise(4, 2, 3)))[0],), (layer(noise(4, 2, 3))[0],))


@report
def a_weight_freed_between_two_runs() -> None:
    """Freed and filled again, with other numbers, as FSDP does around each use."""
    layer = build("lstm", 3, 4, 1)
    x = noise(4, 2, 3)
    layer(x)
    storage, size = layer.weight_hh_l0.untyped_storage(), layer.weight_hh_l0.untyped_storage().nbytes()
    storage.resize_(0)
    storage.resize_(size)
    with torch.no_grad():
        layer.weight_hh_l0.copy_(noise(16, 4, seed=3))
    output = layer(x)[0]
    with recurra.backend("reference"):
        compare("output", (output,), (layer(x)[0],))


@report
def a_default_device() -> None:
    """Streams and lists of lengths where new tensors are made on another device unless one says otherwise."""
    for name in ("lstm", "gru_cho"):
        layer, x = build(name, 3, 4, 2), noise(4, 2, 3)
        with recurra.backend("reference"):
            right, cut = layer(x)[0], layer(x, lengths=[4, 2])[0]
        torch.set_default_device("meta")
        try:
            steps = layer.stream(2)
            output = torch.stack([steps.step(value) for value in x])
            steps.reset([0])
            steps.reset()
            again = steps.step(x[0])
            by_list = layer(x, lengths=[4, 2])[0]
        finally:
            torch.set_default_device(None)
        compare("output", (output, again, by_list), (right, right[0], cut))
