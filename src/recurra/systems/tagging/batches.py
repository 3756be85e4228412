"""Batches of sentences as ids of words and characters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ...data.moving import moved

__all__ = ["NO_TAG", "EncodedSentence", "SentenceBatch", "collate"]

NO_TAG = -1
"""In the place of a tag in the padding, and of one that the vocabulary lacks."""


class EncodedSentence(NamedTuple):
    """A sentence of T words.

    Attributes:
        words: (T,) ids.
        characters: the ids of all words' characters one after another.
        sizes: (T,), how many characters each word has.
        tags: (T, C) places of tags, of C columns.
        read: for each language model that is read along its tokens and where each word ends in them.
    """

    words: npt.NDArray[Any]
    characters: npt.NDArray[Any]
    sizes: npt.NDArray[Any]
    tags: npt.NDArray[Any]
    read: tuple[tuple[npt.NDArray[Any], npt.NDArray[Any]], ...] = ()


class SentenceBatch(NamedTuple):
    """Sentences side by side, time first; what lies beyond a length is padding.

    A word that stands in a batch several times is spelt once: its characters are read once, for all its places.

    Attributes:
        words: (T, B) int64 ids.
        spelling: (T, B) int64, which column of `characters` spells each word.
        characters: (L, N) int64 ids of the characters of N different spellings.
        sizes: (N,) int64 on the CPU, how many characters each has.
        lengths: (B,) int64 on the CPU.
        tags: (T, B, C) int64, `NO_TAG` in the padding.
        read: for each language model that is read along its tokens (C, B) and where words end in them (T, B).
    """

    words: Tensor
    spelling: Tensor
    characters: Tensor
    sizes: Tensor
    lengths: Tensor
    tags: Tensor
    read: tuple[tuple[Tensor, Tensor], ...] = ()
    rate_scale: float = 1.0

    @property
    def units(self) -> int:
        """Words."""
        return int(self.lengths.sum())

    @property
    def weight(self) -> int:
        """Words."""
        return int(self.lengths.sum())

    def to(self, device: torch.device) -> SentenceBatch:
        """The batch on a device; lengths and sizes stay on the CPU, as packing needs them."""
        words, spelling, characters, tags = (
            moved(each, device) for each in (self.words, self.spelling, self.characters, self.tags)
        )
        read = tuple((moved(tokens, device), moved(ends, device)) for tokens, ends in self.read)
        return self._replace(words=words, spelling=spelling, characters=characters, tags=tags, read=read)


def collate(sentences: Sequence[EncodedSentence]) -> SentenceBatch:
    """Sentences as one batch."""
    lengths = np.array([len(each.words) for each in sentences], np.int64)
    shape = (int(lengths.max()), len(sentences))
    words, spelling = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
    tags = np.full((*shape, sentences[0].tags.shape[1]), NO_TAG, np.int64)
    spellings: dict[bytes, int] = {}
    spelt: list[npt.NDArray[Any]] = []
    for row, sentence in enumerate(sentences):
        words[: lengths[row], row], tags[: lengths[row], row] = sentence.words, sentence.tags
        stops = np.cumsum(sentence.sizes, dtype=np.int64)
        for place, (size, stop) in enumerate(zip(sentence.sizes, stops, strict=True)):
            letters = sentence.characters[stop - size : stop]
            found = spellings.setdefault(letters.tobytes(), len(spelt))
            if found == len(spelt):
                spelt.append(letters)
            spelling[place, row] = found
    sizes = np.array([len(each) for each in spelt], np.int64)
    characters = _side_by_side(spelt)
    made = torch.from_numpy
    read = tuple(
        (made(_side_by_side([tokens for tokens, _ in one])), made(_side_by_side([ends for _, ends in one])))
        for one in zip(*(each.read for each in sentences), strict=True)
    )
    return SentenceBatch(made(words), made(spelling), made(characters), made(sizes), made(lengths), made(tags), read)


def _side_by_side(rows: Sequence[npt.NDArray[Any]]) -> npt.NDArray[np.int64]:
    """Rows as the columns of a table, with zeros below the shorter ones."""
    table = np.zeros((max(map(len, rows)), len(rows)), np.int64)
    for column, row in enumerate(rows):
        table[: len(row), column] = row
    return table
