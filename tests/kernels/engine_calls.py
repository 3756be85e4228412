"""Layer calls for the tests of the fused CPU engine, and the comparisons that they share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from recurra.cells import CELLS, Cell
from recurra.cells.trace import trace
from recurra.kernels import reference
from recurra.kernels.call import LayerCall, LayerResult, weight_names
from recurra.kernels.cpu import run as engine

__all__ = [
    "PROJECTABLE",
    "assert_agrees",
    "assert_close",
    "each_instruction_set",
    "fused",
    "gradients",
    "leaves",
    "make",
    "packed",
    "resting",
    "rows_of",
    "same_bits",
    "tensors_of",
    "with_leaves",
]

# The fixture is in conftest.py.
each_instruction_set = pytest.mark.parametrize("instruction_set", ["amx", "avx512", "avx2", "portable"], indirect=True)

PROJECTABLE = [name for name, cell in CELLS.items() if trace(cell).h_only_in_products]


def make(
    cell: str | Cell,
    steps: int = 5,
    batch: int = 4,
    input_size: int = 3,
    hidden: int = 6,
    directions: int = 1,
    dtype: torch.dtype = torch.float64,
    lengths: Sequence[int] | None = None,
    bias: bool = True,
    all_states: bool = False,
    seed: int = 0,
    projection: int = 0,
) -> LayerCall:
    """A call whose every tensor is random and wants a gradient; weights as torch.nn draws them."""
    if isinstance(cell, str):
        cell = CELLS[cell]
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int, scale: float = 1.0) -> Tensor:
        noise = torch.rand(shape, generator=generator, dtype=torch.float64) * 2 - 1
        return (noise * scale).to(dtype).requires_grad_()

    rows, scale = len(cell.gates) * hidden, hidden**-0.5
    shapes = {
        "weight_ih": (rows, input_size),
        "weight_hh": (rows, projection or hidden),
        "weight_hr": (projection, hidden),
        "bias_ih": (rows,),
        "bias_hh": (rows,),
        **{f"weight_{name}": (hidden,) for name in cell.vectors},
        **{f"weight_{name}": (hidden, hidden) for name in cell.matrices},
    }
    names = weight_names(cell, bias, projection > 0)
    widths = [projection or hidden] + [hidden] * (len(cell.states) - 1)
    weights = tuple({name: draw(*shapes[name], scale=scale) for name in names} for _ in range(directions))
    return LayerCall(
        cell,
        draw(steps, batch, input_size),
        tuple(draw(directions, batch, width) for width in widths),
        weights,
        None if lengths is None else torch.tensor(lengths, dtype=torch.int64),
        all_states=all_states,
    )


def leaves(call: LayerCall) -> list[Tensor]:
    """Input, initial states and every parameter."""
    return call.leaves()


def with_leaves(call: LayerCall, values: Sequence[Tensor]) -> LayerCall:
    """The call with other tensors, in the order of `leaves`."""
    return call.with_leaves(list(values))


def resting(call: LayerCall) -> LayerCall:
    """The call with nothing that wants a gradient."""
    return with_leaves(call, [leaf.detach() for leaf in leaves(call)])


def rows_of(call: LayerCall, rows: Sequence[int]) -> LayerCall:
    """The call on some rows of its batch, in the given order."""
    at = torch.tensor(rows, dtype=torch.int64)
    return replace(
        call,
        input=call.input[:, at],
        states=tuple(state[:, at] for state in call.states),
        lengths=None if call.lengths is None else call.lengths[at],
    )


def packed(call: LayerCall) -> LayerCall:
    """A call whose lengths fall, on a packed input; masks of zoneout are packed too."""
    lengths = call.lengths
    assert lengths is not None and (lengths[1:] <= lengths[:-1]).all() and lengths[0] == len(call.input)
    counts = torch.arange(len(call.input))[:, None] < lengths
    masks = tuple(mask[counts] for mask in call.zoneout_masks)
    return replace(call, input=call.input[counts], lengths=None, batch_sizes=counts.sum(dim=1), zoneout_masks=masks)


def fused(call: LayerCall) -> LayerResult:
    """The engine's result; it is an error if the engine refuses, or if its short way, where open, gives another."""
    assert engine.refusal(call) is None
    result, short = engine.run(call), engine.run_at_once(call)
    assert short is None or same_bits(tensors_of(short), tensors_of(result))
    return result


def tensors_of(result: LayerResult) -> list[Tensor]:
    return [*result.outputs, *result.final]


def gradients(values: Sequence[Tensor], to: Sequence[Tensor], seed: int = 9, **options: bool) -> list[Tensor]:
    """Gradients of a random weighting of the values; zero where there is no path."""
    generator = torch.Generator().manual_seed(seed)
    weights = [torch.randn(v.shape, generator=generator, dtype=torch.float64).to(v.dtype) for v in values]
    # A sequence of no steps has outputs that depend on nothing.
    used = [(v, w) for v, w in zip(values, weights, strict=True) if v.requires_grad]
    found = torch.autograd.grad([v for v, _ in used], to, [w for _, w in used], allow_unused=True, **options)
    return [torch.zeros_like(one) if grad is None else grad for grad, one in zip(found, to, strict=True)]


def assert_close(actual: Tensor, expected: Tensor, tolerance: float) -> None:
    """Within the tolerance times the largest expected value, or times one; the same NaN and infinities."""
    assert actual.shape == expected.shape
    actual, expected = actual.detach().double(), expected.detach().double()
    finite = expected[expected.isfinite()]
    scale = max(1.0, float(finite.abs().max())) if finite.numel() else 1.0
    torch.testing.assert_close(actual, expected, rtol=0, atol=tolerance * scale, equal_nan=True)


def assert_agrees(call: LayerCall, tolerance: float, backward: bool = True) -> None:
    """The engine gives what the reference gives on the same numbers in float64, and its gradients."""
    wide = with_leaves(call, [leaf.detach().double().requires_grad_(leaf.requires_grad) for leaf in leaves(call)])
    actual, expected = tensors_of(fused(call)), tensors_of(reference.run(wide))
    for one, other in zip(actual, expected, strict=True):
        assert_close(one, other, tolerance)
    if backward:
        for one, other in zip(gradients(actual, leaves(call)), gradients(expected, leaves(wide)), strict=True):
            assert_close(one, other, tolerance)


def same_bits(one: Sequence[Tensor], other: Sequence[Tensor]) -> bool:
    return len(one) == len(other) and all(torch.equal(a, b) for a, b in zip(one, other, strict=True))
