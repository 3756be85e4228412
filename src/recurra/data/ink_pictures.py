"""Strokes as pictures: arrays of grey values with smooth lines, for models that look at writing."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from ..errors import ConfigError
from .ink import Stroke, bounds

__all__ = ["character_columns", "picture"]

_LARGEST = 1 << 24
"""Most pixels of a picture."""


def picture(
    strokes: Iterable[Stroke], height: int, *, width: int | None = None, line: float = 2.0, margin: float | None = None
) -> npt.NDArray[np.float32]:
    """A picture of strokes: 0 is paper and 1 is ink.

    The writing is scaled to fill the height, or the width if that is given and too narrow, and is put in the middle;
    writing without height is put in the middle at a scale of 1. A pixel is as dark as the line covers it: with the
    distance d of its middle from the nearest point of a stroke, line / 2 + 1 / 2 - d, from 0 to 1. The time that it
    takes grows with the number of points: `equally_spaced` leaves out those that lie close beside one another.

    Args:
        strokes: (points, 3) each.
        height: of the picture, in pixels.
        width: of the picture, in pixels; None: as wide as the writing needs.
        line: width of the pen, in pixels.
        margin: pixels between the writing and the edges; None: so many that no line is cut off.

    Returns:
        (height, width) float32.

    Raises:
        ConfigError: if the size cannot be used, or the picture would have more than 16 million pixels.
    """
    rows = list(strokes)
    scale, offset, size = _placed(rows, height, width, line, margin)
    shown = np.zeros(size, np.float32)
    for row in rows:
        points = row[:, :2] * scale + offset
        if len(points) == 1:
            _draw(shown, points[0], points[0], line)
        for start, end in pairwise(points):
            _draw(shown, start, end, line)
    return shown


def character_columns(
    strokes: Iterable[Stroke],
    characters: Sequence[int],
    height: int,
    *,
    width: int | None = None,
    line: float = 2.0,
    margin: float | None = None,
) -> npt.NDArray[np.int64]:
    """Which columns of a `picture` each character of a line lies in; characters may share columns.

    Args:
        strokes, height, width, line, margin: as for `picture`.
        characters: (strokes,) of each stroke the number of its character, as `InkLine` has them.

    Returns:
        (characters, 2): the first column with ink of a character, and the one after the last; both 0 without a stroke.
    """
    rows = list(strokes)
    scale, offset, size = _placed(rows, height, width, line, margin)
    found = np.zeros((max(characters) + 1, 2), np.int64)
    for character in range(len(found)):
        own = [row for row, number in zip(rows, characters, strict=True) if number == character]
        if not own:
            continue
        left, _, right, _ = bounds(own)
        # A column's middle is half a pixel to the right of its number.
        reach = line / 2 + 0.5
        first = math.floor(left * scale + offset[0] - reach - 0.5) + 1
        last = math.ceil(right * scale + offset[0] + reach - 0.5)
        found[character] = max(0, first), min(size[1], last)
    return found


def _placed(
    strokes: Sequence[Stroke], height: int, width: int | None, line: float, margin: float | None
) -> tuple[float, npt.NDArray[np.float64], tuple[int, int]]:
    """The scale and the offset that bring strokes to pixels, and the size of the picture."""
    edge = line / 2 + 0.5 if margin is None else margin
    if not 0 < line <= height or edge < 0 or min(height, height if width is None else width) <= 2 * edge:
        raise ConfigError(
            f"Lines of {line:g} pixels with margins of {edge:g} do not fit into a picture of height {height}"
            + ("" if width is None else f" and width {width}")
            + "; make it larger."
        )
    left, top, right, bottom = bounds(strokes)
    wide, high = right - left, bottom - top
    scale = (height - 2 * edge) / high if high > 1e-300 else 1.0
    if width is not None and wide * scale > width - 2 * edge:
        scale = (width - 2 * edge) / wide
    needed = wide * scale + 2 * edge
    if not math.isfinite(needed) or height * max(needed, width or 0) > _LARGEST:
        raise ConfigError(
            f"The writing is {wide / max(high, 1e-300):.3g} times as wide as high, and a picture of height {height} "
            f"would have more than {_LARGEST:,} pixels; give a width or cut the line up."
        )
    columns = math.ceil(needed) if width is None else width
    middle = np.array([left + right, top + bottom]) / 2
    return scale, np.array([columns, height]) / 2 - middle * scale, (height, columns)


def _draw(
    shown: npt.NDArray[np.float32], start: npt.NDArray[np.float64], end: npt.NDArray[np.float64], line: float
) -> None:
    """Darken the pixels that a straight line from one point to another covers."""
    reach = line / 2 + 1
    low = np.floor(np.minimum(start, end) - reach).astype(int)
    high = np.ceil(np.maximum(start, end) + reach).astype(int)
    (left, top), (right, bottom) = np.maximum(low, 0), np.minimum(high, shown.shape[::-1])
    if left >= right or top >= bottom:
        return
    x = np.arange(left, right) + 0.5 - start[0]
    y = (np.arange(top, bottom) + 0.5 - start[1])[:, None]
    (dx, dy) = end - start
    length = dx * dx + dy * dy
    along = np.clip((x * dx + y * dy) / length, 0, 1) if length > 0 else 0.0
    distance = np.hypot(x - along * dx, y - along * dy)
    part = shown[top:bottom, left:right]
    np.maximum(part, np.clip(line / 2 + 0.5 - distance, 0, 1), out=part, casting="same_kind")
