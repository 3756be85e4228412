"""The fused CPU engine in bfloat16: weights rounded to it, sums and states in float32, results rounded.

On matrix tiles (the instruction set "amx") both factors of every product are rounded, there and on the way back.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

import recurra
from recurra.cells import CELLS
from recurra.kernels import record_backends, reference
from recurra.kernels.call import LayerCall
from recurra.kernels.cpu import compiled
from recurra.kernels.cpu import run as engine

from ..torch_limits import needs_autocast
from .engine_calls import (
    PROJECTABLE,
    assert_close,
    each_instruction_set,
    fused,
    gradients,
    leaves,
    make,
    resting,
    rows_of,
    same_bits,
    tensors_of,
    with_leaves,
)

pytestmark = pytest.mark.skipif(compiled.engine() is None, reason="this installation was built without the engine")

# Sums of some tens of terms, through some steps: two hundred roundings of a float.
TOLERANCE = 200 * torch.finfo(torch.float32).eps
TILED_TOLERANCE = 2**-11


def on_tiles() -> bool:
    return compiled.instruction_set() == "amx"


class RoundedProduct(torch.autograd.Function):
    """A product whose factors are rounded to bfloat16 first, as are those of its gradients."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        value, weight = (factor.bfloat16().double() for factor in (value, weight))
        ctx.save_for_backward(value, weight)
        ctx.bias = bias is not None
        return F.linear(value, weight, bias)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        value, weight = ctx.saved_tensors
        rounded = gradient.bfloat16().double()
        to_weight = rounded.flatten(0, -2).T @ value.flatten(0, -2)
        return rounded @ weight, to_weight, gradient.flatten(0, -2).sum(0) if ctx.bias else None


class RoundedProducts(TorchFunctionMode):
    """While it lasts the reference multiplies as matrix tiles do."""

    def __torch_function__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        if func is F.linear:
            value, weight, *bias = args
            return RoundedProduct.apply(value, weight, bias[0] if bias else None)
        return func(*args, **(kwargs or {}))


def as_the_engine_multiplies() -> AbstractContextManager[Any]:
    return RoundedProducts() if on_tiles() else nullcontext()


def tolerance() -> float:
    # A sum on the other side of a tie rounds the other way, and so does what follows.
    return TILED_TOLERANCE if on_tiles() else TOLERANCE


def with_rounded_matrices(call: LayerCall) -> LayerCall:
    """The same numbers in float64, the matrices rounded to bfloat16 first."""
    weights = [
        {name: w.detach().bfloat16() if w.dim() == 2 else w.detach() for name, w in direction.items()}
        for direction in call.weights
    ]
    values = [call.input, *call.states, *(w for direction in weights for w in direction.values())]
    return with_leaves(call, [value.detach().double().requires_grad_() for value in values])


def narrowed(weight: Tensor) -> Tensor:
    return weight.bfloat16() if weight.dim() == 2 else weight


# Few rows, whose weights lie two to a lane, and more, whose weights do not; odd numbers of terms.
@pytest.mark.parametrize("batch", [1, 3, 20])
@pytest.mark.parametrize(("name", "projection"), [*((name, 0) for name in CELLS), ("lstm", 19)])
def test_it_agrees_with_the_reference_on_rounded_weights(name: str, projection: int, batch: int) -> None:
    lengths = [4, 4, 2, 3, 1, 0][:batch] + [4] * (batch - 6)
    call = make(name, 4, batch, 7, 37, 2, torch.float32, lengths, all_states=True, projection=projection)
    expected = with_rounded_matrices(call)
    with as_the_engine_multiplies():
        wanted = tensors_of(reference.run(expected))
    # Before anything is rounded at the edges.
    results = tensors_of(engine._run(call, round_weights=True))
    for actual, exact in zip(results, wanted, strict=True):
        assert_close(actual, exact, tolerance())
    for actual, exact in zip(gradients(results, leaves(call)), gradients(wanted, leaves(expected)), strict=True):
        assert_close(actual, exact, tolerance())
    narrow = replace(call, weights=tuple({n: narrowed(w) for n, w in d.items()} for d in call.weights))
    assert same_bits(results, tensors_of(engine._run(narrow, round_weights=True)))
    with torch.autocast("cpu", torch.bfloat16):
        edges = tensors_of(fused(call))
    assert same_bits(edges, [result.to(edge.dtype) for result, edge in zip(results, edges, strict=True)])


@pytest.mark.parametrize("name", CELLS)
def test_a_row_does_not_depend_on_how_many_there_are(name: str) -> None:
    projection = 20 if name in PROJECTABLE else 0
    call = resting(make(name, 5, 30, 7, 37, 2, torch.float32, projection=projection))
    call = with_leaves(call, [leaf.bfloat16() for leaf in leaves(call)])
    whole = tensors_of(fused(call))
    assert all(value.dtype == torch.bfloat16 for value in whole)
    for rows in ([0], [3, 1], list(range(12)), list(range(13)), list(range(7, 30))):
        assert same_bits(tensors_of(fused(rows_of(call, rows))), [part[:, rows] for part in whole])


@pytest.mark.parametrize("batch", [1, 20])
def test_weights_round_as_torch_rounds_them(batch: int) -> None:
    # Nearest, ties to even; the largest to infinity; denormal numbers; NaN stays NaN.
    special = [
        0.0,
        1.0,
        1 + 2**-8,
        1 + 3 * 2**-8,
        1 + 2**-8 + 2**-20,
        3.4e38,
        1e-40,
        9.2e-41,
        torch.inf,
        torch.nan,
        7.0,
    ]
    weight = torch.zeros(len(special), 3)
    weight[:, 1] = torch.tensor(special)
    cell = recurra.Recurrent("rnn_relu", 3, len(special), bias=False)
    with torch.no_grad():
        cell.weight_ih_l0.copy_(weight)
        cell.weight_hh_l0.zero_()
        x = torch.zeros(1, batch, 3)
        x[..., 1] = 1
        for autocast in (False, True):
            layer = cell if autocast else cell.bfloat16()
            with record_backends() as ran, torch.autocast("cpu", torch.bfloat16, enabled=autocast):
                output, _ = layer(x if autocast else x.bfloat16())
            assert ran == ["cpu"]
            expected = torch.tensor(special).bfloat16()
            if on_tiles():
                # Matrix tiles take numbers that are not normal for zero.
                expected[6:8] = 0
            torch.testing.assert_close(output[0, 0].bfloat16()[:8], expected[:8], rtol=0, atol=0)
            assert output[0, 0, 9].isnan() and output[0, 0, 10] == 7


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
@pytest.mark.parametrize("autocast", [False, True])
def test_results_and_gradients_have_the_dtypes_of_torch_nn(kind: str, autocast: bool) -> None:
    if autocast:
        needs_autocast(kind)
    ours, theirs = getattr(recurra, kind)(5, 6, 2), getattr(nn, kind)(5, 6, 2)
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(3, 2, 5)
    if not autocast:
        ours, theirs, x = ours.bfloat16(), theirs.bfloat16(), x.bfloat16()
    found = []
    for layer in (ours, theirs):
        leaf = x.clone().requires_grad_()
        with record_backends() as ran, torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            output, last = layer(leaf)
        output.float().square().sum().backward()
        states = last if isinstance(last, tuple) else (last,)
        found.append([output, *states, leaf.grad, *(parameter.grad for parameter in layer.parameters())])
        assert ran == (["cpu", "cpu"] if layer is ours else [])
    for one, other in zip(*found, strict=True):
        assert one.dtype == other.dtype
        assert_close(one, other, 2**-5)


@pytest.mark.parametrize("batch", [1, 2, 16])
def test_a_stream_gives_what_forward_gives(batch: int) -> None:
    layer = recurra.LSTM(7, 37, 2).bfloat16()
    x = torch.randn(6, batch, 7).bfloat16()
    expected, last = layer(x)
    stream = layer.stream(batch)
    with record_backends() as ran:
        layer.stream(batch)
    assert ran == ["cpu", "cpu"]
    assert torch.equal(torch.stack([stream.step(step) for step in x]), expected)
    for state, other in zip(stream.state, last, strict=True):
        assert torch.equal(state, other)


def test_the_gradient_can_be_differentiated_again() -> None:
    call = make("lstm", 3, 2, 3, 5, 1, torch.float32)

    def penalty(run_call: LayerCall) -> list[Tensor]:
        output = fused(run_call).outputs[0].float() if run_call is call else reference.run(run_call).outputs[0]
        (gradient,) = torch.autograd.grad(output.square().sum(), run_call.input, create_graph=True)
        return list(torch.autograd.grad(gradient.square().sum(), [run_call.input, run_call.weights[0]["weight_hh"]]))

    with torch.autocast("cpu", torch.bfloat16):
        actual = penalty(call)
    expected = penalty(with_rounded_matrices(call))
    for one, other in zip(actual, expected, strict=True):
        assert_close(one, other, 2**-7)


def test_a_call_that_mixes_dtypes_outside_of_autocast_is_refused() -> None:
    call = resting(make("lstm", dtype=torch.float32))
    mixed = replace(call, input=call.input.bfloat16())
    with pytest.raises(RuntimeError, match="dtype"), recurra.backend("cpu"):
        from recurra.kernels import run_layer

        run_layer(mixed)


SIZES = [
    (1, 1, 3, 5),
    (3, 2, 7, 37),
    (3, 20, 33, 37),
    (4, 35, 64, 64),
    (3, 17, 100, 130),
    (2, 70, 300, 48),
    (2, 13, 257, 31),
]


def whole_numbers(steps: int, batch: int, input_size: int, hidden: int, seed: int) -> LayerCall:
    """A call of so few and small whole numbers that nothing in it is ever rounded, not even in bfloat16."""
    lengths = [steps, *(row % (steps + 1) for row in range(batch - 1))]
    call = make("rnn_relu", steps, batch, input_size, hidden, 2, torch.float32, lengths)
    generator = torch.Generator().manual_seed(seed)

    def drawn(leaf: Tensor) -> Tensor:
        numbers = torch.randint(-1, 2, leaf.shape, generator=generator).float()
        if leaf.shape[-1] == input_size and leaf.dim() == 3:
            return numbers.requires_grad_()
        # Two weights a unit, and few biases and initial states.
        kept = torch.zeros_like(numbers).scatter_(
            -1, torch.randint(0, leaf.shape[-1], (*leaf.shape[:-1], 2), generator=generator), 1
        )
        return (numbers * kept).requires_grad_()

    return with_leaves(call, [drawn(leaf.detach()) for leaf in leaves(call)])


@each_instruction_set
@pytest.mark.parametrize("sizes", SIZES)
def test_whole_numbers_come_out_whole(instruction_set: str, sizes: tuple[int, int, int, int]) -> None:
    call = whole_numbers(*sizes, seed=sum(sizes))
    wide = with_leaves(call, [leaf.detach().double().requires_grad_() for leaf in leaves(call)])
    actual, expected = tensors_of(engine._run(call, round_weights=True)), tensors_of(reference.run(wide))
    weights = [torch.randint(-1, 2, value.shape, generator=torch.Generator().manual_seed(1)) for value in expected]
    found = [
        torch.autograd.grad(values, leaves(of), [w.to(values[0].dtype) for w in weights])
        for values, of in ((actual, call), (expected, wide))
    ]
    assert max(float(value.detach().abs().max()) for value in (*expected, *found[1])) > 2
    for one, other in zip([*actual, *found[0]], [*expected, *found[1]], strict=True):
        assert torch.equal(one.double(), other)
