"""What a language model answers: scores of lines, their ranking, and next words."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from ...decoding.word_scores import WordScore

__all__ = ["LineScore", "NextWord", "NextWords", "RankedLine", "rank_lines"]


@dataclass(frozen=True)
class LineScore:
    """How likely a line is, its line end included.

    P(<unk>) is the probability of all words together that the vocabulary does not hold, so a line with unknown words
    has a log-probability that is too high by an unknown amount: the more words a vocabulary lacks, the higher.

    Attributes:
        text: the line.
        log_probability: natural logarithm of P(line and line end | a line begins), in nats; of a line with unknown
            words it is an upper bound.
        tokens: number of tokens, the line end included.
        perplexity: exp of the mean negative log-probability of a token.
        bits_per_character: negative log2-probability over the number of characters, the line end included.
        unknown: tokens that the vocabulary does not hold; the model knows nothing of them but that they are rare.
        known_log_probability: the same sum over the known tokens alone, each after what stands before it.
        known_perplexity: exp of the mean negative log-probability of a known token.
        words: the words, and the line end last, whose log-probabilities add up to that of the line: the tokens of a
            word tokenizer, else what stands between white space.
    """

    text: str
    log_probability: float
    tokens: int
    perplexity: float
    bits_per_character: float
    unknown: int
    known_log_probability: float
    known_perplexity: float
    words: list[WordScore]


class RankedLine(NamedTuple):
    """One of several alternatives; `probability` is its share if exactly these could be meant.

    None for a line with more unknown words than another: nothing is known of its share.
    """

    score: LineScore
    probability: float | None


class NextWord(NamedTuple):
    """A word and its probability."""

    word: str
    probability: float


class NextWords(list[NextWord]):
    """Next words, the likeliest first.

    Attributes:
        unseen: the probability of all words that the search did not look at.
        unknown: words that were asked about and that the vocabulary does not hold, which come last; the probability of
            each is that of all unknown words together.
    """

    def __init__(
        self, words: Sequence[tuple[str, float]], unseen: float = 0.0, unknown: Collection[str] = frozenset()
    ) -> None:
        known_first = sorted(words, key=lambda word: word[0] in unknown)
        super().__init__(NextWord(word, probability) for word, probability in known_first)
        self.unseen = unseen
        self.unknown = frozenset(unknown)


def rank_lines(scores: Sequence[LineScore]) -> list[RankedLine]:
    """Sort alternatives, those with the fewest unknown words first, of these the likeliest, and equals as they came.

    Only those with the fewest unknown words have a share of the total probability, which is theirs.
    """
    if not scores:
        return []
    fewest = min(score.unknown for score in scores)
    compared = [score for score in scores if score.unknown == fewest]
    highest = max(score.log_probability for score in compared)
    total = math.fsum(math.exp(score.log_probability - highest) for score in compared)
    ranked = [
        RankedLine(s, math.exp(s.log_probability - highest) / total if s.unknown == fewest else None) for s in scores
    ]
    return sorted(ranked, key=lambda line: (line.score.unknown, -line.score.log_probability))
