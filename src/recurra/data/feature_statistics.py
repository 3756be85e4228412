"""Means and deviations of features, and features normalised by them (CMVN), of whole utterances and of streams."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import RunError

__all__ = ["FeatureStatistics", "OnlineNormaliser", "by_author", "normalised"]

_LEAST_VARIANCE = 1e-10
"""Features that never change have no deviation to divide by."""

Frames = npt.NDArray[np.float32]


@dataclass
class FeatureStatistics:
    """Sums over frames, of an utterance, a speaker or all training data.

    Attributes:
        frames: how many were added.
        sums, squares: (features,) sums of the features and of their squares, in double precision.
    """

    frames: int = 0
    sums: npt.NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    squares: npt.NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))

    @classmethod
    def of(cls, frames: npt.ArrayLike) -> FeatureStatistics:
        """Those of some frames, (frames, features)."""
        found = cls()
        found.add(frames)
        return found

    def add(self, frames: npt.ArrayLike) -> None:
        """Take in frames, (frames, features).

        Raises:
            ValueError: if they have another number of features, or one that is no finite number.
        """
        rows = np.asarray(frames, np.float64)
        if not len(rows):
            return
        if not np.isfinite(rows).all():
            raise ValueError("a feature is no finite number")
        if not self.frames:
            self.sums, self.squares = np.zeros(rows.shape[1]), np.zeros(rows.shape[1])
        if rows.shape[1] != len(self.sums):
            raise ValueError(f"frames of {rows.shape[1]} features are added to statistics of {len(self.sums)}")
        self.frames += len(rows)
        self.sums = self.sums + rows.sum(0)
        self.squares = self.squares + (rows * rows).sum(0)

    @property
    def mean(self) -> npt.NDArray[np.float64]:
        """(features,)."""
        return self.sums / max(1, self.frames)

    @property
    def deviation(self) -> npt.NDArray[np.float64]:
        """(features,); 1 for features that never change, so that they stay 0 when the mean is taken off."""
        return _deviation(self.squares / max(1, self.frames) - self.mean**2)

    def state(self) -> dict[str, Any]:
        """What `from_state` makes the same statistics of, as JSON."""
        return {"frames": self.frames, "sums": self.sums.tolist(), "squares": self.squares.tolist()}

    @classmethod
    def from_state(cls, state: Any, features: int, name: str) -> FeatureStatistics:
        """Statistics that `state` gave.

        Args:
            state: as it was read from a file.
            features: how many there must be.
            name: of the file, for errors.

        Raises:
            RunError: if these are no statistics of so many features.
        """
        try:
            frames = state["frames"]
            sums, squares = (np.array(state[key], np.float64) for key in ("sums", "squares"))
            whole = type(frames) is int and frames >= 1 and sums.shape == squares.shape == (features,)
            if not whole or not np.isfinite([sums, squares]).all():
                raise ValueError
        except (KeyError, TypeError, ValueError) as error:
            raise RunError(
                f"{name}: there are no statistics of {features} features in it; prepare the data again."
            ) from error
        return cls(frames, sums, squares)


def by_author(frames: Iterable[tuple[str, npt.ArrayLike]]) -> dict[str, FeatureStatistics]:
    """The statistics of each speaker or writer, to normalise by.

    Args:
        frames: of each example its author and its frames, (frames, features).
    """
    found: dict[str, FeatureStatistics] = {}
    for author, rows in frames:
        found.setdefault(author, FeatureStatistics()).add(rows)
    return found


def normalised(frames: npt.ArrayLike, statistics: FeatureStatistics | None = None, *, variance: bool = True) -> Frames:
    """Frames without the mean, divided by the deviation.

    Args:
        frames: (frames, features).
        statistics: those of their speaker or of all training data; None: those of the frames themselves.
        variance: whether they are divided by the deviation.

    Returns:
        (frames, features). With given statistics each frame depends on itself alone, so that a stream has the same
        numbers.
    """
    rows = np.asarray(frames, np.float32)
    found = statistics or FeatureStatistics.of(rows)
    if not len(rows):
        return rows
    centred = rows - found.mean
    return np.asarray(centred / found.deviation if variance else centred, np.float32)


class OnlineNormaliser:
    """Normalises each frame of a stream by the frames before it, as Kaldi's OnlineCmvn does.

    The mean and the deviation of a frame are those of the last `window` frames, itself included. At the beginning of a
    stream, while there are fewer, up to `prior` frames with the mean and deviation of all training data stand in for
    those that are missing. Results do not depend on how frames are cut into pieces.

    Args:
        training: statistics of all training data.
        window: frames that a normalisation looks at.
        prior: most frames that the training data stand in for.
        variance: whether frames are divided by the deviation.
    """

    def __init__(
        self, training: FeatureStatistics, *, window: int = 600, prior: int = 200, variance: bool = True
    ) -> None:
        if not training.frames or window < 1 or prior < 1:
            raise ValueError("there must be training data, a window and frames that stand in for missing ones")
        self._training, self._window, self._prior, self._variance = training, window, prior, variance
        features = len(training.sums)
        self._seen = 0
        # Running sums after each of the last `window` frames, and one before them.
        self._sums = np.zeros((1, 2, features))

    def accept(self, frames: npt.ArrayLike) -> Frames:
        """The next frames of the stream, normalised: (frames, features) in and out."""
        rows = np.asarray(frames, np.float32)
        if not len(rows):
            return rows
        wide = rows.astype(np.float64)
        both = np.stack([wide, wide * wide], 1)
        # cumsum adds one row after the other, so that the roundings are those of a stream of single frames.
        sums = np.concatenate([self._sums, np.cumsum(np.concatenate([self._sums[-1:], both]), 0)[1:]])
        held = len(self._sums)
        places = held + np.arange(len(rows))
        counts = np.minimum(self._seen + 1 + np.arange(len(rows)), self._window)
        inside = sums[places] - sums[places - counts]
        missing = np.minimum(self._prior, self._window - counts)[:, None, None]
        training = np.stack([self._training.sums, self._training.squares]) / self._training.frames
        means = (inside + missing * training) / (counts[:, None, None] + missing)
        centred = wide - means[:, 0]
        self._seen += len(rows)
        self._sums = sums[-(min(self._seen, self._window) + 1) :]
        return np.asarray(
            centred / _deviation(means[:, 1] - means[:, 0] ** 2) if self._variance else centred, np.float32
        )


def _deviation(variance: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return np.sqrt(np.where(variance > _LEAST_VARIANCE, variance, 1.0))
