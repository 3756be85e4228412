"""Whether a difference is real: McNemar, t-tests, several comparisons; the bootstrap is in `resampling`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ..errors import DataError
from .student import t_quantile, t_tails

__all__ = [
    "Difference",
    "McNemar",
    "discordant",
    "holm",
    "including_seeds",
    "mcnemar",
    "paired_t_test",
    "welch_t_test",
]

Array = npt.NDArray[Any]


class Difference(NamedTuple):
    """The measure of a first system less the measure of a second.

    Attributes:
        difference: first - second.
        low, high: ends of the confidence interval.
        p: two-sided p-value of the hypothesis that there is no difference.
        error: the standard error of the difference.
        degrees: degrees of freedom of that error; for a bootstrap the examples or groups less 1.
    """

    difference: float
    low: float
    high: float
    p: float
    error: float
    degrees: float


class McNemar(NamedTuple):
    """Two-sided p-values of McNemar's test.

    Attributes:
        only_first, only_second: examples that one system alone has right.
        p: exact; never below the true level, and often far above it.
        mid_p: with half the probability of what was observed; closer to the true level.
    """

    only_first: int
    only_second: int
    p: float
    mid_p: float


def discordant(first_right: npt.ArrayLike, second_right: npt.ArrayLike) -> tuple[int, int]:
    """How many examples the first system alone has right, and how many the second alone: the counts for `mcnemar`.

    Raises:
        DataError: if the lengths differ, or an outcome is neither 0 nor 1.
    """
    first, second = np.asarray(first_right), np.asarray(second_right)
    if first.shape != second.shape or first.ndim != 1:
        raise DataError(f"outcomes of shapes {first.shape} and {second.shape} cannot be paired; give one an example.")
    if not (np.isin(first, (0, 1)).all() and np.isin(second, (0, 1)).all()):
        raise DataError("McNemar's test is for right and wrong; give outcomes that are 1 or 0.")
    return int(((first == 1) & (second == 0)).sum()), int(((first == 0) & (second == 1)).sum())


def mcnemar(only_first: int, only_second: int) -> McNemar:
    """McNemar's test: whether two systems are right equally often, from the examples that one alone has right.

    Under the hypothesis each of these examples belongs to either system with probability 1/2, a binomial distribution.
    p and mid-p are those of Fagerland, Lydersen & Laake (2013), "The McNemar test for binary matched-pairs data", who
    advise mid-p.

    Raises:
        DataError: if a count is negative.
    """
    if min(only_first, only_second) < 0:
        raise DataError(f"counts of examples cannot be {only_first} and {only_second}; give numbers of at least 0.")
    both, fewer = only_first + only_second, min(only_first, only_second)
    # Whole numbers, so that nothing is rounded before the end.
    point = tail = 1
    for k in range(fewer):
        point = point * (both - k) // (k + 1)
        tail += point
    if not both:
        return McNemar(0, 0, 1.0, 1.0)
    if only_first == only_second:
        return McNemar(only_first, only_second, 1.0, 1.0 - point / 2**both / 2)
    return McNemar(only_first, only_second, 2 * tail / 2**both, (2 * tail - point) / 2**both)


def paired_t_test(first: npt.ArrayLike, second: npt.ArrayLike, confidence: float = 0.95) -> Difference:
    """Student's paired t-test of a mean difference, for outcomes (N,) of independent examples.

    Raises:
        DataError: if the outcomes do not fit together, are not finite, or are fewer than two.
    """
    one, two = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if one.shape != two.shape or one.ndim != 1:
        raise DataError(f"outcomes of shapes {one.shape} and {two.shape} cannot be paired; give one an example.")
    change = check_finite(one - two)
    check_enough(len(change))
    return _by_t(float(change.mean()), [(float(change.var(ddof=1)) / len(change), len(change) - 1)], confidence)


def welch_t_test(first: npt.ArrayLike, second: npt.ArrayLike, confidence: float = 0.95) -> Difference:
    """Welch's t-test of two means, for values of independent runs such as seeds, (R,) and (S,).

    A single value counts as one that every seed would give, as with a baseline that has no random numbers.

    Raises:
        DataError: if neither side has two values, or one has none, or a value is not finite.
    """
    one, two = (check_finite(np.asarray(values, dtype=np.float64).ravel()) for values in (first, second))
    if min(len(one), len(two)) < 1 or max(len(one), len(two)) < 2:
        raise DataError(f"{len(one)} and {len(two)} runs show no spread of the seeds; train at least two seeds.")
    return _by_t(float(one.mean() - two.mean()), [*_seed_variances(one), *_seed_variances(two)], confidence)


def including_seeds(
    paired: Difference, first: npt.ArrayLike, second: npt.ArrayLike, confidence: float = 0.95
) -> Difference:
    """Widen a difference over examples by what other seeds would change.

    The variances of examples and of seeds add up, and their degrees of freedom are Satterthwaite's (1946). Where seeds
    vary as much as examples or more, the interval of two or three seeds is wide, because little is known of their
    spread. For systems that are alike p is below 0.05 in about 5% of cases with 2, 3 or 5 seeds; without this it would
    be in up to half of them.

    Args:
        paired: what `paired_bootstrap` found for the runs' mean.
        first, second: the measure of each run; a single one counts as one that every seed would give.
        confidence: of the interval.
    """
    one, two = (check_finite(np.asarray(values, dtype=np.float64).ravel()) for values in (first, second))
    seeds = [*_seed_variances(one), *_seed_variances(two)]
    if not seeds:
        return paired
    return _by_t(paired.difference, [(paired.error**2, paired.degrees), *seeds], confidence)


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values for several comparisons at once, adjusted by Holm (1979); in the order given.

    If those of at most alpha are called significant, the probability that any of them is so by chance is at most alpha.
    """
    order = sorted(range(len(p_values)), key=lambda index: p_values[index])
    adjusted, largest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(order):
        largest = max(largest, min(1.0, (len(order) - rank) * p_values[index]))
        adjusted[index] = largest
    return adjusted


def _by_t(difference: float, parts: Sequence[tuple[float, float]], confidence: float) -> Difference:
    """From the variances that make up the difference's, each with its degrees of freedom."""
    variance = math.fsum(part for part, _ in parts)
    if variance == 0.0:
        p = 1.0 if difference == 0.0 else 0.0
        return Difference(difference, difference, difference, p, 0.0, min(degrees for _, degrees in parts))
    degrees = variance**2 / math.fsum(part**2 / degrees for part, degrees in parts)
    error = math.sqrt(variance)
    margin = t_quantile(confidence, degrees) * error
    p = t_tails(difference / error, degrees)
    return Difference(difference, difference - margin, difference + margin, p, error, degrees)


def _seed_variances(values: Array) -> list[tuple[float, float]]:
    return [(float(values.var(ddof=1)) / len(values), len(values) - 1)] if len(values) > 1 else []


def check_enough(units: int) -> None:
    """Raise DataError for fewer than two examples or groups."""
    if units < 2:
        raise DataError("a test needs at least two examples or groups; give more of them.")


def check_finite(values: Array) -> Array:
    """The same values; raises DataError if one is infinite or no number."""
    if not np.isfinite(values).all():
        raise DataError("an outcome or a measure is not a finite number; leave such examples out, for both systems.")
    return values
