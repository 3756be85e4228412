"""The fused CPU engine on more rows or inputs than the products of their numbers fit an int, and what it refuses."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import recurra
from recurra.kernels.cpu import compiled

pytestmark = pytest.mark.skipif(compiled.engine() is None, reason="this installation was built without the engine")

# From 113,510 rows on, which are 18,919 tiles, rows times tiles pass 2^31.
ROWS, SOME = 120_000, 30_000


@pytest.fixture(autouse=True)
def on_the_engine() -> Any:
    with recurra.backend("cpu"):
        yield


def draw(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(3))


def result(layer: recurra.Recurrent, x: Tensor, h: Tensor) -> list[Tensor]:
    """Outputs, the last state, and gradients of input, first state and weights."""
    leaves = [x.detach().requires_grad_(), h.detach().requires_grad_()]
    output, last = layer(*leaves)
    # Each row's gradient is its own, and of no sum.
    loss = (output * torch.arange(1.0, len(x) + 1)[:, None, None]).sum() + (3 * last).sum()
    return [output.detach(), last.detach(), *torch.autograd.grad(loss, [*leaves, *layer.parameters()])]


def test_a_batch_of_many_rows_is_its_parts() -> None:
    torch.manual_seed(0)
    layer = recurra.Recurrent("rnn_tanh", 1, 1)
    x, h = draw(2, ROWS, 1), draw(1, ROWS, 1)
    whole = result(layer, x, h)
    parts = [result(layer, x[:, at : at + SOME], h[:, at : at + SOME]) for at in range(0, ROWS, SOME)]
    for values, pieces in zip(whole[:4], zip(*parts, strict=True), strict=False):
        assert torch.equal(values, torch.cat(pieces[: len(parts)], dim=1))
    for values, pieces in zip(whole[4:], list(zip(*parts, strict=True))[4:], strict=True):
        torch.testing.assert_close(
            values.double(), sum(piece.double() for piece in pieces), rtol=1e-4, atol=1e-4 * ROWS**0.5
        )


def test_a_stream_of_many_rows_is_its_parts() -> None:
    torch.manual_seed(0)
    layer = recurra.Recurrent("rnn_tanh", 1, 1).requires_grad_(False)
    x = draw(2, ROWS, 1)
    streams = [layer.stream(SOME) for _ in range(0, ROWS, SOME)]
    whole = layer.stream(ROWS)
    for step in x:
        parts = [stream.step(part) for stream, part in zip(streams, step.split(SOME), strict=True)]
        assert torch.equal(whole.step(step), torch.cat(parts))


def test_an_input_of_many_features() -> None:
    # Vectors of columns times the strips of two that they are cut into pass 2^31.
    torch.manual_seed(0)
    features = 1_600_000
    layer = recurra.Recurrent("rnn_tanh", features, 1)
    x = draw(2, 1, features).requires_grad_()
    output, _ = layer(x)
    d_x, d_weight = torch.autograd.grad(output.sum(), [x, layer.weight_ih_l0])
    # From the outputs and the chain rule, in float64.
    h = output.detach().double().flatten()
    u = layer.weight_hh_l0.detach().double().item()
    d_last = 1 - h[1] ** 2
    d = torch.stack([(1 + d_last * u) * (1 - h[0] ** 2), d_last])
    torch.testing.assert_close(
        d_x.double()[:, 0], d[:, None] * layer.weight_ih_l0.detach().double(), rtol=1e-5, atol=1e-9
    )
    torch.testing.assert_close(d_weight.double()[0], d @ x.detach().double()[:, 0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("place", "what"),
    [(1, "rows in a batch"), (2, "features of an input"), (3, "hidden units"), (4, "projected units")],
)
@pytest.mark.parametrize("size", [2**31 - 63, 2**40, -1])
def test_refuses_more_than_it_counts(place: int, what: str, size: int) -> None:
    cell = compiled.compiled(recurra.cells.CELLS["lstm"])
    assert cell is not None
    with pytest.raises(ValueError, match=f"at most 2147483584 {what}, not {size}"):
        run_on_nothing(cell.run, [0, *(size if at == place else 1 for at in (1, 2, 3, 4))])


def test_refuses_more_gates_than_it_counts() -> None:
    cell = compiled.compiled(recurra.cells.CELLS["lstm"])
    assert cell is not None
    with pytest.raises(ValueError, match=f"at most 2147483584 units of all gates, not {2**31}"):
        run_on_nothing(cell.run, [0, 1, 1, 2**29, 0])


def run_on_nothing(run: Any, sizes: list[int]) -> None:
    run.forward(
        is_double=False,
        sizes=sizes,
        reverse=False,
        threads=1,
        active=0,
        order=0,
        packed=False,
        round_weights=False,
        bfloat16_weights=False,
        input=[0, 0, 0],
        weights=[0, 0],
        biases=[0, 0],
        vectors=[],
        initial=[0, 0],
        final=[0, 0],
        states=[0] * 6,
        kept=0,
        operands=[],
        mask=0,
        zoneout=0.0,
        zoneout_masks=[],
        candidates=[],
        projection=[0, 0],
    )
