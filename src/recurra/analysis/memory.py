"""How many steps a layer's memory reaches back, read off a falling curve."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["MemoryLength", "memory_length"]


@dataclass(frozen=True)
class MemoryLength:
    """The effective memory of a layer, in steps.

    Both lengths are measured from lag 1, the shortest way through the recurrence, and a curve that rises again is not
    cut short: the length is the first lag from which on the norm stays below. 1/e is the usual time constant, the
    length of a memory that fades exponentially; a hundredth is where little is left of any memory.

    Attributes:
        to_e: the lag from which on the norm is at most 1/e of its value at lag 1; None: not within the lags.
        to_hundredth: the same of a hundredth.
        steps_per_factor_10: in how many steps the norm changes by a factor of ten, by a straight line through its
            logarithm (least squares, lags from 1 on); negative if it grows, None if it does neither or nothing is left
            to draw a line through.
        looked_at: the longest lag.
    """

    to_e: int | None
    to_hundredth: int | None
    steps_per_factor_10: float | None
    looked_at: int


def memory_length(logs: npt.NDArray[np.float64]) -> MemoryLength:
    """The memory that a curve shows.

    Args:
        logs: natural logarithms of the norms (such as the median of |dh_T/dh_t| over sequences) by the lag from 0 on;
            -inf is a norm of zero, and NaN at the end a lag that nothing is known of.
    """
    known = logs[: int(np.argmax(np.isnan(logs)))] if np.isnan(logs).any() else logs
    last = len(known) - 1
    if last < 1:
        return MemoryLength(None, None, None, max(last, 0))
    if np.isneginf(known[1]):
        return MemoryLength(1, 1, None, last)
    return MemoryLength(
        _falls_below(known, known[1] - 1.0), _falls_below(known, known[1] - math.log(100)), _rate(known), last
    )


def _falls_below(logs: npt.NDArray[np.float64], bound: float) -> int | None:
    lag = int(np.flatnonzero(logs[1:] > bound)[-1]) + 2
    return lag if lag < len(logs) else None


def _rate(logs: npt.NDArray[np.float64]) -> float | None:
    lags = np.arange(1, len(logs))
    finite = np.isfinite(logs[1:])
    if finite.sum() < 2:
        return None
    slope = float(np.polyfit(lags[finite], logs[1:][finite], 1)[0])
    return None if abs(slope) * len(logs) < 1e-6 else -math.log(10) / slope
