"""The log-probability of each word of a text, from those of its tokens."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

__all__ = ["WordScore", "score_words"]

END = "<eos>"
_BYTES = "surrogateescape"


class WordScore(NamedTuple):
    """A word of a text and the natural logarithm of its probability after the words before it, in nats."""

    word: str
    log_probability: float


def score_words(tokens: Sequence[bytes], gains: Sequence[float], whole: bool) -> list[WordScore]:
    """The words of a text, and the end last; their log-probabilities add up to that of the text.

    White space is part of the word after it, as subword tokenizers have it, and at the end of a text part of the end.

    Args:
        tokens: the UTF-8 of each token, white space included, which together are the text. None reaches from one word
            into another.
        gains: the log-probability of each token and of the end.
        whole: whether every token is a word; else white space parts the words.
    """
    if whole:
        words = [token.decode("utf-8", "replace") for token in tokens]
        return [*map(WordScore, words, gains), WordScore(END, gains[-1])]
    words, word_of_byte = _words(b"".join(tokens))
    sums: list[list[float]] = [[] for _ in [*words, END]]
    end = 0
    for token, gain in zip(tokens, gains, strict=False):
        end += len(token)
        sums[word_of_byte[end - 1]].append(gain)
    sums[-1].append(gains[-1])
    return [WordScore(word, math.fsum(each)) for word, each in zip([*words, END], sums, strict=True)]


def _words(text: bytes) -> tuple[list[str], list[int]]:
    """The words between white space, and of each byte the number of its word; white space is the next word's."""
    # Bytes that are no UTF-8 become one character each, so that places in text and bytes go together.
    characters = text.decode("utf-8", _BYTES)
    words = [word.encode("utf-8", _BYTES).decode("utf-8", "replace") for word in characters.split()]
    number, inside, word_of_byte = 0, False, []
    for character in characters:
        if character.isspace():
            number, inside = number + inside, False
        else:
            inside = True
        word_of_byte += [number] * len(character.encode("utf-8", _BYTES))
    return words, word_of_byte
