"""The best of n trials against every order of the trials."""

from __future__ import annotations

import math
from itertools import permutations

import pytest

from recurra.comparison.search_curve import search_curve
from recurra.errors import DataError


@pytest.mark.parametrize("higher", [False, True])
@pytest.mark.parametrize(
    "values", [[3.0, 1.0, 2.0, 5.0, 4.0, 2.0], [1.5], [2.0, 2.0], [3.0, None, 1.0, None, 2.0], [None, None]]
)
def test_every_order_of_the_trials_agrees(values: list[float | None], higher: bool) -> None:
    worst = -math.inf if higher else math.inf
    best = max if higher else min
    numbers = [worst if value is None else value for value in values]
    orders = list(permutations(numbers))
    for point in search_curve(values, higher=higher):
        found = sorted((best(order[: point.trials]) for order in orders), reverse=higher)
        # The best value of at least this share of the orders.
        for share, quantile in ((0.25, point.low), (0.5, point.median), (0.75, point.high)):
            expected = found[math.ceil(share * len(found)) - 1]
            assert (worst if quantile is None else quantile) == expected, (point, share)
        if all(map(math.isfinite, found)):
            assert point.expected == pytest.approx(math.fsum(found) / len(found), rel=1e-12)
        else:
            assert point.expected is None


def test_the_curve_ends_at_the_best_trial_and_never_gets_worse() -> None:
    values = [1 / (1 + (number * 37) % 40) for number in range(40)]
    curve = search_curve(values)
    assert [point.trials for point in curve] == list(range(1, 41))
    assert curve[-1][1:] == pytest.approx([min(values)] * 4)
    assert curve[0].expected == pytest.approx(sum(values) / 40)
    means = [point.expected for point in curve]
    assert means == sorted(means, reverse=True)  # type: ignore[type-var]


def test_what_has_no_curve_is_refused() -> None:
    for values in ([], [1.0, math.nan], [math.inf]):
        with pytest.raises(DataError):
            search_curve(values)
