"""What a language model answers: scores of lines, their ranking, and next words."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

__all__ = ["LineScore", "NextWord", "NextWords", "RankedLine", "rank_lines"]


@dataclass(frozen=True)
class LineScore:
    """How likely a line is, its line end included.

    Attributes:
        text: the line.
        log_probability: natural logarithm of P(line and line end | a line begins), in nats.
        tokens: number of tokens, the line end included.
        perplexity: exp of the mean negative log-probability of a token.
        bits_per_character: negative log2-probability over the number of characters, the line end included.
        unknown: tokens that the vocabulary does not hold; the model knows nothing of them but that they are rare.
    """

    text: str
    log_probability: float
    tokens: int
    perplexity: float
    bits_per_character: float
    unknown: int


class RankedLine(NamedTuple):
    """One of several alternatives; `probability` is its share if exactly these could be meant."""

    score: LineScore
    probability: float


class NextWord(NamedTuple):
    """A word and its probability."""

    word: str
    probability: float


class NextWords(list[NextWord]):
    """Next words, the likeliest first; `unseen` is the probability of all words that the search did not look at."""

    def __init__(self, words: Sequence[tuple[str, float]], unseen: float = 0.0) -> None:
        super().__init__(NextWord(word, probability) for word, probability in words)
        self.unseen = unseen


def rank_lines(scores: Sequence[LineScore]) -> list[RankedLine]:
    """Sort alternatives, the likeliest first and equals as they came, each with its share of the total probability."""
    if not scores:
        return []
    highest = max(score.log_probability for score in scores)
    weights = [math.exp(score.log_probability - highest) for score in scores]
    total = math.fsum(weights)
    ranked = [RankedLine(score, weight / total) for score, weight in zip(scores, weights, strict=True)]
    return sorted(ranked, key=lambda line: -line.score.log_probability)
