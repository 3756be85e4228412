"""Output layer and loss in one against torch's linear and cross_entropy."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from recurra.models import projected_loss
from recurra.models.projected_loss import projected_cross_entropy

N, E, V = 23, 5, 11
Parts = tuple[Tensor, Tensor, Tensor]


@pytest.fixture(params=[1, 4, 7, 64], ids=str, autouse=True)
def rows_at_a_time(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(projected_loss, "_FEWEST_ROWS", request.param)
    monkeypatch.setattr(projected_loss, "_MOST_LOGITS", 1)
    monkeypatch.setattr(projected_loss, "_MOST_LOGITS_ELSEWHERE", 1)


def parts(dtype: torch.dtype = torch.float64) -> tuple[Parts, Tensor]:
    torch.manual_seed(3)
    target = torch.randint(0, V, (N,))
    target[[0, 5, 6, 7, 8, N - 1]] = -100
    shapes = ((N, E), (V, E), (V,))
    features, weight, bias = ((2 * torch.randn(shape, dtype=dtype)).requires_grad_() for shape in shapes)
    return (features, weight, bias), target


def expected(values: Parts, target: Tensor, smoothing: float) -> tuple[Tensor, Tensor]:
    logits = F.linear(*values)
    return F.cross_entropy(logits, target, label_smoothing=smoothing), F.cross_entropy(logits, target)


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_means_and_gradients_are_torchs(smoothing: float) -> None:
    values, target = parts()
    objective, nats = projected_cross_entropy(*values, target, smoothing)
    wanted, plain = expected(values, target, smoothing)
    torch.testing.assert_close(objective, wanted)
    torch.testing.assert_close(nats, plain)
    assert not nats.requires_grad
    found, right = (torch.autograd.grad(2.5 * each, values) for each in (objective, wanted))
    for one, other in zip(found, right, strict=True):
        torch.testing.assert_close(one, other)
    # The ignored mark may be another.
    marked = torch.where(target == -100, torch.tensor(7), target)
    torch.testing.assert_close(
        projected_cross_entropy(*values, marked, smoothing, ignored=7)[0],
        F.cross_entropy(F.linear(*values), marked, label_smoothing=smoothing, ignore_index=7),
    )


def test_gradients_are_those_of_finite_differences() -> None:
    values, target = parts()
    assert torch.autograd.gradcheck(lambda *each: projected_cross_entropy(*each, target, 0.2)[0], values)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_under_autocast_products_alone_are_narrow(dtype: torch.dtype) -> None:
    values, target = parts(torch.float32)
    with torch.autocast("cpu", dtype):
        objective, nats = projected_cross_entropy(*values, target, 0.1)
    assert objective.dtype == nats.dtype == torch.float32
    found = torch.autograd.grad(objective, values)
    wanted, plain = expected(values, target, 0.1)
    torch.testing.assert_close(nats, plain, rtol=0.02, atol=0.02)
    for one, other in zip(found, torch.autograd.grad(wanted, values), strict=True):
        assert one.dtype == torch.float32
        torch.testing.assert_close(one, other, rtol=0.05, atol=0.005)


def test_a_narrow_model_gets_narrow_gradients() -> None:
    values, target = parts(torch.bfloat16)
    objective, _ = projected_cross_entropy(*values, target)
    found = torch.autograd.grad(objective, values)
    assert [each.dtype for each in found] == [torch.bfloat16] * 3 and objective.dtype == torch.float32
    wide = tuple(value.detach().float().requires_grad_() for value in values)
    for one, other in zip(found, torch.autograd.grad(expected(wide, target, 0.0)[0], wide), strict=True):  # type: ignore[arg-type]
        torch.testing.assert_close(one.float(), other, rtol=0.05, atol=0.005)


def test_where_nothing_counts_all_is_zero() -> None:
    values, target = parts()
    objective, nats = projected_cross_entropy(*values, torch.full_like(target, -100), 0.1)
    assert objective.item() == nats.item() == 0
    assert not any(each.any() for each in torch.autograd.grad(objective, values))
    with torch.no_grad():
        alone, _ = projected_cross_entropy(*values, target, 0.1)
    torch.testing.assert_close(alone, expected(values, target, 0.1)[0].detach())
