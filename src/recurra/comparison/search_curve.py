"""How good the best of n trials is: what a search costs, and whether more of it would help.

The best of 20 trials is better than the best of 5, whatever is searched, so a result says little without the number of
trials behind it (Dodge, Gururangan, Card, Schwartz & Smith 2019, "Show your work: Improved reporting of experimental
results"). Dodge et al. draw n of the N trials with replacement, which makes the expected best too bad (Tang, Lee, Xin,
Liu, Yu & Lin 2020, "Showing your work doesn't always work"). Here the n trials are drawn without replacement, that is,
they are the first n of the N in a random order, and the means and quantiles are over all N! orders, exactly.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from ..errors import DataError

__all__ = ["CurvePoint", "search_curve"]


class CurvePoint(NamedTuple):
    """The best value after some trials, over all orders of the trials.

    Attributes:
        trials: how many.
        low, median, high: the best value of a quarter, half and three quarters of the orders is at least as good.
            None: it is that of a failed trial.
        expected: the mean; None if an order begins with so many failed trials.
    """

    trials: int
    low: float | None
    median: float | None
    high: float | None
    expected: float | None


def search_curve(values: Sequence[float | None], *, higher: bool = False) -> list[CurvePoint]:
    """The best value after 1, 2, ... trials.

    Args:
        values: of all trials; None for a failed one, which is worse than any number.
        higher: whether higher values are better.

    Raises:
        DataError: if there is no trial, or a value is not finite.
    """
    if not values:
        raise DataError("a search without trials has no curve; run at least one.")
    if not all(value is None or math.isfinite(value) for value in values):
        raise DataError("a value of a trial is not finite; give None for a trial that failed.")
    succeeded = sorted((value for value in values if value is not None), reverse=higher)
    ordered = [*succeeded, *[None] * (len(values) - len(succeeded))]
    return [_point(ordered, trials) for trials in range(1, len(values) + 1)]


def _point(ordered: Sequence[float | None], trials: int) -> CurvePoint:
    """Of values of which the best is the first."""
    count, orders = len(ordered), math.comb(len(ordered), trials)
    # In how many choices of trials the best one is that of each rank: the others are chosen from the worse ones.
    ways = [math.comb(count - 1 - rank, trials - 1) for rank in range(count)]
    quantiles: list[float | None] = []
    for share in (1, 2, 3):
        passed = 0
        for value, way in zip(ordered, ways, strict=True):
            passed += way
            if 4 * passed >= share * orders:
                quantiles.append(value)
                break
    reached = [(value, way) for value, way in zip(ordered, ways, strict=True) if way]
    expected = None
    if all(value is not None for value, _ in reached):
        expected = math.fsum(value * way / orders for value, way in reached if value is not None)
    low, middle, high = quantiles
    return CurvePoint(trials, low, middle, high, expected)
