"""Which of several systems differ, pair by pair, in sentences that are computed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations
from typing import Any, NamedTuple

import numpy.typing as npt

from .significance import Difference, holm
from .table import Column, Row, compare

__all__ = ["Pair", "differences", "sentences"]

# Pairs grow with the square of the rows, so each gets fewer resamples than a row of the table.
_SAMPLES = 2000
# More pairs make no sentence that anybody reads.
_MOST_NAMED = 10


class Pair(NamedTuple):
    """Two systems.

    Attributes:
        first, second: their names.
        difference: the measure of the first less the measure of the second.
        p: corrected for the number of pairs (Holm).
    """

    first: str
    second: str
    difference: Difference
    p: float


def differences(
    rows: Sequence[Row],
    column: Column,
    *,
    groups: Sequence[Any] | npt.NDArray[Any] | None = None,
    samples: int = _SAMPLES,
    seed: int = 1,
) -> list[Pair]:
    """All pairs of rows, tested as `table.compare` does; pairs that cannot be tested are left out.

    Args:
        rows: systems.
        column: the measure.
        groups, samples, seed: as for `compare`.
    """
    names, found = [], []
    having = [row for row in rows if column.name in {**row.outcomes, **row.values}]
    for one, other in combinations(having, 2):
        ordered = [replace(_with_only(other, column), baseline=True), replace(_with_only(one, column), baseline=False)]
        table = compare(ordered, [column], groups=groups, samples=samples, seed=seed)
        difference = table.entries[column.name, one.name].difference
        if difference is not None:
            names.append((one.name, other.name))
            found.append(difference)
    corrected = holm([each.p for each in found])
    return [Pair(*both, each, p) for both, each, p in zip(names, found, corrected, strict=True)]


def sentences(pairs: Sequence[Pair], column: Column, *, alpha: float = 0.05) -> list[str]:
    """Which differences are real, a sentence each, the largest first; and of how many pairs none is shown.

    Args:
        pairs: of `differences`.
        column: the measure.
        alpha: the level of significance.
    """
    if not pairs:
        return ["Whether any difference is real cannot be said of one training each; train several seeds."]
    real = sorted((pair for pair in pairs if pair.p < alpha), key=lambda pair: -abs(pair.difference.difference))
    found = [_sentence(pair, column) for pair in real]
    left = len(pairs) - len(real)
    if left == len(pairs):
        found.append(f"Of {left} pairs none differs with p < {alpha:g}; that does not show that they are alike.")
    elif left > _MOST_NAMED:
        found.append(f"Of the other {left} pairs no difference is shown; that does not show that they are alike.")
    elif left:
        names = "; ".join(f"{pair.first} and {pair.second}" for pair in pairs if pair.p >= alpha)
        found.append(f"No difference is shown between {names}; that does not show that they are alike.")
    return found


def _sentence(pair: Pair, column: Column) -> str:
    number, low, high = pair.difference[:3]
    first, second = pair.first, pair.second
    if (number > 0) != column.higher:
        first, second, number, low, high = second, first, -number, -high, -low
    if number < 0:
        number, low, high = -number, -high, -low
    shown = [column.form.format(each) for each in (number, low, high)]
    p = "p < 0.001" if pair.p < 0.001 else f"p = {pair.p:.3f}"
    way = "higher" if column.higher else "lower"
    interval = f"95% interval {shown[1]} to {shown[2]}"
    return f"{first} is better than {second}: {column.label} {way} by {shown[0]} ({interval}, {p})."


def _with_only(row: Row, column: Column) -> Row:
    """The row with no other measure."""
    outcomes = {name: each for name, each in row.outcomes.items() if name == column.name}
    values = {name: each for name, each in row.values.items() if name == column.name}
    return replace(row, outcomes=outcomes, values=values)
