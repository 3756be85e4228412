"""What a tagger answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

__all__ = ["Alternative", "TaggedWords"]


class Alternative(NamedTuple):
    """One way to tag a sentence, and the logarithm of its probability."""

    tags: tuple[str, ...]
    log_probability: float


@dataclass(frozen=True)
class TaggedWords:
    """The answer to one sentence.

    Attributes:
        words: as they were given.
        tags: of each column, a tag for each word.
        alternatives: of each column, the likeliest ways to tag the sentence, the best first; empty if not asked for.
        probabilities: of each column, for each word the probability of the tag that it was given, whatever its
            neighbours have; empty if not asked for.
    """

    words: tuple[str, ...]
    tags: Mapping[str, tuple[str, ...]]
    alternatives: Mapping[str, Sequence[Alternative]]
    probabilities: Mapping[str, tuple[float, ...]]

    def json(self) -> dict[str, Any]:
        """The answer as JSON holds it."""
        value: dict[str, Any] = {"words": list(self.words), **{name: list(tags) for name, tags in self.tags.items()}}
        if self.probabilities:
            value["probabilities"] = {name: list(each) for name, each in self.probabilities.items()}
        if self.alternatives:
            value["alternatives"] = {
                name: [{"tags": list(each.tags), "log_probability": each.log_probability} for each in ways]
                for name, ways in self.alternatives.items()
            }
        return value
