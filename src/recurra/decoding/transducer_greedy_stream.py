"""The likeliest label at each point of a transducer, for frames that come piece by piece."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .beam_stream import Partial
from .recognized import Recognized
from .transducer import Transducer, transducer_greedy

__all__ = ["TransducerGreedyStream"]


class TransducerGreedyStream:
    """What `transducer_greedy` gives of a whole input, however it is cut into pieces. Every label is settled at once.

    Args:
        model: the transducer.
        labels_per_frame: the most labels in one frame, from 1.
    """

    def __init__(self, model: Transducer, labels_per_frame: int = 3) -> None:
        self._reading = _Reading(model)
        self._labels_per_frame = labels_per_frame
        self._frame = 0
        self._totals: list[float] = []
        self._ended = False

    def feed(self, encoded: Tensor) -> Partial:
        """Read a piece (T, D), which may have no frames.

        Raises:
            ValueError: after `finish`.
        """
        if self._ended:
            raise ValueError("the stream has ended; make a new one for the next input")
        settled = []
        for frame in encoded:
            found = transducer_greedy(self._reading, frame[None], self._labels_per_frame)
            settled += [span._replace(start=self._frame, end=self._frame + 1) for span in found.spans]
            self._totals.append(found.log_probability)
            self._frame += 1
        # As many numbers as frames would be kept for ever.
        if len(self._totals) > 1000:
            self._totals = [math.fsum(self._totals)]
        return Partial(settled, [])

    def finish(self) -> list[Recognized]:
        """End the input: the one hypothesis, all of whose labels were settled before."""
        self._ended = True
        total = math.fsum(self._totals)
        return [Recognized([], total, total)]


class _Reading:
    """A transducer that begins where it was left."""

    def __init__(self, model: Transducer) -> None:
        self._model = model
        with torch.inference_mode():
            self._place = model.begin()

    @property
    def labels(self) -> int:
        return self._model.labels

    @property
    def blank(self) -> int:
        return self._model.blank

    def begin(self) -> tuple[Tensor, object]:
        return self._place

    def advance(self, labels: Tensor, state: object) -> tuple[Tensor, object]:
        self._place = self._model.advance(labels, state)
        return self._place

    def joint(self, frame: Tensor, rows: Tensor) -> Tensor:
        return self._model.joint(frame, rows)
