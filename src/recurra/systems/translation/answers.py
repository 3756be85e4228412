"""What a translation system answers: translations with their alignments, and scores of pairs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from ...decoding.word_scores import WordScore

__all__ = ["PairScore", "TranslatedText", "Translation"]


@dataclass(frozen=True)
class TranslatedText:
    """One translation of a sentence.

    Attributes:
        text: as it is written.
        log_probability: natural logarithm of P(tokens and end | source), in nats.
        score: what the search ranks by: with its penalties on length and coverage.
        tokens: of the target, the end not counted.
        alignment: (source word, target word), counted between white space from 0; empty without attention.
        source_pieces, target_pieces: the tokens that the weights are between, ends included.
        weights: (target tokens + 1, source tokens + 1), where each step attended; None without attention.
        words: the words, and the end last, whose log-probabilities add up to that of the text: the tokens of a word
            tokenizer, else what stands between white space.
    """

    text: str
    log_probability: float
    score: float
    tokens: int
    alignment: list[tuple[int, int]] = field(default_factory=list)
    source_pieces: list[str] = field(default_factory=list)
    target_pieces: list[str] = field(default_factory=list)
    weights: npt.NDArray[np.float32] | None = None
    words: list[WordScore] = field(default_factory=list)

    @property
    def pharaoh(self) -> str:
        """The alignment in the form of the Pharaoh decoder, such as "0-0 2-1 1-2": source word, target word."""
        return " ".join(f"{source}-{target}" for source, target in self.alignment)

    def attention(self) -> dict[str, Any]:
        """Weights and tokens as JSON holds them."""
        return {
            "source": self.source_pieces,
            "target": self.target_pieces,
            "weights": [] if self.weights is None else [[round(float(w), 6) for w in row] for row in self.weights],
            "alignment": self.pharaoh,
        }


@dataclass(frozen=True)
class Translation:
    """A sentence and its translations, the best first.

    Attributes:
        source: as it was given.
        best: what stands in the output; empty for an empty sentence.
        alternatives: all that were asked for, `best` being the first; none for an empty sentence, or where no
            translation meets the constraints.
        cut_at: how many tokens of the source were read, where it was longer than the limit; else None.
        unmet: whether no translation that meets the constraints was found.
    """

    source: str
    alternatives: list[TranslatedText]
    cut_at: int | None = None
    unmet: bool = False

    @property
    def best(self) -> str:
        return self.alternatives[0].text if self.alternatives else ""


@dataclass(frozen=True)
class PairScore:
    """How likely a translation is.

    Attributes:
        log_probability: natural logarithm of P(target and end | source), in nats.
        tokens: of the target, the end included.
        perplexity: exp of the mean negative log-probability of a token.
        unknown: target tokens that the vocabulary does not hold.
        alignment: in Pharaoh form; empty without attention.
        cut_at: how many tokens of the source were read, where it was longer than the limit; else None.
        words: of the target and its end, as `TranslatedText` has them.
    """

    source: str
    target: str
    log_probability: float
    tokens: int
    perplexity: float
    unknown: int
    alignment: str
    cut_at: int | None = None
    words: list[WordScore] = field(default_factory=list)
