"""Strokes as pictures: arrays of grey values with smooth lines, for models that look at writing."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from ..errors import ConfigError
from .ink import Stroke, bounds

__all__ = ["character_columns", "picture"]

_LARGEST = 1 << 24
"""Most pixels of a picture."""
_PIECE = 4.0
"""Pixels of the pieces that lines are cut into, so that all of them fit into squares of one size."""
_LINES = 256
"""Lines that are cut up in one go; each may be as long as the largest picture."""
_AT_ONCE = 1 << 18
"""Pixels that are looked at in one go."""


def picture(
    strokes: Iterable[Stroke], height: int, *, width: int | None = None, line: float = 2.0, margin: float | None = None
) -> npt.NDArray[np.float32]:
    """A picture of strokes: 0 is paper and 1 is ink.

    The writing is scaled to fill the height, or the width if that is given and too narrow, and is put in the middle;
    writing without height is put in the middle at a scale of 1. A pixel is as dark as the line covers it: with the
    distance d of its middle from the nearest point of a stroke, line / 2 + 1 / 2 - d, from 0 to 1.

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
    lines = _lines(row[:, :2] * scale + offset for row in rows)
    for first in range(0, len(lines), _LINES):
        _draw(shown, _pieces(lines[first : first + _LINES]), line)
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


def _lines(strokes: Iterable[npt.NDArray[np.float64]]) -> npt.NDArray[np.float64]:
    """The straight lines of strokes, (points, 2) each: (lines, 2, 2), their starts and their ends."""
    # A single point is a line from itself to itself.
    return np.concatenate(
        [np.stack([points[:-1], points[1:]], 1) if len(points) > 1 else points[None, [0, 0]] for points in strokes]
    )


def _pieces(lines: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Straight lines, (lines, 2, 2), cut into pieces: (pieces, 2, 2)."""
    starts, ends = lines.swapaxes(0, 1)
    counts = np.maximum(1, np.ceil(np.hypot(*(ends - starts).T) / _PIECE)).astype(int)
    which = np.repeat(np.arange(len(counts)), counts)
    first = np.arange(len(which)) - np.repeat(np.cumsum(counts) - counts, counts)
    moves = (ends - starts) / counts[:, None]
    begins = starts[which] + first[:, None] * moves[which]
    return np.stack([begins, begins + moves[which]], 1)


def _draw(shown: npt.NDArray[np.float32], pieces: npt.NDArray[np.float64], line: float) -> None:
    """Darken the pixels that pieces, (pieces, 2, 2), cover; all pixels of a square about each piece are looked at."""
    reach = line / 2 + 0.5
    side = math.ceil(_PIECE + 2 * reach) + 2
    offsets = np.arange(side)
    for first in range(0, len(pieces), max(1, _AT_ONCE // side**2)):
        starts, ends = pieces[first : first + max(1, _AT_ONCE // side**2)].swapaxes(0, 1)
        corners = np.floor(np.minimum(starts, ends) - reach).astype(int) - 1
        # (pieces, 1, side) and (pieces, side, 1): columns and rows of pixels.
        columns, rows = corners[:, 0, None, None] + offsets, corners[:, 1, None, None] + offsets[:, None]
        x, y = columns + 0.5 - starts[:, 0, None, None], rows + 0.5 - starts[:, 1, None, None]
        dx, dy = (ends - starts).T[:, :, None, None]
        # A piece without length has one nearest point, wherever `along` says that it lies.
        along = np.clip((x * dx + y * dy) / np.maximum(dx * dx + dy * dy, 1e-300), 0, 1)
        ink = np.clip(line / 2 + 0.5 - np.hypot(x - along * dx, y - along * dy), 0, 1).astype(np.float32)
        inside = (columns >= 0) & (columns < shown.shape[1]) & (rows >= 0) & (rows < shown.shape[0])
        places = (rows * shown.shape[1] + columns)[inside]
        np.maximum.at(shown.reshape(-1), places, ink[inside])
