"""Places where a network is in a state like that of a chosen span of the text (after LSTMVis, Strobelt et al. 2018)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

__all__ = ["THRESHOLD", "Context", "Contexts", "nearest_contexts"]

THRESHOLD = 0.5
"""The part of its greatest absolute value from which on a unit is on."""


class Context(NamedTuple):
    """A place like the chosen one.

    Attributes:
        start, stop: its tokens.
        share: of the units that are on throughout the chosen span, how many are on throughout this one.
    """

    start: int
    stop: int
    share: float


class Contexts(NamedTuple):
    """What is like a chosen span: the units that are on throughout it, and other places, the most alike first."""

    units: tuple[int, ...]
    places: tuple[Context, ...]


def nearest_contexts(
    values: npt.NDArray[np.floating], start: int, stop: int, count: int = 10, threshold: float = THRESHOLD
) -> Contexts:
    """Other places where the units are on that are on throughout a span.

    A unit is on at a step if its value, divided by the greatest absolute value that it has in the text, is at least the
    threshold, or at most minus the threshold. It is on throughout a span if it is on with one sign at each step. Places
    are as long as the chosen span, do not overlap it or one another, and have at least one of its units on throughout
    with the same sign. Of places that are alike the earlier one comes first.

    Unlike in LSTMVis a unit may also be on below zero, and it need not be off before and after the span. Its scale is
    its own, so that one threshold does for h and c.

    Args:
        values: (T, H), one state.
        start, stop: tokens of the span, at least one.
        count: how many places.
        threshold: above 0, at most 1.

    Raises:
        ValueError: if the span is empty or not within the text.
    """
    if not 0 <= start < stop <= len(values):
        raise ValueError(f"the span {start} to {stop} does not lie within {len(values)} tokens")
    scales = np.abs(values).max(axis=0)
    relative = np.divide(values, scales, out=np.zeros_like(values, dtype=np.float64), where=scales > 0)
    on = (relative >= threshold).astype(np.int8) - (relative <= -threshold).astype(np.int8)
    signs = on[start]
    units = np.flatnonzero((signs != 0) & (on[start:stop] == signs).all(axis=0))
    if not len(units):
        return Contexts((), ())
    length = stop - start
    alike = (on[:, units] == signs[units]).astype(np.int64)
    sums = np.concatenate([np.zeros((1, len(units)), np.int64), alike.cumsum(axis=0)])
    shares = (sums[length:] - sums[:-length] == length).mean(axis=1)
    taken = np.zeros(len(values), bool)
    taken[start:stop] = True
    places: list[Context] = []
    for place in np.argsort(-shares, kind="stable").tolist():
        if len(places) == count or shares[place] == 0:
            break
        if not taken[place : place + length].any():
            taken[place : place + length] = True
            places.append(Context(place, place + length, float(shares[place])))
    return Contexts(tuple(units.tolist()), tuple(places))
