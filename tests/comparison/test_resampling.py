"""Bootstrap and permutation against all resamples of tiny data, other libraries, and what theory demands."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from recurra.comparison import resampling
from recurra.comparison.resampling import (
    paired_bootstrap,
    paired_bootstrap_by_index,
    paired_permutation,
    ratio,
    run_values,
)
from recurra.comparison.significance import Difference
from recurra.errors import DataError

# Darwin's crossed and self-fertilised maize, in eighths of an inch (Fisher 1935, The Design of Experiments).
MAIZE = [49, -67, 8, 16, 6, 23, 28, 41, 14, 29, 56, 24, 75, 60, -48]


def within(found: float, p: float, samples: int) -> bool:
    """Whether a share of drawn samples is as near to a probability as four standard deviations and the one added."""
    return abs(found - p) <= 4 * math.sqrt(p * (1 - p) / samples) + 1 / samples


# Published examples.


def test_permutation_of_darwins_maize_is_fishers_count() -> None:
    # "in just 863 cases out of 32,768 the total deviation will have a positive value as great or greater".
    zeros = np.zeros(15)
    assert paired_permutation(MAIZE, zeros, samples=2**15) == 2 * 863 / 2**15
    assert paired_permutation(zeros, MAIZE, samples=2**15) == 2 * 863 / 2**15
    drawn = paired_permutation(MAIZE, zeros, samples=2**15 - 1)
    assert drawn != 2 * 863 / 2**15 and within(drawn, 2 * 863 / 2**15, 2**15)


# All resamples of tiny data.


def all_resamples(first: np.ndarray, second: np.ndarray, of: Callable[[np.ndarray], Any]) -> np.ndarray:
    """The difference of every resample, each as likely as the others."""
    units = range(len(first))
    return np.array([
        float(of(first[list(drawn)].sum(0)) - of(second[list(drawn)].sum(0)))
        for drawn in itertools.product(units, repeat=len(units))
    ])  # fmt: skip


def check_bootstrap(found: Difference, every: np.ndarray, observed: float, samples: int) -> None:
    assert found.difference == pytest.approx(observed, rel=1e-12)
    assert within(found.p, float((np.abs(every - observed) >= abs(observed) - 1e-12).mean()), samples)
    # About a share of 2.5% of all resamples lies below the interval; it may be up to a value's own share less.
    assert within(float((every < found.low - 1e-9).mean()), 0.025, samples) or (every < found.low - 1e-9).mean() < 0.025
    assert (every <= found.low + 1e-9).mean() > 0.025 - 4 * math.sqrt(0.025 / samples)
    assert (every >= found.high - 1e-9).mean() > 0.025 - 4 * math.sqrt(0.025 / samples)
    assert (every > found.high + 1e-9).mean() < 0.025 + 4 * math.sqrt(0.025 / samples)
    # The sampling error of a standard deviation is at most about its size times sqrt(kurtosis / 4 n).
    assert found.error == pytest.approx(every.std(), rel=6 / math.sqrt(samples))


def test_bootstrap_of_a_mean_is_that_of_all_resamples() -> None:
    first, second = np.array([3.0, 1, 4, 1, 5, 9]), np.array([2.0, 2, 4, 1, 3, 4])
    stacked = [np.stack([each, np.ones(6)], 1) for each in (first, second)]
    found = paired_bootstrap(first, second, samples=20_000)
    check_bootstrap(found, all_resamples(*stacked, ratio), 7 / 6, 20_000)
    # The bootstrap's variance of a mean has a closed form: the variance with n in the denominator over n.
    assert found.error == pytest.approx(np.sqrt((first - second).var() / 6), rel=0.03)


def test_bootstrap_of_a_corpus_measure_is_that_of_all_resamples() -> None:
    generator = np.random.default_rng(5)
    first, second = generator.integers(1, 9, (2, 5, 3)).astype(float)

    def f1(sums: np.ndarray) -> np.ndarray:
        return 2 * sums[..., 0] / (2 * sums[..., 0] + sums[..., 1] + sums[..., 2])

    found = paired_bootstrap(first, second, f1, samples=20_000)
    check_bootstrap(found, all_resamples(first, second, f1), float(f1(first.sum(0)) - f1(second.sum(0))), 20_000)


def test_groups_are_drawn_whole() -> None:
    first = np.array([1.0, 1, 0, 1, 0, 0, 1, 1, 1, 0, 1])
    second = np.array([1.0, 0, 0, 0, 0, 1, 1, 0, 1, 1, 0])
    names = np.array(["a", "a", "b", "c", "c", "c", "d", "e", "e", "b", "d"])
    stacked = [np.stack([each, np.ones(11)], 1) for each in (first, second)]
    grouped = [np.stack([each[names == name].sum(0) for name in "abcde"]) for each in stacked]
    found = paired_bootstrap(first, second, groups=names, samples=20_000)
    check_bootstrap(found, all_resamples(*grouped, ratio), 2 / 11, 20_000)
    assert found.degrees == 4
    # Exchanged whole too: 2^5 ways.
    changes = (grouped[0] - grouped[1])[:, 0]
    every = [abs(sum(sign * change for sign, change in zip(signs, changes, strict=True)))
             for signs in itertools.product((1, -1), repeat=5)]  # fmt: skip
    assert paired_permutation(first, second, groups=names) == np.mean(np.array(every) >= abs(changes.sum()) - 1e-9)


def test_bootstrap_by_index_is_that_of_all_resamples() -> None:
    first, second = np.array([3.0, 1, 4, 1, 5]), np.array([2.0, 2, 4, 1, 9])
    resamples = map(list, itertools.product(range(5), repeat=5))
    every = np.array([np.median(first[drawn]) - np.median(second[drawn]) for drawn in resamples])
    found = paired_bootstrap_by_index(
        lambda index: float(np.median(first[index])), lambda index: float(np.median(second[index])), 5, samples=4000
    )
    check_bootstrap(found, every, 1.0, 4000)


def test_bootstrap_by_index_draws_what_the_one_by_sums_draws() -> None:
    first, second = np.random.default_rng(1).normal(size=(2, 30))
    groups = np.arange(30) // 4
    by_index = paired_bootstrap_by_index(
        lambda index: float(first[index].mean()), lambda index: float(second[index].mean()), 30, groups=groups
    )
    assert by_index == pytest.approx(paired_bootstrap(first, second, groups=groups, samples=1000), rel=1e-9)


def test_permutation_of_a_corpus_measure_is_that_of_all_exchanges() -> None:
    generator = np.random.default_rng(3)
    first, second = generator.integers(1, 9, (2, 9, 2)).astype(float)
    observed = abs(ratio(first.sum(0)) - ratio(second.sum(0)))
    every = []
    for swapped in itertools.product((False, True), repeat=9):
        mask = np.array(swapped)[:, None]
        one, two = np.where(mask, second, first), np.where(mask, first, second)
        every.append(abs(ratio(one.sum(0)) - ratio(two.sum(0))))
    p = float((np.array(every) >= observed - 1e-12).mean())
    assert paired_permutation(first, second, samples=512) == p
    assert within(paired_permutation(first, second, samples=511, seed=7), p, 511)


# Other libraries.


def test_bootstrap_is_scipys() -> None:
    stats = pytest.importorskip("scipy.stats")
    first, second = np.random.default_rng(6).gamma(2.0, size=(2, 80))
    found = paired_bootstrap(first, second, samples=9999)
    ours = (found.low, found.high)
    other = stats.bootstrap((first - second,), np.mean, method="percentile", n_resamples=9999, rng=1)
    assert other.standard_error == pytest.approx(found.error, rel=0.04)
    # A percentile of 2.5% of n values has the error sqrt(.025 * .975 / n) / density, here .027 standard errors.
    theirs = (other.confidence_interval.low, other.confidence_interval.high)
    assert np.abs(np.subtract(ours, theirs)).max() < 4 * math.sqrt(2) * 0.027 * found.error


def bleu_statistics(sentences: list[str], references: list[str]) -> np.ndarray:
    sacrebleu = pytest.importorskip("sacrebleu")
    scores = [sacrebleu.corpus_bleu([one], [[two]]) for one, two in zip(sentences, references, strict=True)]
    return np.array([[*s.counts, *s.totals, s.sys_len, s.ref_len] for s in scores], dtype=float)


def bleu(sums: np.ndarray) -> np.ndarray:
    precision = np.log(sums[..., :4] / sums[..., 4:8]).mean(-1)
    return 100 * np.exp(precision + np.minimum(0.0, 1 - sums[..., 9] / sums[..., 8]))


def test_tests_of_bleu_are_sacrebleus() -> None:
    metrics = pytest.importorskip("sacrebleu.metrics")
    from sacrebleu.significance import PairedTest

    generator = np.random.default_rng(8)
    references = [" ".join(generator.choice(list("abcdefg"), 12)) for _ in range(60)]

    def damaged(rate: float) -> list[str]:
        words = [[w if generator.uniform() > rate else "x" for w in line.split()] for line in references]
        return [" ".join(line) for line in words]

    first, second = damaged(0.2), damaged(0.225)
    one, two = bleu_statistics(first, references), bleu_statistics(second, references)
    systems = [("second", second), ("first", first)]
    exchanged = PairedTest(systems, {"BLEU": metrics.BLEU()}, [references], test_type="ar", n_samples=2000)()[1]
    assert run_values(one, bleu)[0] == pytest.approx(exchanged["BLEU"][1].score)
    p = exchanged["BLEU"][1].p_value
    assert 0.02 < p < 0.98
    assert abs(paired_permutation(one, two, bleu, samples=2000) - p) < 4 * math.sqrt(2 * p * (1 - p) / 2000)
    # sacrebleu counts one side of its resamples, of which this is the mean and half the width of the interval.
    drawn = PairedTest(systems, {"BLEU": metrics.BLEU()}, [references], test_type="bs", n_samples=2000)()[1]["BLEU"][1]
    ours = paired_bootstrap(one, np.zeros_like(one), lambda sums: np.nan_to_num(bleu(sums + 1e-300)), samples=2000)
    assert (ours.high - ours.low) / 2 == pytest.approx(drawn.ci, rel=0.15)


# What theory demands.


def test_intervals_cover_and_p_values_are_uniform_where_there_is_no_difference() -> None:
    generator = np.random.default_rng(10)
    trials, covered, small = 300, 0, 0
    for trial in range(trials):
        shared = generator.normal(size=80)
        first, second = shared + generator.normal(size=80), shared + generator.normal(size=80)
        found = paired_bootstrap(first, second, samples=400, seed=trial)
        covered += found.low <= 0.0 <= found.high
        small += found.p <= 0.2
    # With 80 examples the bootstrap's normal errors are those of t, 1% too narrow in variance.
    assert abs(covered / trials - 0.95) < 4 * math.sqrt(0.95 * 0.05 / trials) + 0.01
    assert abs(small / trials - 0.2) < 4 * math.sqrt(0.2 * 0.8 / trials) + 0.01


def test_pairing_finds_what_the_examples_own_differences_hide() -> None:
    generator = np.random.default_rng(11)
    shared = generator.normal(0, 10, 400)
    first, second = shared + generator.normal(0.2, 1, 400), shared + generator.normal(0, 1, 400)
    assert paired_bootstrap(first, second).p < 0.05 < paired_bootstrap(first, generator.permutation(second)).p


def test_examples_that_repeat_one_another_are_no_more_evidence() -> None:
    first, second = np.random.default_rng(12).normal([[0.3], [0.0]], size=(2, 40))
    once = paired_bootstrap(first, second)
    copied = [np.repeat(each, 25) for each in (first, second)]
    groups = np.repeat(np.arange(40), 25)
    assert paired_bootstrap(*copied, groups=groups) == pytest.approx(once)
    assert paired_bootstrap(*copied).error == pytest.approx(once.error / 5, rel=0.05)


def test_several_runs_are_judged_by_their_mean() -> None:
    first, second = np.random.default_rng(14).normal(size=(2, 3, 50))
    by_runs = paired_bootstrap(first[..., None], second[..., None])
    assert by_runs == pytest.approx(paired_bootstrap(first.mean(0), second.mean(0)))
    counts = np.random.default_rng(15).integers(1, 9, (2, 3, 50, 2)).astype(float)
    of_runs = paired_bootstrap(counts[0], counts[1])
    assert of_runs.difference == pytest.approx(run_values(counts[0]).mean() - run_values(counts[1]).mean())
    assert run_values(counts[0]) == pytest.approx(counts[0, :, :, 0].sum(1) / counts[0, :, :, 1].sum(1))


def test_ties_count_as_extreme_whatever_the_rounding() -> None:
    # Differences of .1 and -.1 alone: every sum of signs has ties that rounding would part.
    first, second = np.array([0.3, 0.7, 0.3, 0.9, 0.1, 0.5]), np.array([0.2, 0.6, 0.4, 0.8, 0.0, 0.4])
    # The sum of the signs is 4: 1, 6, 6 and 1 of 64 ways have 6, 4, -4 and -6.
    assert paired_permutation(first, second) == 14 / 64


# Answers, memory and errors.


def test_the_same_seed_gives_the_same_answer_whatever_the_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = np.random.default_rng(16).integers(0, 2, (2, 300)).astype(float)
    found, exchanged = paired_bootstrap(first, second, samples=1000), paired_permutation(first, second, samples=1000)
    assert paired_bootstrap(first, second, samples=1000, seed=2) != found
    monkeypatch.setattr(resampling, "_CHUNK", 1000)
    assert paired_bootstrap(first, second, samples=1000) == found
    assert paired_permutation(first, second, samples=1000) == exchanged


def test_equal_systems_do_not_differ() -> None:
    outcomes = np.random.default_rng(17).normal(size=50)
    found = paired_bootstrap(outcomes, outcomes)
    assert found[:5] == (0.0, 0.0, 0.0, 1.0, 0.0)
    assert paired_permutation(outcomes, outcomes) == 1.0


def test_what_cannot_be_tested_is_refused() -> None:
    ones = np.ones(4)
    with pytest.raises(DataError, match="4 and 5 examples"):
        paired_bootstrap(ones, np.ones(5))
    with pytest.raises(DataError, match="not a finite number"):
        paired_bootstrap(ones, [1.0, math.nan, 1.0, 1.0])
    with pytest.raises(DataError, match="at least two"):
        paired_bootstrap(ones, ones, groups=["a"] * 4)
    with pytest.raises(DataError, match="groups of shape"):
        paired_bootstrap(ones, ones, groups=["a"] * 3)
    with pytest.raises(DataError, match="average the runs"):
        paired_permutation(np.ones((2, 4, 1)), ones)
    with pytest.raises(DataError, match="none"):
        run_values([])
