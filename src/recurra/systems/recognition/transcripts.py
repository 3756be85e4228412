"""Texts as the labels of a recogniser, and labels as texts and words."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ...data.sentences import SentenceTokenizer
from ...data.tokenizer import Tokenizer
from ...decoding.recognized import LabelSpan, WordMarks, WordSpan, word_spans

__all__ = ["TOKENIZER", "Transcripts", "load_transcripts"]

TOKENIZER = "tokenizer.json"


class Transcripts:
    """Labels are the tokens of a tokenizer. The token of a line end, which no transcript has, is the blank.

    Args:
        tokenizer: of a run.

    Attributes:
        blank: the number of the blank.
    """

    def __init__(self, tokenizer: SentenceTokenizer) -> None:
        self.tokenizer = tokenizer
        self.blank = tokenizer.eos_id

    @property
    def labels(self) -> int:
        """How many labels there are, the blank included."""
        return self.tokenizer.vocab_size

    def encode(self, text: str) -> npt.NDArray[np.int64]:
        """The labels of a text, (labels,)."""
        return self.tokenizer.encode(text).astype(np.int64)

    def encode_all(self, texts: Iterable[str]) -> list[npt.NDArray[np.int64]]:
        """The labels of each text."""
        rows = self.tokenizer.encode_all(texts)
        values = rows.values.astype(np.int64)
        return [values[start:stop] for start, stop in zip(rows.starts[:-1], rows.starts[1:], strict=True)]

    def decode(self, labels: Sequence[int]) -> str:
        """The text of labels, without spaces at its ends."""
        return self.tokenizer.decode(labels)

    def reference(self, text: str) -> str:
        """A text as a recogniser without fault would write it."""
        return self.tokenizer.reference(text)

    def unknown(self, text: str) -> list[str]:
        """What of a text the vocabulary lacks, each once."""
        return self.tokenizer.tokenizer.unknown(text)

    def words(self, spans: Sequence[LabelSpan]) -> list[tuple[str, WordSpan]]:
        """The words that labels make up, each with its place. Without a mark of where words begin all are one word."""
        if self.marks is not None:
            found = word_spans(spans, self.marks)
        else:
            labels = [span.label for span in spans]
            least = min((span.confidence for span in spans), default=1.0)
            found = [WordSpan(labels, spans[0].start, spans[-1].end, least)] if spans else []
        texts = [(self.decode(word.labels), word) for word in found]
        return [(text, word) for text, word in texts if text]

    @cached_property
    def marks(self) -> WordMarks | None:
        """How one sees in labels where words begin; None: there is nothing to see it by."""
        tokenizer = self.tokenizer.tokenizer
        if tokenizer.tokens_are_words:
            return WordMarks(beginning=frozenset(range(self.labels)) - {self.blank})
        strings = tokenizer.vocabulary_bytes
        separator = next((place for place, string in enumerate(strings) if string == b" "), None)
        beginning = frozenset(place for place, string in enumerate(strings) if len(string) > 1 and string[:1] == b" ")
        return None if separator is None and not beginning else WordMarks(separator, beginning)


def load_transcripts(run_dir: Path) -> Transcripts:
    """The labels of a run.

    Raises:
        RunError: if its tokenizer is missing or damaged.
    """
    return Transcripts(SentenceTokenizer(Tokenizer.load(run_dir / TOKENIZER)))
