"""The transducer loss against the sum over all alignments one by one, a plain recursion, and finite differences."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from recurra.models import transducer_loss as module
from recurra.models.transducer_lattice import alignments_log_probability
from recurra.models.transducer_loss import transducer_loss, transducer_loss_reference

Parts = tuple[Tensor, Tensor, Tensor, Tensor]


@pytest.fixture(params=[1, 60, 1 << 20], ids=str, autouse=True)
def numbers_at_a_time(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MOST_NUMBERS", request.param)
    monkeypatch.setattr(module, "_MOST_NUMBERS_ELSEWHERE", request.param)


class Case:
    """A ragged batch with rubbish in the padding; J is 3."""

    def __init__(
        self, seed: int, sizes: list[tuple[int, int]], vocabulary: int = 4, blank: int = 0, dtype: Any = torch.float64
    ) -> None:
        torch.manual_seed(seed)
        steps, most = (max(each) for each in zip(*sizes, strict=True))
        rows, width = len(sizes), 3
        shapes = (rows, steps + 1, width), (rows, most + 1, width), (vocabulary, width), (vocabulary,)
        self.parts: Parts = tuple((2 * torch.randn(shape, dtype=dtype)).requires_grad_() for shape in shapes)  # type: ignore[assignment]
        labels = torch.tensor([label for label in range(vocabulary) if label != blank])
        self.targets = labels[torch.randint(0, len(labels), (rows, most))]
        self.frames, self.labels = (torch.tensor(each) for each in zip(*sizes, strict=True))
        self.blank = blank
        with torch.no_grad():
            for row, (frames, count) in enumerate(sizes):
                self.parts[0][row, frames:] = math.nan
                self.parts[1][row, count + 1 :] = math.nan
                self.targets[row, count:] = -7

    @property
    def rest(self) -> tuple[Tensor, Tensor, Tensor, int]:
        return self.targets, self.frames, self.labels, self.blank

    def brute_force(self, row: int) -> float:
        """The sum of the probabilities of all alignments, each followed from the first frame."""
        encoded, predicted, weight, bias = (part.detach() for part in self.parts)
        frames, count = int(self.frames[row]), int(self.labels[row])
        # An alignment is an order of its blanks and labels; the last move is a blank.
        probabilities = []
        for writes in itertools.combinations(range(frames - 1 + count), count):
            t, u, probability = 0, 0, 1.0
            for move in range(frames + count):
                logits = (weight * torch.tanh(encoded[row, t] + predicted[row, u])).sum(1) + bias
                shares = (logits.exp() / logits.exp().sum()).tolist()
                if move in writes:
                    probability *= shares[int(self.targets[row, u])]
                    u += 1
                else:
                    probability *= shares[self.blank]
                    t += 1
            assert (t, u) == (frames, count)
            probabilities.append(probability)
        return -math.log(math.fsum(probabilities))


CASES = {
    "plain": Case(1, [(4, 3), (2, 1), (3, 2)]),
    "no labels": Case(2, [(3, 0), (1, 0)]),
    "one frame": Case(3, [(1, 3), (1, 1), (1, 0)]),
    "blank last": Case(4, [(3, 2), (2, 3)], 3, 2),
    "two labels": Case(5, [(3, 3)], 2),
}


@pytest.mark.parametrize("name", CASES)
def test_it_is_the_sum_over_all_alignments_one_by_one(name: str) -> None:
    case = CASES[name]
    expected = [case.brute_force(row) for row in range(len(case.frames))]
    for loss in (transducer_loss, transducer_loss_reference):
        found = loss(*case.parts, *case.rest, reduction="none")
        assert found.tolist() == pytest.approx(expected, rel=1e-11)


@given(
    seed=st.integers(0, 10_000),
    sizes=st.lists(st.tuples(st.integers(1, 4), st.integers(0, 3)), min_size=1, max_size=3),
    vocabulary=st.integers(2, 4),
)
@settings(max_examples=25)
def test_any_small_batch_agrees_with_the_sum_and_its_gradients_with_the_recursion(**drawn: Any) -> None:
    case = Case(**drawn)
    losses = transducer_loss(*case.parts, *case.rest, reduction="none")
    expected = [case.brute_force(row) for row in range(len(case.frames))]
    assert losses.tolist() == pytest.approx(expected, rel=1e-10)
    weights = torch.linspace(-1.0, 2.0, len(losses), dtype=torch.float64)
    plain = transducer_loss_reference(*case.parts, *case.rest, reduction="none")
    found, right = (torch.autograd.grad((each * weights).sum(), case.parts) for each in (losses, plain))
    for one, other in zip(found, right, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("name", CASES)
def test_gradients_are_those_of_finite_differences(name: str) -> None:
    case = CASES[name]
    inside = [torch.randn_like(part).requires_grad_() for part in case.parts]
    assert torch.autograd.gradcheck(lambda *parts: transducer_loss(*parts, *case.rest, reduction="none"), inside)


def test_the_reference_can_be_differentiated_twice() -> None:
    case = CASES["plain"]
    inside = [torch.randn_like(part).requires_grad_() for part in case.parts]
    assert torch.autograd.gradgradcheck(lambda *parts: transducer_loss_reference(*parts, *case.rest), inside)


def test_reductions_are_those_of_torchs_ctc_loss() -> None:
    case = Case(6, [(4, 3), (2, 1), (3, 0)])
    losses = transducer_loss(*case.parts, *case.rest, reduction="none")
    assert losses.shape == (3,)
    assert transducer_loss(*case.parts, *case.rest, reduction="sum").item() == pytest.approx(losses.sum().item())
    # torch counts the labels of an empty target as one.
    mean = (losses / torch.tensor([3.0, 1.0, 1.0])).mean().item()
    assert transducer_loss(*case.parts, *case.rest).item() == pytest.approx(mean)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_neither_padding_nor_other_rows_change_a_bit(dtype: torch.dtype) -> None:
    case = Case(7, [(5, 3), (2, 1), (4, 3), (1, 0)], 7, dtype=dtype)
    losses = transducer_loss(*case.parts, *case.rest, reduction="none")
    found = torch.autograd.grad(losses.sum(), case.parts[:2])
    for row, (frames, count) in enumerate(zip(case.frames.tolist(), case.labels.tolist(), strict=True)):
        encoded = case.parts[0][row : row + 1, :frames].detach().requires_grad_()
        predicted = case.parts[1][row : row + 1, : count + 1].detach().requires_grad_()
        alone = transducer_loss(
            encoded,
            predicted,
            *case.parts[2:],
            case.targets[row : row + 1, :count],
            case.frames[row : row + 1],
            case.labels[row : row + 1],
            reduction="none",
        )
        assert torch.equal(alone[0], losses[row])
        own = torch.autograd.grad(alone.sum(), (encoded, predicted))
        assert torch.equal(own[0][0], found[0][row, :frames])
        assert torch.equal(own[1][0], found[1][row, : count + 1])
        assert not found[0][row, frames:].any() and not found[1][row, count + 1 :].any()


def test_numbers_without_end_and_unlikely_targets_leave_no_nan() -> None:
    case = Case(8, [(4, 3), (3, 1)])
    encoded, predicted, weight, bias = (part.detach().clone() for part in case.parts)
    encoded[0, 0, 0] = -math.inf
    predicted[1, 0, 1] = math.inf
    # Each label that is written costs 1e4 nats and more.
    bias[0] = 1e4
    parts = [part.requires_grad_() for part in (encoded, predicted, weight, bias)]
    losses = transducer_loss(*parts, *case.rest, reduction="none")
    assert losses.isfinite().all() and (losses > torch.tensor([2.9e4, 0.9e4])).all()
    for gradient in torch.autograd.grad(losses.sum(), parts):
        assert gradient.isfinite().all()
    # The model gains by making the blank less likely.
    assert torch.autograd.grad(transducer_loss(*parts, *case.rest), bias)[0][0] > 0


def test_a_target_without_any_alignment_has_an_infinite_loss_and_no_gradient() -> None:
    case = Case(9, [(3, 2), (3, 2)])
    case.targets[:, :2] = torch.tensor([[1, 2], [1, 1]])
    bias = case.parts[3].detach().clone()
    bias[2] = -math.inf
    parts = [*(part.detach().nan_to_num(0.0).requires_grad_() for part in case.parts[:3]), bias.requires_grad_()]
    losses = transducer_loss(*parts, *case.rest, reduction="none")
    assert losses[0] == math.inf and losses[1].isfinite()
    gradients = torch.autograd.grad(losses.sum(), parts)
    assert all(gradient.isfinite().all() for gradient in gradients)
    assert not gradients[0][0].any() and gradients[0][1].any()


def test_shares_of_the_lattice_add_up() -> None:
    # Each alignment has one blank a frame and writes each label once, so the shares of a frame and of a label are one.
    torch.manual_seed(10)
    blank = torch.randn(2, 6, 4, dtype=torch.float64).requires_grad_()
    label = torch.randn(2, 6, 3, dtype=torch.float64).requires_grad_()
    total = alignments_log_probability(blank, label, torch.tensor([6, 4]), torch.tensor([3, 2]))
    blanks, labels = torch.autograd.grad(total.sum(), (blank, label))
    torch.testing.assert_close(blanks.sum(2), (torch.arange(6) < torch.tensor([[6], [4]])).double())
    torch.testing.assert_close(labels.sum(1), (torch.arange(3) < torch.tensor([[3], [2]])).double())


def test_float32_keeps_its_digits_over_a_long_lattice() -> None:
    torch.manual_seed(11)
    parts = [torch.randn(1, 400, 8), torch.randn(1, 41, 8), torch.randn(30, 8), torch.randn(30)]
    rest = torch.randint(1, 30, (1, 40)), torch.tensor([400]), torch.tensor([40])
    results = []
    for dtype in (torch.float32, torch.float64):
        given = [part.to(dtype).requires_grad_() for part in parts]
        loss = transducer_loss(*given, *rest)
        results.append((loss, *torch.autograd.grad(loss, given)))
    for narrow, exact in zip(*results, strict=True):
        torch.testing.assert_close(narrow.double(), exact, rtol=1e-4, atol=1e-5 * float(exact.detach().abs().max()))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_under_autocast_products_alone_are_narrow(dtype: torch.dtype) -> None:
    case = Case(12, [(4, 3), (2, 1)], dtype=torch.float32)
    with torch.autocast("cpu", dtype):
        loss = transducer_loss(*case.parts, *case.rest)
    assert loss.dtype == torch.float32
    plain = transducer_loss(*case.parts, *case.rest)
    torch.testing.assert_close(loss, plain, rtol=0.02, atol=0.02)
    found, right = (torch.autograd.grad(each, case.parts) for each in (loss, plain))
    for one, other in zip(found, right, strict=True):
        assert one.dtype == torch.float32
        torch.testing.assert_close(one, other, rtol=0.1, atol=0.02)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"blank": 4}, "blank must be one of the 4 labels"),
        ({"reduction": "median"}, "reduction must be none, mean or sum"),
        ({"target_lengths": torch.tensor([4, 1])}, "target_lengths must lie between 0 and 3"),
        ({"encoded_lengths": torch.tensor([0, 1])}, "encoded_lengths must lie between 1 and 5"),
        ({"targets": torch.tensor([[1, 2, 4], [1, 1, 1]])}, "label 2 of row 0 is 4"),
        ({"targets": torch.tensor([[1, 2, 3], [0, 1, 1]])}, "label 0 of row 1 is 0"),
        ({"targets": torch.tensor([[1, 2], [1, 1]])}, r"targets must have the shape \(2, 3\)"),
        ({"targets": torch.ones(2, 3)}, "targets must be whole numbers"),
        ({"bias": torch.zeros(5)}, r"bias must have the shape \(4,\)"),
    ],
)
def test_what_does_not_fit_together_is_refused(change: dict[str, Any], message: str) -> None:
    case = Case(13, [(4, 3), (2, 1)])
    names = "encoded", "predicted", "weight", "bias", "targets", "encoded_lengths", "target_lengths", "blank"
    for loss in (transducer_loss, transducer_loss_reference):
        with pytest.raises(ValueError, match=message):
            loss(**(dict(zip(names, (*case.parts, *case.rest), strict=True)) | change))
