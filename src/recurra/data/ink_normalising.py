"""Strokes in one size, upright and in points of equal distance, whoever wrote them with whatever pen."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np

from .ink import Stroke, Strokes, bounds

__all__ = ["equally_spaced", "normalised_ink", "slant", "to_size", "upright"]

_STEEP = math.tan(math.radians(40))
"""A movement is steep if it leans by less than 40 degrees."""
_MOST_SLANT = 1.0
_MOST_POINTS = 100_000


def normalised_ink(
    strokes: Iterable[Stroke], *, spacing: float | None = 0.05, deslant: bool = False, by: str = "height"
) -> Strokes:
    """Strokes made upright, brought to size and to equally spaced points, in this order.

    Args:
        strokes: (points, 3) each.
        spacing: distance of points after the writing has been brought to a size of 1; None: points stay as they are.
        deslant: whether slanted writing is made upright.
        by: as for `to_size`.
    """
    made = tuple(strokes)
    if deslant:
        made = upright(made)
    made = to_size(made, by=by)
    return made if spacing is None else equally_spaced(made, spacing)


def to_size(strokes: Iterable[Stroke], *, by: str = "height") -> Strokes:
    """Strokes moved and scaled so that their upper left corner is at 0 and their size is 1.

    Writing of no extent, such as a dot, is moved alone.

    Args:
        strokes: (points, 3) each.
        by: what becomes 1: "height", for lines of writing, or "larger", the larger of height and width, for single
            characters. A line that is more than 20 times as wide as high, such as a dash, gets a width of 20.
    """
    if by not in ("height", "larger"):
        raise ValueError(f"{by!r} is no size; use height or larger")
    rows = tuple(strokes)
    left, top, right, bottom = bounds(rows)
    width, height = right - left, bottom - top
    size = max(height, width) if by == "larger" else max(height, width / 20)
    scale = 1 / size if size > 0 and math.isfinite(1 / size) else 1.0
    return tuple(np.column_stack([(row[:, 0] - left) * scale, (row[:, 1] - top) * scale, row[:, 2]]) for row in rows)


def slant(strokes: Iterable[Stroke]) -> float:
    """How far writing moves to the right for each unit that it goes up; 0 is upright.

    Of the movements that lean by less than 40 degrees from upright, this is the shear that makes the sum of the squares
    of their sideways parts least: with movements (dx, dy) it is -sum(dx dy) / sum(dy dy). Movements are weighted by
    their squared height, so that the long downward strokes decide. Movements count from the slant that was found, and
    it is found again, three times, because strongly slanted strokes lean by more at first.
    """
    steps = [np.diff(row[:, :2], axis=0) for row in strokes]
    dx, dy = np.concatenate(steps).T if steps else np.zeros((2, 0))
    found = 0.0
    for _ in range(3):
        steep = np.abs(dx + found * dy) < _STEEP * np.abs(dy)
        below = float(dy[steep] @ dy[steep])
        if not below:
            return found
        found = float(np.clip(-(dx[steep] @ dy[steep]) / below, -_MOST_SLANT, _MOST_SLANT))
    return found


def upright(strokes: Iterable[Stroke]) -> Strokes:
    """Writing sheared by its `slant`, so that its downward strokes are upright."""
    rows = tuple(strokes)
    lean = slant(rows)
    return tuple(np.column_stack([row[:, 0] + lean * row[:, 1], row[:, 1:]]) for row in rows)


def equally_spaced(strokes: Iterable[Stroke], spacing: float) -> Strokes:
    """Strokes with points at equal distances along them, whatever the speed of the pen.

    The first and the last point of a stroke stay, and between them it is cut into parts of one length, the nearest to
    `spacing` that fits. A stroke without extent becomes one point at its first time. Times are interpolated.

    Args:
        strokes: (points, 3) each.
        spacing: above 0; it is widened for a stroke that would have more than 100,000 points.
    """
    if not spacing > 0:
        raise ValueError(f"a spacing of {spacing} is not above 0")
    return tuple(_equally_spaced(row, spacing) for row in strokes)


def _equally_spaced(stroke: Stroke, spacing: float) -> Stroke:
    distances = np.hypot(*np.diff(stroke[:, :2], axis=0).T)
    # A point on the one before it adds no length, and interpolation needs lengths that grow.
    kept = np.concatenate([[True], distances > 0])
    rows = stroke[kept]
    along = np.concatenate([[0.0], np.cumsum(distances[distances > 0])])
    if len(rows) == 1:
        return rows
    parts = int(min(max(1, round(along[-1] / spacing)), _MOST_POINTS - 1))
    places = np.linspace(0, along[-1], parts + 1)
    return np.column_stack([np.interp(places, along, rows[:, column]) for column in range(3)])
