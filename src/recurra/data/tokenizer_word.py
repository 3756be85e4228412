"""A token is a word or a symbol; spaces are not tokens and are put back as the training text has them (`spacing`).

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
from .spacing import Spacing, SpacingCounter, WordWriter
from .tokenizer import Decoder, IdArray, Normalization, Tokenizer
from .words import LIBRARY_HAN, LIBRARY_WORD, UNKNOWN, count_bounded, han_pattern, word_pattern

__all__ = ["SPACING", "WhitespaceTokenizer", "WordTokenizer", "train"]

SPACING = "spacing"
"""Where the model of a saved tokenizer holds the spaces learnt; the tokenizers library passes over it."""

_MOST_WORDS = 500_000
"""Different words that are held while counting, at least; about 150 bytes each."""


class _Vocabulary(dict[str, int]):
    def __missing__(self, word: str) -> int:
        return 0


class _Decoder:
    def __init__(self, strings: Sequence[str], writer: WordWriter | _SpacedWriter) -> None:
        self._strings = strings
        self._writer = writer

    def push(self, token: int) -> str:
        return self._writer.write(self._strings[token], token)

    def flush(self) -> str:
        return ""


class _SpacedWriter:
    """Writes a text word by word with single spaces."""

    def __init__(self) -> None:
        self._begins = True

    def write(self, word: str, token: int) -> str:
        begins, self._begins = self._begins, word == "\n"
        return word if begins or self._begins else " " + word


class WordTokenizer(Tokenizer):
    """Words and symbols as tokens: `<unk>` is 0, `<eos>` 1, the others stand by falling frequency in the training text.

    Decoding puts spaces where the training text has them mostly, and where that does not tell, between words and not,
    for example, before a comma. The spaces of the encoded text itself are not kept, and of those at the ends of lines
    nothing is learnt.
    """

    kind: Literal["word", "whitespace"] = "word"
    unk_id: int = 0

    def __init__(
        self, strings: Sequence[str], normalization: Normalization, lowercase: bool, spacing: Spacing | None = None
    ) -> None:
        super().__init__(normalization, lowercase)
        self._spacing = spacing or Spacing()
        self._strings = list(strings)
        self._vocabulary = _Vocabulary((string, index) for index, string in enumerate(self._strings))
        self.eos_id = self._vocabulary["\n"]

    @property
    def vocab_size(self) -> int:
        return len(self._strings)

    def decoder(self) -> Decoder:
        return _Decoder(self._strings, self._writer())

    def token_bytes(self, token: int) -> bytes:
        return self._strings[token].encode()

    def _encode(self, text: str) -> IdArray:
        words = self.split(text)
        return np.fromiter(map(self._vocabulary.__getitem__, words), np.uint32, len(words))

    def _library(self) -> Any:
        return self.library(dict(self._vocabulary))

    def _parts(self, text: str) -> Iterable[str]:
        return self.split(text)

    def _learnt(self) -> dict[str, Any]:
        # Without it the file is the one that was written before spaces were learnt.
        return {} if self._spacing.is_spelling else {SPACING: self._spacing.tree()}

    @staticmethod
    def split(text: str) -> list[str]:
        """The words, symbols and line feeds of a text, in order."""
        if text.isascii():
            return word_pattern(ascii=True).findall(text)
        if han_pattern().search(text):
            text = han_pattern().sub(r" \g<0> ", text)
        return word_pattern().findall(text)

    def join(self, words: Sequence[str]) -> str:
        """The text of words and symbols, spaced as `decode` spaces them."""
        writer = self._writer()
        return "".join(writer.write(word, self._vocabulary[word]) for word in words)

    def _writer(self) -> WordWriter | _SpacedWriter:
        return WordWriter(self._spacing)

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
    _BETWEEN: ClassVar = re.compile(r"\n|\S+")

    @staticmethod
    def split(text: str) -> list[str]:
        """What stands between white space, and line feeds."""
        return WhitespaceTokenizer._BETWEEN.findall(text)

    def _writer(self) -> WordWriter | _SpacedWriter:
        return _SpacedWriter()

    @staticmethod
    def library(vocabulary: Mapping[str, int]) -> Any:
        """The tokenizers library's form of the vocabulary."""
        # The library's white space lacks \x1c to \x1f, which Python's has.
        between = tokenizers.Regex(r"\n|[^\s\x1c-\x1f]+")
        return _library(vocabulary, pre_tokenizers.Split(between, "removed", invert=True))


def train(pieces: Iterable[str], config: TokenizerConfig) -> WordTokenizer:
    """Keep the commonest words of the text; see `Tokenizer.train`.

    While counting, at most 500,000 different words, or eight times the vocabulary, are held; where a text has more, the
    rarest are dropped on the way (`words.count_bounded`), which touches only words near the end of a vocabulary. For
    `word`, the spaces between them are counted likewise (`spacing.SpacingCounter`).
    """
    kind = WhitespaceTokenizer if config.kind == "whitespace" else WordTokenizer
    spaces = SpacingCounter()
    split = kind.split if config.kind == "whitespace" else spaces.words
    counts = count_bounded(map(split, pieces), max(_MOST_WORDS, 8 * config.vocab_size))
    if not counts:
        raise DataError("The text to learn a vocabulary from holds no words; give a file with text.")
    counts.pop("\n", None)
    counts.pop(UNKNOWN, None)
    words = sorted((word for word, count in counts.items() if count >= config.min_count), key=lambda w: (-counts[w], w))
    strings = [UNKNOWN, "\n", *words[: config.vocab_size - 2]]
    spacing = None if config.kind == "whitespace" else Spacing.learn(spaces.gaps, strings)
    return kind(strings, config.normalization, config.lowercase, spacing)


def _library(vocabulary: Mapping[str, int], *splits: Any) -> Any:
    library = tokenizers.Tokenizer(models.WordLevel(dict(vocabulary), unk_token=UNKNOWN))
    library.pre_tokenizer = pre_tokenizers.Sequence(list(splits))
    return library
