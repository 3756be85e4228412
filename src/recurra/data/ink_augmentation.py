"""Strokes changed at random, so that a model learns what does not matter about writing.

Each function takes a generator of its own; `draws.draws` makes one of the seed, the epoch and the example. What is
given is never changed in place.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from ..errors import ConfigError
from .ink import Stroke, Strokes, bounds

__all__ = ["AffineSettings", "affine", "reordered", "retimed"]

_LATER = 200.0
"""Milliseconds between two strokes whose order was changed; the pen's own pause is not known."""


@dataclass(frozen=True)
class AffineSettings:
    """How much writing is turned, sheared and scaled at most; each amount is drawn evenly up to these.

    Attributes:
        rotation: degrees to either side.
        shear: sideways movement for each unit of height, to either side.
        scale: share by which width and height, each drawn by itself, grow or shrink.

    Raises:
        ConfigError: if a value is below 0, or so large that writing would be turned over.
    """

    rotation: float = 10.0
    shear: float = 0.3
    scale: float = 0.2

    def __post_init__(self) -> None:
        for name, most in (("rotation", 180.0), ("shear", 2.0), ("scale", 0.9)):
            if not 0 <= getattr(self, name) <= most:
                raise ConfigError(f"{name} is {getattr(self, name)}; it must be from 0 to {most:g}.")


def affine(strokes: Iterable[Stroke], settings: AffineSettings, random: np.random.Generator) -> Strokes:
    """Strokes scaled, sheared and turned about the middle of their bounding box.

    Args:
        strokes: (points, 3) each; times stay.
        settings: the most of each.
        random: draws four numbers: angle, shear, and the scales of width and height.
    """
    rows = tuple(strokes)
    angle, shear, wider, higher = random.uniform(-1, 1, 4) * [
        math.radians(settings.rotation), settings.shear, settings.scale, settings.scale,
    ]  # fmt: skip
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    matrix = turn @ np.array([[1, shear], [0, 1]]) @ np.diag([1 + wider, 1 + higher])
    left, top, right, bottom = bounds(rows)
    middle = np.array([(left + right) / 2, (top + bottom) / 2])
    return tuple(np.column_stack([(row[:, :2] - middle) @ matrix.T + middle, row[:, 2]]) for row in rows)


def retimed(strokes: Iterable[Stroke], most: float, random: np.random.Generator) -> Strokes:
    """Strokes written faster or slower: all times are scaled, and the pauses between strokes by another number.

    Args:
        strokes: (points, 3) each, with times that never fall.
        most: both factors are drawn from 1 / most to most, evenly in their logarithms; at least 1.
        random: draws the factors.
    """
    if not 1 <= most <= 100:
        raise ValueError(f"times cannot be scaled by up to {most}; use from 1 to 100")
    writing, pausing = np.exp(random.uniform(-1, 1, 2) * math.log(most))
    made: list[Stroke] = []
    before = after = 0.0
    for row in strokes:
        start = after + (row[0, 2] - before) * pausing if made else row[0, 2]
        times = start + (row[:, 2] - row[0, 2]) * writing
        before, after = float(row[-1, 2]), float(times[-1])
        made.append(np.column_stack([row[:, :2], times]))
    return tuple(made)


def reordered(strokes: Iterable[Stroke], swap: float, reverse: float, random: np.random.Generator) -> Strokes:
    """Strokes in another order and direction, as other writers have them.

    Args:
        strokes: (points, 3) each.
        swap: probability that a stroke changes places with the one after it; from the first stroke to the last, so
            that one may move by several places.
        reverse: probability that a stroke is drawn from its end to its start.
        random: draws one number for each pair of neighbours and one for each stroke.

    Returns:
        The strokes. If any was moved or turned, each lasts as long as before, and pauses are 200 ms.
    """
    rows = list(strokes)
    order = list(range(len(rows)))
    for place, drawn in enumerate(random.random(max(0, len(rows) - 1))):
        if drawn < swap:
            order[place], order[place + 1] = order[place + 1], order[place]
    turned = random.random(len(rows)) < reverse
    if order == list(range(len(rows))) and not turned.any():
        return tuple(rows)
    made: list[Stroke] = []
    after = float(rows[0][0, 2]) - _LATER
    timed = any(row[:, 2].any() for row in rows)
    for place in order:
        row = rows[place]
        ages = row[:, 2] - row[0, 2]
        points = row[:, :2]
        if turned[place]:
            points, ages = points[::-1], (ages[-1] - ages)[::-1]
        times = after + _LATER + ages if timed else np.zeros(len(row))
        after = float(times[-1])
        made.append(np.column_stack([points, times]))
    return tuple(made)
