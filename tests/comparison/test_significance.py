"""Tests of significance against published examples, scipy, and what theory demands."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from recurra.comparison.resampling import paired_bootstrap
from recurra.comparison.significance import (
    discordant,
    holm,
    including_seeds,
    mcnemar,
    paired_t_test,
    welch_t_test,
)
from recurra.errors import DataError

# Darwin's crossed and self-fertilised maize, in eighths of an inch (Fisher 1935, The Design of Experiments).
MAIZE = [49, -67, 8, 16, 6, 23, 28, 41, 14, 29, 56, 24, 75, 60, -48]
# Hours of sleep gained under two drugs by ten patients (Student 1908); the data set `sleep` of R.
SLEEP = ([0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0], [1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4])


def test_t_test_of_darwins_maize_is_fishers() -> None:
    found = paired_t_test(MAIZE, np.zeros(15))
    assert found.difference / found.error == pytest.approx(2.148, abs=5e-4) and found.degrees == 14
    assert found.p == pytest.approx(0.0497, abs=5e-5)


def test_t_tests_of_students_sleep_are_rs() -> None:
    # As ?sleep and ?t.test of R print them.
    paired = paired_t_test(*SLEEP)
    assert paired.difference / paired.error == pytest.approx(-4.0621, abs=5e-5) and paired.degrees == 9
    assert paired.p == pytest.approx(0.002833, abs=5e-7)
    assert (paired.low, paired.high) == pytest.approx((-2.4598858, -0.7001142), abs=5e-8)
    welch = welch_t_test(*SLEEP)
    assert welch.difference / welch.error == pytest.approx(-1.8608, abs=5e-5)
    assert welch.degrees == pytest.approx(17.776, abs=5e-4) and welch.p == pytest.approx(0.07939, abs=5e-6)
    assert (welch.low, welch.high) == pytest.approx((-3.3654832, 0.2054832), abs=5e-8)


@pytest.mark.parametrize(
    ("counts", "p", "mid_p"),
    # The two examples of Fagerland, Lydersen & Laake (2013), Bentur et al. (2009) and Cavo et al. (2012), as fractions
    # of the binomial distribution and as that paper prints them.
    [((1, 7), 18 / 256, 10 / 256), ((6, 16), 2 * 110_056 / 2**22, (2 * 110_056 - 74_613) / 2**22)],
)
def test_mcnemar_of_published_tables(counts: tuple[int, int], p: float, mid_p: float) -> None:
    found = mcnemar(*counts)
    assert (found.p, found.mid_p) == (p, mid_p)
    assert mcnemar(*counts[::-1])[2:] == found[2:]
    printed = {(1, 7): (0.070, 0.039), (6, 16): (0.052, 0.035)}[counts]
    assert (round(found.p, 3), round(found.mid_p, 3)) == printed


def test_holm_is_bonferroni_on_every_subset() -> None:
    # Holm's procedure is the closed test whose subsets are tested by Bonferroni (Marcus, Peritz & Gabriel 1976).
    generator = np.random.default_rng(2)
    for size in (1, 2, 3, 5, 7):
        p_values = list(generator.uniform(size=size) ** 3)
        expected = [
            max(
                min(1.0, len(subset) * min(p_values[member] for member in subset))
                for length in range(1, size + 1)
                for subset in itertools.combinations(range(size), length)
                if index in subset
            )
            for index in range(size)
        ]
        assert holm(p_values) == pytest.approx(expected)
    # R: p.adjust(c(0.01, 0.02, 0.03, 0.04, 0.05), "holm")
    assert holm([0.01, 0.02, 0.03, 0.04, 0.05]) == pytest.approx([0.05, 0.08, 0.09, 0.09, 0.09])
    assert holm([]) == []


def test_t_tests_are_scipys() -> None:
    stats = pytest.importorskip("scipy.stats")
    first, second = np.random.default_rng(4).normal(size=(2, 200))
    second = second * 3 + first + 0.4
    expected = stats.ttest_rel(first, second)
    found = paired_t_test(first, second)
    assert found.p == pytest.approx(expected.pvalue, rel=1e-10)
    assert (found.low, found.high) == pytest.approx(tuple(expected.confidence_interval()), rel=1e-9)
    welch, expected = welch_t_test(first[:5], second[:8]), stats.ttest_ind(first[:5], second[:8], equal_var=False)
    assert welch.p == pytest.approx(expected.pvalue, rel=1e-10)
    assert (welch.low, welch.high) == pytest.approx(tuple(expected.confidence_interval()), rel=1e-9)
    single = welch_t_test(first[:5], [0.2])
    assert single.p == pytest.approx(stats.ttest_1samp(first[:5], 0.2).pvalue, rel=1e-10)


def test_mcnemar_is_scipys_binomial_test() -> None:
    stats = pytest.importorskip("scipy.stats")
    for counts in itertools.product(range(12), repeat=2):
        if sum(counts):
            assert mcnemar(*counts).p == pytest.approx(stats.binomtest(counts[0], sum(counts)).pvalue), counts
    assert mcnemar(700, 812).p == pytest.approx(stats.binomtest(700, 1512).pvalue, rel=1e-9)


def test_seeds_widen_the_difference_as_their_variances_add_up() -> None:
    generator = np.random.default_rng(13)
    trials, wrong_examples, wrong = 200, 0, 0
    for trial in range(trials):
        # Two systems that are alike: what differs are seeds (deviation 1) and examples (deviation 1 of the mean).
        shared = generator.normal(0, 8, 64)
        first = shared + generator.normal(size=(3, 1)) + generator.normal(0, 2, 64)
        second = shared + generator.normal(size=(3, 1)) + generator.normal(0, 2, 64)
        paired = paired_bootstrap(first[..., None], second[..., None], samples=200, seed=trial)
        widened = including_seeds(paired, first.mean(1), second.mean(1))
        wrong_examples += paired.p <= 0.05
        wrong += widened.p <= 0.05
    assert wrong_examples / trials > 0.3
    assert wrong / trials < 0.05 + 4 * math.sqrt(0.05 * 0.95 / trials)
    # Without the spread of seeds nothing changes.
    assert including_seeds(paired, [1.0], [2.0]) is paired


def test_discordant_examples_are_counted() -> None:
    assert discordant([1, 1, 0, 0, 1], [0, 1, 1, 0, 0]) == (2, 1)
    assert discordant(np.array([True, False]), np.array([False, False])) == (1, 0)


def test_what_cannot_be_tested_is_refused() -> None:
    with pytest.raises(DataError, match="cannot be paired"):
        paired_t_test([1.0, 2.0], [1.0])
    with pytest.raises(DataError, match="at least two"):
        paired_t_test([1.0], [1.0])
    with pytest.raises(DataError, match="not a finite number"):
        paired_t_test([1.0, math.nan], [1.0, 2.0])
    with pytest.raises(DataError, match="1 or 0"):
        discordant([0.5, 1], [1, 1])
    with pytest.raises(DataError, match="at least two seeds"):
        welch_t_test([1.0], [2.0])
    with pytest.raises(DataError, match="at least 0"):
        mcnemar(-1, 3)


def test_systems_that_are_never_apart_do_not_differ() -> None:
    assert paired_t_test([1.0, 2.0], [1.0, 2.0]).p == 1.0
    assert mcnemar(0, 0)[2:] == (1.0, 1.0) and mcnemar(1, 1)[2:] == (1.0, 0.75)
