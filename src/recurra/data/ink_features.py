"""Strokes as rows of features for a recurrent network, a row for each point.

======================  ================================================================================
dx, dy                  the movement to this point from the one before it, 0 for the first point of all
cos, sin                the direction of that movement, 0 where there is none
air                     1 if the pen was in the air on the way to this point: at the first point of every
                        stroke but the first
up                      1 if the pen leaves the paper after this point: at the last point of every stroke
ahead_cos, ahead_sin    cosine and sine of the turn from this movement to the next one, if that is on the
                        paper; 1 and 0 where there is none
seconds                 time since the point before, at most 2; 0 if times are not measured
======================  ================================================================================

The movement in the air must reach the network: without it two strokes beside one another, as in "11", read like one.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from .ink import Strokes

__all__ = ["COLUMNS", "ink_features", "strokes_of"]

COLUMNS = ("dx", "dy", "cos", "sin", "air", "up", "ahead_cos", "ahead_sin", "seconds")

_LONGEST = 2.0


def ink_features(strokes: Strokes, columns: Sequence[str] = COLUMNS) -> npt.NDArray[np.float32]:
    """The features of strokes.

    Args:
        strokes: (points, 3) each, as `normalised_ink` gives them.
        columns: of `COLUMNS`.

    Returns:
        (points, columns) float32, with the points of all strokes in the order of writing.
    """
    strange = next((column for column in columns if column not in COLUMNS), None)
    if strange is not None:
        raise ValueError(f"{strange!r} is no feature of ink; there are {', '.join(COLUMNS)}")
    points = np.concatenate(strokes)
    begins = np.zeros(len(points), bool)
    begins[np.cumsum([0, *map(len, strokes[:-1])])] = True
    moves = np.zeros((len(points), 2))
    moves[1:] = np.diff(points[:, :2], axis=0)
    lengths = np.hypot(*moves.T)
    directions = np.divide(moves, lengths[:, None], out=np.zeros_like(moves), where=lengths[:, None] > 0)
    # A turn is between two movements that both have a direction, the second of them on the paper.
    turns = np.zeros(len(points), bool)
    turns[:-1] = (lengths[:-1] > 0) & (lengths[1:] > 0) & ~begins[1:]
    following = np.zeros_like(directions)
    following[:-1] = directions[1:]
    cosine = (directions * following).sum(1)
    sine = directions[:, 0] * following[:, 1] - directions[:, 1] * following[:, 0]
    seconds = np.zeros(len(points))
    seconds[1:] = np.clip(np.diff(points[:, 2]) / 1000, 0, _LONGEST)
    air = begins.astype(np.float64)
    air[0] = 0
    found = {
        "dx": moves[:, 0],
        "dy": moves[:, 1],
        "cos": directions[:, 0],
        "sin": directions[:, 1],
        "air": air,
        "up": np.roll(begins, -1).astype(np.float64),
        "ahead_cos": np.where(turns, cosine, 1.0),
        "ahead_sin": np.where(turns, sine, 0.0),
        "seconds": seconds,
    }
    return np.stack([found[column] for column in columns], 1).astype(np.float32)


def strokes_of(features: npt.NDArray[np.float32], columns: Sequence[str] = COLUMNS) -> Strokes:
    """The strokes that features were made of, up to where they began, with the first point at 0 and times of 0.

    Args:
        features: (points, columns), with the columns dx, dy and up among them.
    """
    of = {column: features[:, place].astype(np.float64) for place, column in enumerate(columns)}
    points = np.column_stack([np.cumsum(of["dx"]), np.cumsum(of["dy"]), np.zeros(len(features))])
    ends = np.flatnonzero(of["up"] > 0.5) + 1
    return tuple(part for part in np.split(points, ends) if len(part))
