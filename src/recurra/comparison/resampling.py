"""Whether a difference between two systems, judged on the same examples, is real.

A system's *outcomes* are an array of what is known of each example:

- (N,): one number for each of N examples, such as 1 for right and 0 for wrong. The measure is their mean.
- (N, K): K statistics for each example, such as nats and tokens, or the counts of BLEU. The measure is a function of
  their sums over examples; `ratio`, the default, divides the first sum by the second.
- (R, N, K): the same for each of R runs (seeds) of the system. The measure is the mean over the runs.

`groups` names for each example the group it belongs to (a review, a window of time, a speaker). Examples of a group
depend on one another, so that groups are drawn and swapped whole.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import DataError
from .significance import Array, Difference, check_enough, check_finite

__all__ = ["Measured", "paired_bootstrap", "paired_bootstrap_by_index", "paired_permutation", "ratio", "run_values"]

Measured = Callable[[Array], Array]
"""From sums of statistics (..., K) to the measure of each, (...)."""

# Numbers in each array of a chunk of resamples: 1 MiB, which stays in the cache.
_CHUNK = 1 << 17
# Sums that are equal in exact arithmetic differ by less than this share of the measures.
_ROUNDING = 1e-12


def ratio(sums: Array) -> Array:
    """The first sum over the second: (..., 2) to (...)."""
    found: Array = sums[..., 0] / sums[..., 1]
    return found


def run_values(outcomes: npt.ArrayLike, of: Measured = ratio) -> Array:
    """The measure of each run, (R,), on all examples.

    Raises:
        DataError: if the outcomes have another shape than this module says, or are not finite.
    """
    return check_finite(of(_statistics(outcomes).sum(axis=1)))


def paired_bootstrap(
    first: npt.ArrayLike,
    second: npt.ArrayLike,
    of: Measured = ratio,
    *,
    groups: Sequence[Any] | Array | None = None,
    samples: int = 10_000,
    confidence: float = 0.95,
    seed: int = 1,
) -> Difference:
    """Paired bootstrap over examples (Koehn 2004, "Statistical significance tests for machine translation evaluation").

    Each resample draws as many examples as there are, with replacement, the same for both systems. The interval runs
    between percentiles of the resampled differences. These lie around the observed difference and not around 0, so p is
    the share that is as far from the observed difference as that is from 0 (Berg-Kirkpatrick, Burkett & Klein 2012,
    "An empirical investigation of statistical significance in NLP"), here on both sides, with the observed one counted
    (Davison & Hinkley 1997, equation 4.11). So p is never below 1 / (samples + 1). Interval and p are approximations
    that may disagree when p is close to 1 - confidence.

    Only examples are drawn, never runs: the answer is about these trained systems (see `including_seeds`).

    Args:
        first, second: outcomes of the same examples in the same order.
        of: from sums of statistics to measures.
        groups: (N,), for outcomes in groups.
        samples: resamples.
        confidence: of the interval.
        seed: the same seed gives the same answer.

    Raises:
        DataError: if the outcomes do not fit together, are not finite, or are those of fewer than two examples or
            groups; or if the measure of a resample is not finite.
    """
    both, runs = _together(first, second, groups)
    observed = _apart(check_finite(of(both.sum(axis=1))), runs)
    rows = both.transpose(1, 0, 2).reshape(both.shape[1], -1)

    def resampled() -> Iterator[Array]:
        for drawn in _draws(len(rows), samples, seed):
            # How often each is drawn, times its statistics, is faster than to gather them.
            offsets = len(rows) * np.arange(len(drawn))[:, None]
            counts = np.bincount((drawn + offsets).ravel(), minlength=drawn.size).reshape(drawn.shape)
            yield check_finite(of((counts.astype(np.float64) @ rows).reshape(len(drawn), len(both), -1)))

    return _bootstrapped(observed, [_apart(values, runs) for values in resampled()], len(rows), confidence)


def paired_bootstrap_by_index(
    first: Callable[[Array], float],
    second: Callable[[Array], float],
    examples: int,
    *,
    groups: Sequence[Any] | Array | None = None,
    samples: int = 1000,
    confidence: float = 0.95,
    seed: int = 1,
) -> Difference:
    """The same as `paired_bootstrap` for a measure that no sums of statistics give, such as a rank correlation.

    Args:
        first, second: the measure of a system on the examples of these indices, which come several times.
        examples: how many there are.
        groups, samples, confidence, seed: as for `paired_bootstrap`.

    Raises:
        DataError: as `paired_bootstrap`.
    """
    members = [np.array([index]) for index in range(examples)]
    if groups is not None:
        index = _group_index(groups, examples)
        members = [np.flatnonzero(index == group) for group in range(int(index.max()) + 1)]
    check_enough(len(members))

    def values(indices: Array) -> Array:
        return check_finite(np.array([first(indices), second(indices)], dtype=np.float64))

    found = [values(np.concatenate([members[unit] for unit in row]))
             for drawn in _draws(len(members), samples, seed) for row in drawn]  # fmt: skip
    observed = _apart(values(np.arange(examples)), 1)
    return _bootstrapped(observed, [_apart(np.array(found), 1)], len(members), confidence)


def paired_permutation(
    first: npt.ArrayLike,
    second: npt.ArrayLike,
    of: Measured = ratio,
    *,
    groups: Sequence[Any] | Array | None = None,
    samples: int = 10_000,
    seed: int = 1,
) -> float:
    """Two-sided p-value of the paired permutation test (Fisher 1935), also called approximate randomisation.

    If the systems were alike, each example's two outcomes could as well be exchanged. p is the share of exchanges whose
    difference is at least as large as the observed one: of all 2^N if these are at most `samples`, else of so many
    drawn ones and the observed one (Noreen 1989; Riezler & Maxwell 2005).

    Args:
        first, second: outcomes of one run each.
        of, groups, samples, seed: as for `paired_bootstrap`.

    Raises:
        DataError: as `paired_bootstrap`, and for several runs, which should be averaged first.
    """
    both, _ = _together(first, second, groups)
    if len(both) != 2:
        raise DataError("a permutation test exchanges outcomes of one run each; average the runs first.")
    totals, units = both.sum(axis=1), both.shape[1]
    change = both[0] - both[1]
    values = check_finite(of(totals))
    least = abs(values[0] - values[1]) - _ROUNDING * np.abs(values).sum()
    exact = units < 40 and 2**units <= samples

    def swaps() -> Iterator[Array]:
        generator = np.random.default_rng(seed)
        count = 2**units if exact else samples
        for start, rows in _chunks(count, units):
            if exact:
                yield np.arange(start, start + rows)[:, None] >> np.arange(units) & 1
            else:
                yield generator.integers(0, 2, (rows, units), dtype=np.int8)

    extreme = 0
    for swapped in swaps():
        moved = swapped.astype(np.float64) @ change
        found = np.abs(check_finite(of(totals[0] - moved)) - check_finite(of(totals[1] + moved)))
        extreme += int((found >= least).sum())
    return extreme / 2**units if exact else (extreme + 1) / (samples + 1)


def _bootstrapped(observed: Array, resampled: Sequence[Array], units: int, confidence: float) -> Difference:
    """From observed and resampled measures (..., 2) of both systems."""
    values = np.concatenate(resampled)
    found = values[:, 0] - values[:, 1]
    difference = float(observed[0] - observed[1])
    rounding = _ROUNDING * np.abs(values).sum(axis=1)
    extreme = int((np.abs(found - difference) >= abs(difference) - rounding).sum())
    low, high = np.quantile(found, [(1 - confidence) / 2, (1 + confidence) / 2])
    p = (extreme + 1) / (len(found) + 1)
    return Difference(difference, float(low), float(high), p, float(found.std(ddof=1)), units - 1)


def _apart(values: Array, runs: int) -> Array:
    """Measures (..., runs of both) as the mean of each system's runs, (..., 2)."""
    return np.stack([values[..., :runs].mean(axis=-1), values[..., runs:].mean(axis=-1)], axis=-1)


def _statistics(outcomes: npt.ArrayLike) -> Array:
    """Outcomes as (R, N, K), K at least 2."""
    found = np.asarray(outcomes, dtype=np.float64)
    if found.ndim == 1:
        found = found[:, None]
    if found.ndim == 2:
        found = found[None]
    if found.ndim != 3 or 0 in found.shape:
        raise DataError(f"outcomes of shape {np.shape(outcomes)} are none; give (examples,), or one row an example.")
    if found.shape[2] == 1:
        found = np.concatenate([found, np.ones_like(found)], axis=2)
    return check_finite(found)


def _together(first: npt.ArrayLike, second: npt.ArrayLike, groups: Sequence[Any] | Array | None) -> tuple[Array, int]:
    """Both systems' statistics of each example or group, (runs of both, units, K), and the first's number of runs."""
    one, two = _statistics(first), _statistics(second)
    if one.shape[1:] != two.shape[1:]:
        raise DataError(
            f"{one.shape[1]:,} and {two.shape[1]:,} examples with {one.shape[2]} and {two.shape[2]} statistics cannot "
            "be paired; judge both systems on the same examples."
        )
    both = np.concatenate([one, two])
    if groups is not None:
        index = _group_index(groups, both.shape[1])
        sums = np.zeros((int(index.max()) + 1, len(both), both.shape[2]))
        np.add.at(sums, index, both.transpose(1, 0, 2))
        both = sums.transpose(1, 0, 2)
    check_enough(both.shape[1])
    return both, len(one)


def _group_index(groups: Sequence[Any] | Array, examples: int) -> Array:
    named = np.asarray(groups)
    if named.shape != (examples,):
        raise DataError(f"groups of shape {named.shape} are not those of {examples:,} examples; name one an example.")
    index: Array = np.unique(named, return_inverse=True)[1]
    return index


def _chunks(count: int, width: int) -> Iterator[tuple[int, int]]:
    """Starts and numbers of rows, so that rows of this width fit in a chunk."""
    size = max(1, _CHUNK // width)
    for start in range(0, count, size):
        yield start, min(size, count - start)


def _draws(units: int, samples: int, seed: int) -> Iterator[Array]:
    """Indices of resampled units, (rows, units), some rows at a time."""
    generator = np.random.default_rng(seed)
    for _, rows in _chunks(samples, units):
        yield generator.integers(0, units, (rows, units))
