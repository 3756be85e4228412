"""The conditional random field against sums and sorts over all K^T paths, one by one in Python."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from recurra.models.crf import CRF

Path = tuple[int, ...]


class Case:
    """A field with its parameters, and a ragged batch with rubbish in the padding.

    Args:
        masked: the share of moves that are forbidden.
        whole: whether all numbers are small whole ones, so that many paths have the same score, exactly.
    """

    def __init__(self, seed: int, lengths: list[int], tags: int, masked: float = 0.0, *, whole: bool = False) -> None:
        random = np.random.default_rng(seed)
        steps, rows = max(lengths) + int(random.integers(2)), len(lengths)

        def draw(*shape: int) -> Tensor:
            drawn = random.integers(-2, 3, shape) if whole else 2 * random.standard_normal(shape)
            return torch.from_numpy(drawn.astype(np.float64))

        def mask(*shape: int) -> Tensor | None:
            return torch.from_numpy(random.random(shape) >= masked) if masked else None

        self.crf = CRF(tags, mask(tags, tags), mask(tags), mask(tags)).double()
        for parameter in self.crf.parameters():
            parameter.data = draw(*parameter.shape)
        self.emissions = draw(steps, rows, tags)
        self.tags = torch.from_numpy(random.integers(0, tags, (steps, rows)))
        self.lengths = torch.tensor(lengths)
        for row, length in enumerate(lengths):
            self.emissions[length:, row] = math.nan
            self.tags[length:, row] = -100

    def path_score(self, row: int, path: Path) -> float:
        """The equation, term by term; minus infinity for a forbidden move."""
        crf, emissions = self.crf, self.emissions[:, row].tolist()
        moves = crf.transitions.tolist()
        score = crf.start.tolist()[path[0]] + sum(emissions[step][tag] for step, tag in enumerate(path))
        score += sum(moves[one][other] for one, other in itertools.pairwise(path)) + crf.end.tolist()[path[-1]]
        legal = crf.start_allowed is None or bool(crf.start_allowed[path[0]])
        legal &= crf.end_allowed is None or bool(crf.end_allowed[path[-1]])
        legal &= crf.allowed is None or all(bool(crf.allowed[pair]) for pair in itertools.pairwise(path))
        return score if legal else -math.inf

    def gold(self, row: int) -> Path:
        return tuple(self.tags[: int(self.lengths[row]), row].tolist())

    def legal_paths(self, row: int) -> list[tuple[Path, float]]:
        """Best first; of equal ones the one that is lower when it is read from its end."""
        paths = itertools.product(range(self.crf.tags), repeat=int(self.lengths[row]))
        scored = [(path, score) for path in paths if (score := self.path_score(row, path)) > -math.inf]
        return sorted(scored, key=lambda each: (-each[1], each[0][::-1]))

    def oracle(self) -> list[list[tuple[Path, float]]]:
        return [self.legal_paths(row) for row in range(len(self.lengths))]

    @property
    def batch(self) -> tuple[Tensor, Tensor]:
        return self.emissions, self.lengths

    @property
    def gold_batch(self) -> tuple[Tensor, Tensor, Tensor]:
        return self.emissions, self.tags, self.lengths


def log_sum(scores: list[float]) -> float:
    return max(scores) + math.log(math.fsum(math.exp(score - max(scores)) for score in scores))


def compare(case: Case) -> None:
    """Every method against the oracle."""
    crf, found = case.crf, case.oracle()
    gold = [case.path_score(row, case.gold(row)) for row in range(len(found))]
    np.testing.assert_allclose(crf.score(*case.gold_batch).detach(), gold, rtol=1e-12, atol=1e-12)
    without = [row for row, paths in enumerate(found) if not paths]
    if without:
        for call in (crf.log_partition, crf.marginals, crf.decode, lambda *batch: crf.n_best(*batch, 3)):
            with pytest.raises(ValueError, match=f"row {without[0]} has no allowed path"):
                call(*case.batch)
        with pytest.raises(ValueError, match=f"row {without[0]} has no allowed path"):
            crf.log_likelihood(*case.gold_batch)
        return
    totals = [log_sum([score for _, score in paths]) for paths in found]
    np.testing.assert_allclose(crf.log_partition(*case.batch).detach(), totals, rtol=1e-12, atol=1e-12)
    likelihood = [score - total for score, total in zip(gold, totals, strict=True)]
    np.testing.assert_allclose(crf.log_likelihood(*case.gold_batch).detach(), likelihood, rtol=1e-11, atol=1e-11)

    marginals = np.zeros(case.emissions.shape)
    for row, paths in enumerate(found):
        for path, score in paths:
            marginals[range(len(path)), row, path] += math.exp(score - totals[row])
    given = crf.marginals(*case.batch)
    np.testing.assert_allclose(given, marginals, rtol=1e-10, atol=1e-12)
    assert not given[torch.from_numpy(marginals == 0)].any()

    decoded = crf.decode(*case.batch)
    for n in (1, 2, 5, 100):
        best = crf.n_best(*case.batch, n)
        for row, paths in enumerate(found):
            assert [path for path, _ in best[row]] == [list(path) for path, _ in paths[:n]]
            expected = [score - totals[row] for _, score in paths[:n]]
            np.testing.assert_allclose([score for _, score in best[row]], expected, rtol=1e-11, atol=1e-11)
            assert best[row][0][0] == decoded[row][0] and math.isclose(decoded[row][1], paths[0][1], abs_tol=1e-11)


CASES = {
    "plain": Case(1, [4, 2, 3], 3),
    "masked": Case(3, [4, 1, 3], 3, 0.25),
    "one step": Case(4, [1, 1], 3, 0.2),
    "one tag": Case(5, [4, 1], 1),
    "two tags": Case(6, [6, 2, 5], 2, 0.1),
    "equal scores": Case(7, [4, 3, 1], 3, whole=True),
}


@pytest.mark.parametrize("name", CASES)
def test_every_method_agrees_with_all_paths_one_by_one(name: str) -> None:
    assert all(CASES[name].oracle()), "the case is to have legal paths"
    compare(CASES[name])


@given(
    seed=st.integers(0, 10_000),
    lengths=st.lists(st.integers(1, 4), min_size=1, max_size=4),
    tags=st.integers(1, 3),
    masked=st.sampled_from([0.0, 0.2, 0.5]),
    whole=st.booleans(),
)
def test_any_small_field_agrees_with_all_paths_one_by_one(**drawn: Any) -> None:
    compare(Case(**drawn))


@pytest.mark.parametrize("name", CASES)
def test_gradients_are_right_and_finite(name: str) -> None:
    case = CASES[name]
    crf = case.crf
    # Not the NaN of the padding: gradcheck moves every number by a little.
    emissions = case.emissions.nan_to_num(1e3).requires_grad_()
    legal = torch.zeros_like(case.tags)
    for row, paths in enumerate(case.oracle()):
        legal[: case.lengths[row], row] = torch.tensor(paths[-1][0])
    # gradcheck moves the parameters where they are, so the functions need not be given them.
    inputs = (emissions, crf.transitions, crf.start, crf.end)
    assert torch.autograd.gradcheck(lambda emissions, *_: crf.log_partition(emissions, case.lengths), inputs)
    assert torch.autograd.gradcheck(lambda emissions, *_: crf.log_likelihood(emissions, legal, case.lengths), inputs)


def test_marginals_are_the_gradient_of_the_partition() -> None:
    for case in CASES.values():
        emissions = case.emissions.clone().requires_grad_()
        case.crf.log_partition(emissions, case.lengths).sum().backward()
        assert emissions.grad is not None
        torch.testing.assert_close(case.crf.marginals(*case.batch), emissions.grad, rtol=1e-12, atol=1e-15)
        with torch.inference_mode():
            sums = case.crf.marginals(*case.batch).sum(2)
        inside = torch.arange(len(sums)).unsqueeze(1) < case.lengths
        torch.testing.assert_close(sums, inside.double())


def test_a_forbidden_gold_path_has_no_probability_and_no_nan() -> None:
    allowed = torch.tensor([[True, False], [True, True]])
    crf = CRF(2, allowed, torch.tensor([True, False]), torch.tensor([True, True]))
    emissions = torch.randn(3, 3, 2, requires_grad=True)
    # The first starts with what is forbidden, the second has a forbidden move, the third is legal.
    tags = torch.tensor([[1, 0, 0], [0, 1, 0], [0, 0, 0]])
    lengths = torch.tensor([3, 3, 3])
    likelihood = crf.log_likelihood(emissions, tags, lengths)
    # No other path of the third is allowed.
    assert likelihood.tolist() == [-math.inf, -math.inf, pytest.approx(0.0, abs=1e-6)]
    likelihood.sum().backward()
    for value in (emissions, *crf.parameters()):
        assert value.grad is not None and value.grad.isfinite().all()
    assert crf.transitions.grad is not None and crf.transitions.grad[0, 1] == 0
    assert crf.start.grad is not None and crf.start.grad[1] == 0


def test_tags_that_no_path_reaches_leave_gradients_finite() -> None:
    """The logarithm of a sum of nothing is minus infinity, and autograd's gradient of it would be NaN."""
    # Nothing leads to tag 2, and nothing leads on from it.
    allowed = torch.tensor([[True, True, False], [True, True, False], [False, False, False]])
    crf = CRF(3, allowed, torch.tensor([True, True, False]))
    emissions = torch.randn(5, 2, 3)
    # An emission of minus infinity forbids a tag at one step.
    emissions[2, 0, 1] = -math.inf
    emissions.requires_grad_()
    lengths = torch.tensor([5, 3])
    crf.log_partition(emissions, lengths).sum().backward()
    for value in (emissions, *crf.parameters()):
        assert value.grad is not None and value.grad.isfinite().all()
    assert emissions.grad is not None
    assert not emissions.grad[:, :, 2].any() and emissions.grad[2, 0].tolist() == pytest.approx([1.0, 0.0, 0.0])
    assert all(2 not in path for paths in crf.n_best(emissions, lengths, 50) for path, _ in paths)


def test_moves_that_hardly_happen_are_not_lost() -> None:
    """What leads to a tag may be far below the rest of its step, more than float32's exponent holds."""
    crf = CRF(2, torch.tensor([[True, False], [False, True]]))
    torch.nn.init.zeros_(crf.transitions)
    torch.nn.init.zeros_(crf.start)
    crf.end = torch.nn.Parameter(torch.tensor([0.0, 900.0]))
    emissions = torch.tensor([[[500.0, 0.0]], [[500.0, 0.0]]])
    assert crf.log_partition(emissions, torch.tensor([2])).item() == 1000.0
    emissions[1] = torch.tensor([390.0, 0.0])
    torch.testing.assert_close(
        crf.log_partition(emissions, torch.tensor([2])).item(), 900.0 + math.log1p(math.exp(-10))
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("tags", [1, 5, 20, 33])
def test_padding_and_other_rows_change_no_bit(tags: int, dtype: torch.dtype) -> None:
    random = torch.Generator().manual_seed(tags)
    allowed = torch.rand(tags, tags, generator=random) < 0.9
    allowed.fill_diagonal_(True)
    crf = CRF(tags, allowed).to(torch.float64 if dtype == torch.float64 else torch.float32)
    lengths = torch.tensor([7, 19, 1, 12, 19, 8])
    emissions = (3 * torch.randn(23, len(lengths), tags, generator=random)).to(dtype)
    labels = torch.randint(tags, emissions.shape[:2], generator=random)
    together = (crf.log_partition(emissions, lengths), crf.log_likelihood(emissions, labels, lengths))
    marginals, decoded = crf.marginals(emissions, lengths), crf.decode(emissions, lengths)
    best = crf.n_best(emissions, lengths, 3)
    for row, length in enumerate(lengths.tolist()):
        alone, own, size = emissions[:length, row : row + 1], labels[:length, row : row + 1], torch.tensor([length])
        assert torch.equal(together[0][row], crf.log_partition(alone, size)[0])
        assert torch.equal(together[1][row], crf.log_likelihood(alone, own, size)[0])
        assert torch.equal(marginals[:length, row], crf.marginals(alone, size)[:, 0])
        assert decoded[row] == crf.decode(alone, size)[0] and best[row] == crf.n_best(alone, size, 3)[0]


def test_half_precision_is_summed_in_float32() -> None:
    crf = CRF(4)
    lengths = torch.tensor([9, 5])
    tags = torch.randint(4, (9, 2))
    for dtype in (torch.bfloat16, torch.float16):
        emissions = torch.randn(9, 2, 4, dtype=dtype, requires_grad=True)
        found = crf.log_likelihood(emissions, tags, lengths)
        assert found.dtype == torch.float32 == crf.marginals(emissions, lengths).dtype
        assert torch.equal(found, crf.log_likelihood(emissions.float(), tags, lengths))
        assert crf.decode(emissions, lengths) == crf.decode(emissions.float(), lengths)
        found.sum().backward()
        assert emissions.grad is not None and emissions.grad.dtype == dtype
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(found, crf.log_likelihood(emissions.float(), tags, lengths))
    assert crf.log_partition(emissions.double(), lengths).dtype == torch.float64
    narrow = CRF(4).to(torch.bfloat16)
    assert narrow.log_partition(emissions.to(torch.bfloat16), lengths).dtype == torch.float32
