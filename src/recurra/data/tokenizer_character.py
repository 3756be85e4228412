"""A token is a code point; a text is encoded by one table look-up."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import tokenizers
from tokenizers import models, pre_tokenizers

from ..config.sections import TokenizerConfig
from ..errors import DataError
from .tokenizer import Decoder, IdArray, Normalization, Tokenizer
from .words import UNKNOWN

__all__ = ["CharacterTokenizer", "library_tokenizer", "train"]

_CODE_POINTS = 0x110000


class CharacterTokenizer(Tokenizer):
    """Code points as tokens: `<unk>` is 0, the line end 1, the others stand by falling frequency in the training text.

    An unknown character decodes to U+FFFD.
    """

    kind = "character"
    unk_id: int = 0

    def __init__(self, strings: Sequence[str], normalization: Normalization, lowercase: bool) -> None:
        super().__init__(normalization, lowercase)
        self._strings = list(strings)
        self.eos_id = self._strings.index("\n")
        self._codes = np.array([ord(s) if len(s) == 1 else 0xFFFD for s in self._strings], "<u4")
        self._table = np.zeros(_CODE_POINTS, np.uint32)
        self._table[self._codes[1:]] = np.arange(1, len(self._codes), dtype=np.uint32)

    @property
    def vocab_size(self) -> int:
        return len(self._strings)

    def decoder(self) -> Decoder:
        return _Decoder(self._codes)

    def decode(self, ids: Iterable[int]) -> str:
        array = np.asarray(ids if isinstance(ids, np.ndarray) else list(ids), np.int64)
        return self._codes[array].tobytes().decode("utf-32-le")

    def token_bytes(self, token: int) -> bytes:
        return chr(self._codes[token]).encode()

    def _encode(self, text: str) -> IdArray:
        return self._table[np.frombuffer(text.encode("utf-32-le"), "<u4")]

    def _library(self) -> Any:
        return library_tokenizer({string: index for index, string in enumerate(self._strings)})


class _Decoder:
    def __init__(self, codes: np.ndarray) -> None:
        self._codes = codes

    def push(self, token: int) -> str:
        return chr(self._codes[token])

    def flush(self) -> str:
        return ""


def train(pieces: Iterable[str], config: TokenizerConfig) -> CharacterTokenizer:
    """Keep the commonest code points of the text; see `Tokenizer.train`."""
    counts = np.zeros(_CODE_POINTS, np.int64)
    for piece in pieces:
        found = np.bincount(np.frombuffer(piece.encode("utf-32-le"), "<u4"))
        counts[: len(found)] += found
    if not counts.any():
        raise DataError("The text to learn a vocabulary from is empty; give a file with text.")
    counts[ord("\n")] = 0
    codes = np.flatnonzero(counts >= config.min_count)
    # A stable sort leaves characters that are equally frequent in the order of their code points.
    codes = codes[np.argsort(-counts[codes], kind="stable")][: config.vocab_size - 2]
    strings = [UNKNOWN, "\n", *map(chr, codes.tolist())]
    return CharacterTokenizer(strings, config.normalization, config.lowercase)


def library_tokenizer(vocabulary: Mapping[str, int]) -> Any:
    """The tokenizers library's form of a character vocabulary."""
    library = tokenizers.Tokenizer(models.WordLevel(dict(vocabulary), unk_token=UNKNOWN))
    library.pre_tokenizer = pre_tokenizers.Split(tokenizers.Regex(r"[\s\S]"), "isolated")
    library.decoder = tokenizers.decoders.Fuse()
    return library
