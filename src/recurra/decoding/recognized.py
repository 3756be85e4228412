"""What a recogniser's search gives: labels with their frames and confidences, and the words that they make up."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from ..errors import ConfigError

__all__ = ["LabelSpan", "Recognized", "WordMarks", "WordSpan", "word_spans"]


class LabelSpan(NamedTuple):
    """One label and where it is.

    Attributes:
        label: its number.
        start, end: its first frame, and the frame after its last one.
        confidence: the mean of the label's probability over its frames, from 0 to 1.
    """

    label: int
    start: int
    end: int
    confidence: float


class Recognized(NamedTuple):
    """One hypothesis of what was said or written.

    Attributes:
        spans: its labels in order, with their frames on the best path of the hypothesis.
        log_probability: log P(labels | input) of the recogniser alone, in nats, over all paths that the search kept.
        score: what hypotheses are ranked by: the log-probability and everything that is fused with it.
    """

    spans: list[LabelSpan]
    log_probability: float
    score: float

    @property
    def labels(self) -> list[int]:
        return [span.label for span in self.spans]


class WordSpan(NamedTuple):
    """One word and where it is.

    Attributes:
        labels: without separators.
        start, end: its first frame, and the frame after its last one.
        confidence: that of its least sure label.
    """

    labels: list[int]
    start: int
    end: int
    confidence: float


@dataclass(frozen=True)
class WordMarks:
    """How one sees in a sequence of labels where words begin.

    Attributes:
        separator: the label between two words, such as a space; None: there is none.
        beginning: the labels that begin a word themselves, such as subwords with a mark of the word's start.

    Raises:
        ConfigError: if there is neither, or the separator is to begin a word.
    """

    separator: int | None = None
    beginning: Collection[int] = frozenset()

    def __post_init__(self) -> None:
        if self.separator is None and not self.beginning:
            raise ConfigError("word marks need a separator, or labels that begin a word.")
        if self.separator in self.beginning:
            raise ConfigError(f"label {self.separator} cannot both separate words and begin one.")
        object.__setattr__(self, "beginning", frozenset(self.beginning))


def word_spans(spans: Sequence[LabelSpan], marks: WordMarks) -> list[WordSpan]:
    """The words that labels make up. Separators belong to no word; two of them, one after the other, enclose none."""
    words: list[list[LabelSpan]] = [[]]
    for span in spans:
        if span.label == marks.separator or span.label in marks.beginning:
            words.append([])
        if span.label != marks.separator:
            words[-1].append(span)
    return [
        WordSpan([span.label for span in word], word[0].start, word[-1].end, min(span.confidence for span in word))
        for word in words
        if word
    ]
