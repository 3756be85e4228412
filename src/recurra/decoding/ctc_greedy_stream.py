"""The likeliest path through log-probabilities that come piece by piece."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from torch import Tensor

from .beam_stream import Partial
from .ctc import read_log_probabilities
from .recognized import LabelSpan, Recognized

__all__ = ["CTCGreedyStream"]


class CTCGreedyStream:
    """What `ctc_greedy` gives of a whole input, however it is cut into pieces. A label is settled when it has ended.

    Args:
        labels: V.
        blank: the label that stands for none.

    Raises:
        ValueError: if the blank is not one of the labels.
    """

    def __init__(self, labels: int, blank: int = 0) -> None:
        if not 0 <= blank < labels:
            raise ValueError(f"blank must be one of the {labels} labels, not {blank}")
        self._labels, self._blank = labels, blank
        self._frame = 0
        # The label of the last frame, and of its run the first frame and the logarithms of its probabilities.
        self._last, self._start, self._shares = blank, 0, list[float]()
        self._totals: list[float] = []
        self._ended = False

    def feed(self, log_probabilities: Tensor | npt.NDArray[np.floating]) -> Partial:
        """Read a piece (T, V), which may have no frames.

        Raises:
            ValueError: as `read_log_probabilities`, or after `finish`.
        """
        if self._ended:
            raise ValueError("the stream has ended; make a new one for the next input")
        settled = []
        for frame in read_log_probabilities(log_probabilities, self._labels):
            label = int(frame.argmax())
            if label != self._last:
                settled += self._open()
                self._last, self._start, self._shares = label, self._frame, []
            if label != self._blank:
                self._shares.append(float(frame[label]))
            self._add(float(frame[label]))
            self._frame += 1
        return Partial(settled, self._open())

    def finish(self) -> list[Recognized]:
        """End the input: the one hypothesis, without the labels that were settled before.

        Its log-probability and score are those of the whole path.
        """
        self._ended = True
        total = math.fsum(self._totals)
        return [Recognized(self._open(), total, total)]

    def _open(self) -> list[LabelSpan]:
        """The label of the last frame, if it is no blank."""
        if self._last == self._blank or not self._shares:
            return []
        confidence = min(float(np.exp(np.array(self._shares)).mean()), 1.0)
        return [LabelSpan(self._last, self._start, self._frame, confidence)]

    def _add(self, value: float) -> None:
        """Add to the exact sum of all frames, which is kept as a few parts without common digits (Shewchuk 1997)."""
        kept = 0
        for part in self._totals:
            larger, smaller = (value, part) if abs(value) > abs(part) else (part, value)
            value = larger + smaller
            rest = smaller - (value - larger)
            if rest:
                self._totals[kept] = rest
                kept += 1
        self._totals[kept:] = [value]
