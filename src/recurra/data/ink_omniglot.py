"""Drawings of Omniglot (Lake et al. 2015): one character a file, a line for each point."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ..errors import DataError
from .ink import Drawing, Stroke, stroke_of
from .source_files import SourceFile
from .text import name_of, read_lines

__all__ = ["read_omniglot"]


def read_omniglot(path: Path, sources: list[SourceFile]) -> Iterator[Drawing]:
    """The drawing of a file; label and writer are not in it.

    A line `x,y,milliseconds` is a point, with y upwards; BREAK ends a stroke, and START begins the drawing.

    Raises:
        DataError: if a line is something else, or there is no point.
    """
    name = name_of(path)
    strokes: list[Stroke] = []
    points: list[tuple[float, float, float]] = []
    number = first = 0
    for number, line in enumerate(read_lines(path, sources), start=1):
        line = line.strip()
        if line == "START":
            if strokes or points:
                raise DataError(f"{name}:{number}: START stands within a drawing; write one drawing a file.")
        elif line == "BREAK":
            if points:
                strokes.append(_stroke(points, f"{name}:{first}"))
            points = []
        elif line:
            if not points:
                first = number
            points.append(_point(line, f"{name}:{number}"))
    if points:
        strokes.append(_stroke(points, f"{name}:{first}"))
    if not strokes:
        raise DataError(f"{name}:{max(1, number)}: there is no point in the drawing; leave the file out.")
    timed = any(stroke[:, 2].any() for stroke in strokes)
    yield Drawing(tuple(strokes), None, None, timed, path.stem, name, 1)


def _stroke(points: list[tuple[float, float, float]], where: str) -> Stroke:
    x, y, times = (list(column) for column in zip(*points, strict=True))
    return stroke_of(x, y, times, where)


def _point(line: str, where: str) -> tuple[float, float, float]:
    fields = line.split(",")
    try:
        x, y, time = map(float, fields)
    except ValueError:
        raise DataError(
            f"{where}: {line[:60]!r} is no point; write x,y,milliseconds, or BREAK after each stroke."
        ) from None
    # Y points upwards in these files.
    return x, -y, time
