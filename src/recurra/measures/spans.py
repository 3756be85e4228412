"""How well the spans of words in sentences were found, such as names: precision, recall and F1."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from ..data.spans import spans

__all__ = ["SpanCounts", "SpanScores", "span_scores"]


class SpanCounts(NamedTuple):
    """How many spans there are, and what follows from it.

    Attributes:
        correct: spans of the prediction that are in the gold standard.
        predicted: all spans of the prediction.
        gold: all spans of the gold standard.
    """

    correct: int
    predicted: int
    gold: int

    @property
    def precision(self) -> float:
        """Share of the predicted spans that are correct, 0 to 1; 0 if there are none."""
        return self.correct / self.predicted if self.predicted else 0.0

    @property
    def recall(self) -> float:
        """Share of the gold spans that were found, 0 to 1; 0 if there are none."""
        return self.correct / self.gold if self.gold else 0.0

    @property
    def f1(self) -> float:
        """The harmonic mean of precision and recall, 0 to 1; 0 if there are no spans on either side."""
        return 2 * self.correct / (self.predicted + self.gold) if self.predicted + self.gold else 0.0


class SpanScores(NamedTuple):
    """Scores of spans.

    Attributes:
        all: of the spans of all types, each counted once (micro average).
        types: of each type that there is on either side, sorted by its name.
    """

    all: SpanCounts
    types: dict[str, SpanCounts]


def span_scores(gold: Iterable[Sequence[str]], predicted: Iterable[Sequence[str]], scheme: str) -> SpanScores:
    """Compare the spans of predicted tags with those of the gold standard.

    A span is correct if its type, its first word and its last word are those of a gold span, with both sides read
    strictly, see `recurra.data.spans.spans`: these are seqeval's values in its strict mode.

    Args:
        gold, predicted: the tags of each sentence, as many on both sides.
        scheme: of the tags on both sides.

    Raises:
        ConfigError: if there is no such scheme.
        ValueError: if the two sides have not as many sentences, or not as many tags in a sentence.
    """
    correct: Counter[str] = Counter()
    found: Counter[str] = Counter()
    wanted: Counter[str] = Counter()
    for number, (one, other) in enumerate(zip(gold, predicted, strict=True), start=1):
        if len(one) != len(other):
            raise ValueError(f"sentence {number} has {len(one)} gold tags and {len(other)} predicted ones")
        right, guess = spans(one, scheme), spans(other, scheme)
        wanted.update(span.type for span in right)
        found.update(span.type for span in guess)
        correct.update(span.type for span in {*right} & {*guess})
    return SpanScores(
        SpanCounts(correct.total(), found.total(), wanted.total()),
        {kind: SpanCounts(correct[kind], found[kind], wanted[kind]) for kind in sorted({*found, *wanted})},
    )
