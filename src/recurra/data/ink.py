"""Drawings of a pen: strokes of points, and what is done to strokes from any source before anything else."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ..errors import DataError

__all__ = ["Drawing", "Stroke", "Strokes", "bounds", "ordered", "stroke_of", "tidied"]

Stroke = npt.NDArray[np.float64]
"""(points, 3): x to the right, y downwards, and the time in milliseconds."""

Strokes = tuple[Stroke, ...]
"""In the order of writing; between two of them the pen is in the air."""

_FARTHEST = 1e9
_MOST_POINTS = 1_000_000


class Drawing(NamedTuple):
    """What was written, with what is known of it.

    Attributes:
        strokes: (points, 3) each; x to the right and y downwards in any unit, time in milliseconds.
        label: what it is or says; None if that is not known.
        writer: who wrote it; None if that is not known.
        timed: whether the times are measured; else they are all 0.
        id: its name.
        file, line: where it stands; the line is counted from 1.
    """

    strokes: Strokes
    label: str | None
    writer: str | None
    timed: bool
    id: str
    file: str
    line: int

    @property
    def where(self) -> str:
        """The place where it stands, for errors."""
        return f"{self.file}:{self.line}"

    @property
    def points(self) -> int:
        """Of all strokes."""
        return sum(map(len, self.strokes))


def stroke_of(x: Sequence[float], y: Sequence[float], time: Sequence[float] | None, where: str) -> Stroke:
    """A stroke of its coordinates.

    Args:
        x, y: (points,) each.
        time: (points,) in milliseconds; None: not measured.
        where: the place of the stroke, for errors.

    Raises:
        DataError: if there is no point, the lists are not equally long, or a number is not finite or far too large.
    """
    columns = [x, y, [0.0] * len(x) if time is None else time]
    if len({len(column) for column in columns}) != 1:
        times = "" if time is None else f" and {len(time)} times"
        raise DataError(
            f"{where}: a stroke has {len(x)} values of x, {len(y)} of y{times}; there must be as many of each."
        )
    if not len(x):
        raise DataError(f"{where}: a stroke has no point; take it out.")
    if len(x) > _MOST_POINTS:
        raise DataError(f"{where}: a stroke has {len(x):,} points, and at most {_MOST_POINTS:,} are read; cut it up.")
    try:
        stroke = np.array(columns, np.float64).T
    except (TypeError, ValueError, OverflowError) as error:
        raise DataError(f"{where}: a coordinate or time of a stroke is no number; mend it.") from error
    bad = ~np.isfinite(stroke).all(1) | (np.abs(stroke[:, :2]) > _FARTHEST).any(1)
    if bad.any():
        place = int(np.flatnonzero(bad)[0])
        raise DataError(
            f"{where}: point {place + 1} of a stroke is {stroke[place].tolist()}; coordinates must be finite and at "
            f"most {_FARTHEST:g}; mend it."
        )
    return np.ascontiguousarray(stroke)


def tidied(strokes: Iterable[npt.ArrayLike], where: str = "drawing", *, by_time: bool = False) -> Strokes:
    """Strokes as the rest of this package expects them, of whatever a pen or a program gave.

    Points that are no finite numbers are left out, and so are strokes without a point. The order of points is the order
    of writing unless `by_time` is set; a time that is earlier than the one before it is set to that. Strokes of one
    point, of no extent and of equal times stay as they are.

    Args:
        strokes: (points, 2) or (points, 3) each.
        where: what errors call the drawing.
        by_time: whether points within strokes, and then strokes, are put in the order of their times.

    Raises:
        DataError: if nothing is left, or a stroke has another shape.
    """
    found: list[Stroke] = []
    for given in strokes:
        try:
            rows = np.array(given, np.float64)
        except (TypeError, ValueError) as error:
            raise DataError(f"{where}: a stroke is no list of points (x, y, time); mend it.") from error
        if not rows.size:
            continue
        if rows.ndim != 2 or rows.shape[1] not in (2, 3):
            raise DataError(f"{where}: a stroke has the shape {rows.shape} instead of (points, 2) or (points, 3).")
        if rows.shape[1] == 2:
            rows = np.concatenate([rows, np.zeros((len(rows), 1))], 1)
        rows = rows[np.isfinite(rows).all(1) & (np.abs(rows[:, :2]) <= _FARTHEST).all(1)]
        if len(rows):
            found.append(rows)
    if not found:
        raise DataError(f"{where}: there is no point in it; draw something.")
    return ordered(found, by_time=by_time)


def ordered(strokes: Iterable[Stroke], *, by_time: bool = False) -> Strokes:
    """Strokes whose times never fall.

    Args:
        strokes: (points, 3) each.
        by_time: whether points and strokes are moved; else times that fall are raised to the one before them.
    """
    rows = list(strokes)
    if by_time:
        rows = [row[np.argsort(row[:, 2], kind="stable")] for row in rows]
        rows.sort(key=lambda row: float(row[0, 2]))
    # Python's sort and argsort leave points of equal times in the order of the file.
    made = []
    latest = -np.inf
    for row in rows:
        times = np.maximum.accumulate(np.maximum(row[:, 2], latest))
        latest = float(times[-1])
        made.append(np.column_stack([row[:, :2], times]))
    return tuple(made)


def bounds(strokes: Iterable[Stroke]) -> tuple[float, float, float, float]:
    """The least x and y of strokes, and the largest x and y."""
    points = np.concatenate([stroke[:, :2] for stroke in strokes])
    (left, top), (right, bottom) = points.min(0), points.max(0)
    return float(left), float(top), float(right), float(bottom)
