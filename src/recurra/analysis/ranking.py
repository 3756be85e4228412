"""Which units follow a property of the text best, and how far that can be believed.

Of thousands of units some follow any property by chance, so units are chosen on the first half of the text, and what
counts is how well they do on the second half, which took no part in the choice. A p-value says how often a unit would
do as well on the second half if the property were moved against it in time. States and properties both change slowly
along a text, so that many neighbouring tokens say little more than one; a property that is moved as a whole keeps that.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from ..comparison.significance import holm
from .properties import Property
from .recording import LayerPlace, SideRecord

__all__ = ["RankedUnit", "Ranking", "adjusted", "auc", "correlation", "rank_units"]

Array = npt.NDArray[np.float64]

_NEAREST = 20
"""The property is moved by at least the half's length through this, as nearer places are like one another."""


@dataclass(frozen=True)
class RankedUnit:
    """A unit that follows a property.

    Attributes:
        layer, state, unit: which one, the unit counted from 0.
        chosen: its score on the first half of the text, by which it was chosen.
        held_out: its score on the second half.
        p: share of the ways to move the property along the second half with which the score would be as far from
            chance; adjusted by Holm (1979) for all units that are shown.
    """

    layer: LayerPlace
    state: str
    unit: int
    chosen: float
    held_out: float
    p: float


@dataclass(frozen=True)
class Ranking:
    """The units that follow a property best.

    Attributes:
        property: its name.
        score: "auc", the area under the ROC curve, 0.5 by chance, below it for a unit that is low where the property
            is a yes; or "r", Pearson's correlation, 0 by chance.
        units: the best first; none if there is nothing to compare.
        remark: why there is nothing to compare, or empty.
        untrained: the best unit of the same network with new weights, if that was looked at; its p is not adjusted.
    """

    property: str
    score: str
    units: tuple[RankedUnit, ...]
    remark: str = ""
    untrained: RankedUnit | None = None


def rank_units(side: SideRecord, wanted: Property, count: int) -> Ranking:
    """The units of all recorded layers whose states follow a property best.

    Args:
        side: what was recorded.
        wanted: of its tokens.
        count: how many units.
    """
    score = "auc" if wanted.yes_no else "r"
    known = np.flatnonzero(np.isfinite(wanted.values))
    halves = known[: len(known) // 2], known[len(known) // 2 :]
    for half in halves:
        if len(half) < 4 or np.ptp(wanted.values[half]) == 0:
            remark = "it does not change in both halves of the text" if len(known) else "no token has a value"
            return Ranking(wanted.name, score, (), remark)
    scored = auc if wanted.yes_no else correlation
    found: list[tuple[float, float, LayerPlace, str, int]] = []
    for layer in side.layers:
        for state, values in layer.states.items():
            scores = scored(values[halves[0]], wanted.values[halves[0]])
            strengths = np.abs(scores - _chance(score))
            # Beyond the best of each layer none can be among the best of all.
            for unit in np.argsort(-strengths, kind="stable")[:count].tolist():
                found.append((float(strengths[unit]), float(scores[unit]), layer.place, state, unit))
    found.sort(key=lambda each: -each[0])
    records = {layer.place: layer for layer in side.layers}
    ranked = []
    for _, chosen, place, state, unit in found[:count]:
        own = records[place].states[state][:, unit][halves[1]].astype(np.float64)
        held_out, p = _held_out(own, wanted.values[halves[1]], score)
        ranked.append(RankedUnit(place, state, unit, chosen, held_out, p))
    return Ranking(wanted.name, score, tuple(ranked))


def adjusted(rankings: Sequence[Ranking]) -> list[Ranking]:
    """The same rankings, the p-values of all their units adjusted together by Holm (1979)."""
    p_values = iter(holm([unit.p for ranking in rankings for unit in ranking.units]))
    return [
        replace(ranking, units=tuple(replace(unit, p=next(p_values)) for unit in ranking.units)) for ranking in rankings
    ]


def correlation(values: npt.NDArray[np.floating], wanted: Array) -> Array:
    """Pearson's correlation of each column of (T, H) values with (T,) wanted ones; 0 for a column that is constant."""
    centred = values - values.mean(axis=0, dtype=np.float64)
    target = wanted - wanted.mean()
    norms = np.sqrt((centred**2).sum(axis=0) * (target**2).sum())
    products: Array = centred.T @ target
    return np.divide(products, norms, out=np.zeros_like(products), where=norms > 0)


def auc(values: npt.NDArray[np.floating], wanted: Array) -> Array:
    """The area under the ROC curve of each column of (T, H) values for (T,) yes (1) and no (0), both being there.

    It is the probability that a value at a yes is above one at a no, a tie counting one half.
    """
    yes = wanted > 0.5
    positives, negatives = int(yes.sum()), int((~yes).sum())
    sums = np.array([_ranks(column)[yes].sum() for column in values.T])
    return (sums - positives * (positives + 1) / 2) / (positives * negatives)


def _ranks(values: npt.NDArray[np.floating]) -> Array:
    """From 1; equal values have the mean of their ranks."""
    _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = counts.cumsum()
    return (ends - (counts - 1) / 2)[places]


def _chance(score: str) -> float:
    return 0.5 if score == "auc" else 0.0


def _held_out(values: Array, wanted: Array, score: str) -> tuple[float, float]:
    """The score of one unit, and the share of the ways to move the property with which it would be as far from chance.

    The property is moved round, its end going to the beginning.
    """
    yes_no = score == "auc"
    x = _ranks(values) if yes_no else values - values.mean()
    y = (wanted > 0.5).astype(np.float64) if yes_no else wanted - wanted.mean()
    # The products of x with y moved by 0, 1, 2, ... places.
    products = np.fft.irfft(np.fft.rfft(x) * np.fft.rfft(y).conj(), len(x))
    if yes_no:
        positives = y.sum()
        scores = (products - positives * (positives + 1) / 2) / (positives * (len(y) - positives))
    else:
        norm = float(np.sqrt((x**2).sum() * (y**2).sum()))
        scores = products / norm if norm > 0 else np.zeros_like(products)
    far = np.abs(scores - _chance(score))
    nearest = max(len(x) // _NEAREST, 1)
    moved = far[nearest : len(x) - nearest + 1]
    # Rounding of the transform must not part what is equal.
    as_far = int((moved >= far[0] - 1e-9).sum())
    return float(scores[0]), (1 + as_far) / (1 + len(moved))
