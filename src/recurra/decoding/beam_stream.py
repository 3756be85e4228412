"""A recogniser's search over an input that comes piece by piece, whatever it is that gives the labels."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from ..bounds import LARGEST, WIDEST_BEAM
from ..errors import ConfigError
from .recognized import LabelSpan, Recognized

__all__ = ["BeamStream", "FrameBeam", "Partial", "RecogniserBeam", "search_whole"]


@dataclass(frozen=True)
class RecogniserBeam:
    """How a beam is kept.

    Attributes:
        beam: hypotheses that are gone on with.
        n_best: how many are given out; at most as many as the beam has.
        least_probability: a label of this probability or less at a frame is not begun there, which saves most of the
            time and can lose a hypothesis; 0: each possible label is.
        most_behind: a hypothesis whose score is further behind the best one's, in nats, is given up, which saves a
            language model most of its work; infinity: none is.
        label_bonus: what each label adds to a score, against the short outputs that a language model prefers.
        settle_after: hypotheses that differ from the best one in a label that ended so many frames ago are given up,
            so that a stream never has more behind it that is not settled. It counts for a whole input too.

    Raises:
        ConfigError: if a value is out of its range.
    """

    beam: int = 8
    n_best: int = 1
    least_probability: float = 1e-3
    most_behind: float = 14.0
    label_bonus: float = 0.0
    settle_after: int = 1000

    def __post_init__(self) -> None:
        if not 1 <= self.beam <= WIDEST_BEAM:
            raise ConfigError(f"beam must be from 1 to {WIDEST_BEAM:,}, not {self.beam}.")
        if not 1 <= self.n_best <= self.beam:
            raise ConfigError(f"n_best must be from 1 to the beam's {self.beam}, not {self.n_best}.")
        if not 0 <= self.least_probability < 1:
            raise ConfigError(f"least_probability must be from 0 to below 1, not {self.least_probability}.")
        if not self.most_behind > 0:
            raise ConfigError(f"most_behind must be above 0, not {self.most_behind}.")
        if not math.isfinite(self.label_bonus):
            raise ConfigError(f"label_bonus must be a finite number, not {self.label_bonus}.")
        if not 1 <= self.settle_after <= LARGEST:
            raise ConfigError(f"settle_after must be at least 1, not {self.settle_after}.")

    @property
    def threshold(self) -> float:
        """The logarithm of the least probability."""
        return math.log(self.least_probability) if self.least_probability else -math.inf


class FrameBeam(Protocol):
    """The live hypotheses after the frames so far."""

    def read(self, frame: Any) -> None:
        """Read a frame."""
        ...

    def settled(self) -> list[LabelSpan]:
        """The labels that were settled since the last time."""
        ...

    def partial(self) -> list[LabelSpan]:
        """The labels after these of the hypothesis that is the best if more is to come."""
        ...

    def finish(self, count: int) -> list[Recognized]:
        """The best hypotheses if nothing more comes; of each only what is not settled yet."""
        ...


class Partial(NamedTuple):
    """What a stream knows after a piece.

    Attributes:
        settled: labels that will not change any more, and were not given out before.
        unsettled: the labels that follow all settled ones, as the best hypothesis has them now.
    """

    settled: list[LabelSpan]
    unsettled: list[LabelSpan]


class BeamStream:
    """Beam search over frames that come piece by piece.

    How the input is cut into pieces changes no bit of the result. After every 16th frame the labels that all hypotheses
    share are settled: they are given out, with the frames that they have on the best path then, and forgotten. So the
    memory follows from how far the hypotheses differ and not from the length of the input.
    """

    def __init__(self, beam: FrameBeam, n_best: int) -> None:
        self._beam, self._n_best = beam, n_best
        self._ended = False

    def finish(self) -> list[Recognized]:
        """End the input: up to n_best hypotheses, the best first, each without the labels that were settled before.

        Their log-probabilities and scores are those of all labels.
        """
        self._ended = True
        return self._beam.finish(self._n_best)

    def _read(self, frames: Iterable[Any]) -> Partial:
        """Read a piece, which may have no frames.

        Raises:
            ValueError: after `finish`.
        """
        if self._ended:
            raise ValueError("the stream has ended; make a new one for the next input")
        for frame in frames:
            self._beam.read(frame)
        return Partial(self._beam.settled(), self._beam.partial())


def search_whole(stream: Any, frames: Any) -> list[Recognized]:
    """The hypotheses of an input that is there as a whole, by a stream that has read nothing yet."""
    settled = stream.feed(frames).settled
    return [best._replace(spans=[*settled, *best.spans]) for best in stream.finish()]
