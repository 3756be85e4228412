"""A token is a word or a symbol; spaces are not tokens and are put back by rules of spelling.

Or, of text that was tokenised before, whatever stands between white space.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, Literal

import numpy as np
import tokenizers
from tokenizers import models, pre_tokenizers

from ..config.sections import TokenizerConfig
from ..errors import DataError
from .tokenizer import Decoder, IdArray, Normalization, Tokenizer
from .words import LIBRARY_HAN, LIBRARY_WORD, count_bounded, han_pattern, joins_tightly, word_pattern

__all__ = ["WhitespaceTokenizer", "WordTokenizer", "train"]

_UNKNOWN = "<unk>"
_MOST_WORDS = 500_000
"""Different words that are held while counting, at least; about 150 bytes each."""


class _Vocabulary(dict[str, int]):
    def __missing__(self, word: str) -> int:
        return 0


class _Decoder:
    def __init__(self, strings: Sequence[str]) -> None:
        self._strings = strings
        self._left = "\n"
        self._open: set[str] = set()

    def push(self, token: int) -> str:
        right = self._strings[token]
        left, self._left = self._left, right
        if right == "\n":
            self._open.clear()
            return right
        # A straight quotation mark opens and closes by turns within a line.
        after_opening = left in self._open
        closing = False
        if right in ('"', "'"):
            closing = right in self._open
            self._open ^= {right}
        if left == "\n" or after_opening or closing or joins_tightly(left, right):
            return right
        return " " + right

    def flush(self) -> str:
        return ""


class _SpacedDecoder:
    def __init__(self, strings: Sequence[str]) -> None:
        self._strings = strings
        self._begins = True

    def push(self, token: int) -> str:
        text, begins = self._strings[token], self._begins
        self._begins = text == "\n"
        return text if begins or self._begins else " " + text

    def flush(self) -> str:
        return ""


class WordTokenizer(Tokenizer):
    """Words and symbols as tokens: `<unk>` is 0, `<eos>` 1, the others stand by falling frequency in the training text.

    Decoding puts spaces between words and none where spelling has none, such as before a comma; the spacing of the
    original is not kept.
    """

    kind: Literal["word", "whitespace"] = "word"
    unk_id: int = 0
    _spelling: ClassVar[type[_Decoder] | type[_SpacedDecoder]] = _Decoder

    def __init__(self, strings: Sequence[str], normalization: Normalization, lowercase: bool) -> None:
        super().__init__(normalization, lowercase)
        self._strings = list(strings)
        self._vocabulary = _Vocabulary((string, index) for index, string in enumerate(self._strings))
        self.eos_id = self._vocabulary["\n"]

    @property
    def vocab_size(self) -> int:
        return len(self._strings)

    def decoder(self) -> Decoder:
        return self._spelling(self._strings)

    def token_bytes(self, token: int) -> bytes:
        return self._strings[token].encode()

    def _encode(self, text: str) -> IdArray:
        words = self.split(text)
        return np.fromiter(map(self._vocabulary.__getitem__, words), np.uint32, len(words))

    def _library(self) -> Any:
        return self.library(dict(self._vocabulary))

    @staticmethod
    def split(text: str) -> list[str]:
        """The words, symbols and line feeds of a text, in order."""
        if not text.isascii() and han_pattern().search(text):
            text = han_pattern().sub(r" \g<0> ", text)
        return word_pattern().findall(text)

    @classmethod
    def join(cls, words: Sequence[str]) -> str:
        """The text of words and symbols, spaced as `decode` spaces them."""
        return "".join(map(cls._spelling(words).push, range(len(words))))

    @staticmethod
    def library(vocabulary: Mapping[str, int]) -> Any:
        """The tokenizers library's form of a word vocabulary."""
        return _library(
            vocabulary,
            pre_tokenizers.Split(tokenizers.Regex(LIBRARY_HAN), "isolated"),
            pre_tokenizers.Split(tokenizers.Regex(LIBRARY_WORD), "removed", invert=True),
        )


class WhitespaceTokenizer(WordTokenizer):
    """What stands between white space is a token, for text that was tokenised before; written with single spaces.

    A literal `<unk>` is the unknown word, as corpora of a fixed vocabulary mean it.
    """

    kind = "whitespace"
    _spelling = _SpacedDecoder
    _BETWEEN: ClassVar = re.compile(r"\n|\S+")

    @staticmethod
    def split(text: str) -> list[str]:
        """What stands between white space, and line feeds."""
        return WhitespaceTokenizer._BETWEEN.findall(text)

    @staticmethod
    def library(vocabulary: Mapping[str, int]) -> Any:
        """The tokenizers library's form of the vocabulary."""
        # The library's white space lacks \x1c to \x1f, which Python's has.
        between = tokenizers.Regex(r"\n|[^\s\x1c-\x1f]+")
        return _library(vocabulary, pre_tokenizers.Split(between, "removed", invert=True))


def train(pieces: Iterable[str], config: TokenizerConfig) -> WordTokenizer:
    """Keep the commonest words of the text; see `Tokenizer.train`.

    While counting, at most 500,000 different words, or eight times the vocabulary, are held; where a text has more, the
    rarest are dropped on the way (`words.count_bounded`), which touches only words near the end of a vocabulary.
    """
    kind = WhitespaceTokenizer if config.kind == "whitespace" else WordTokenizer
    counts = count_bounded(map(kind.split, pieces), max(_MOST_WORDS, 8 * config.vocab_size))
    if not counts:
        raise DataError("The text to learn a vocabulary from holds no words; give a file with text.")
    counts.pop("\n", None)
    counts.pop(_UNKNOWN, None)
    words = sorted((word for word, count in counts.items() if count >= config.min_count), key=lambda w: (-counts[w], w))
    return kind([_UNKNOWN, "\n", *words[: config.vocab_size - 2]], config.normalization, config.lowercase)


def _library(vocabulary: Mapping[str, int], *splits: Any) -> Any:
    library = tokenizers.Tokenizer(models.WordLevel(dict(vocabulary), unk_token=_UNKNOWN))
    library.pre_tokenizer = pre_tokenizers.Sequence(list(splits))
    return library
