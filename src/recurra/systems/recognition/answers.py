"""What a recogniser answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["Hypothesis", "Transcript", "Word"]


@dataclass(frozen=True)
class Word:
    """A recognised word.

    Attributes:
        text: of it.
        start, end: seconds from the beginning of the utterance.
        confidence: the probability that it is right, calibrated on the validation data.
    """

    text: str
    start: float
    end: float
    confidence: float

    def json(self) -> dict[str, Any]:
        """The word as JSON holds it."""
        return {
            "word": self.text,
            "start": round(self.start, 3),
            "end": round(self.end, 3),
            "confidence": round(self.confidence, 4),
        }


@dataclass(frozen=True)
class Hypothesis:
    """One text that may have been said.

    Attributes:
        text: of it.
        words: that it is made of.
        log_probability: log P(text | audio) of the recogniser alone, in nats, over all alignments that the search
            kept; of the likeliest path alone where the search is greedy.
        score: what hypotheses are ranked by: the log-probability and everything that is fused with it.
    """

    text: str
    words: Sequence[Word]
    log_probability: float
    score: float

    @property
    def confidence(self) -> float:
        """The confidence of the least sure word; 1 without words."""
        return min((word.confidence for word in self.words), default=1.0)

    def json(self) -> dict[str, Any]:
        """The hypothesis as JSON holds it."""
        finite = self.log_probability > -float("inf")
        return {
            "text": self.text,
            "confidence": round(self.confidence, 4),
            "log_probability": self.log_probability if finite else None,
            "score": self.score if finite else None,
            "words": [word.json() for word in self.words],
        }


@dataclass(frozen=True)
class Transcript:
    """The answer to one utterance.

    Attributes:
        id: its name.
        audio: the path of its recording.
        start: the second of the recording at which it begins.
        seconds: that it has.
        hypotheses: the best first; at least one.
    """

    id: str
    audio: str
    start: float
    seconds: float
    hypotheses: Sequence[Hypothesis]

    @property
    def text(self) -> str:
        """Of the best hypothesis."""
        return self.hypotheses[0].text

    @property
    def words(self) -> Sequence[Word]:
        """Of the best hypothesis."""
        return self.hypotheses[0].words

    def json(self) -> dict[str, Any]:
        """The answer as JSON holds it; further hypotheses where they were asked for."""
        value = {"id": self.id, "audio": self.audio, "start": self.start, "seconds": round(self.seconds, 3)}
        value |= self.hypotheses[0].json()
        if len(self.hypotheses) > 1:
            value["n_best"] = [each.json() for each in self.hypotheses]
        return value
