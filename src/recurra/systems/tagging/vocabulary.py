"""The words, characters and tags that a tagger knows."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import numpy.typing as npt
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from ...bounds import LARGEST
from ...run.kept import damaged, read_kept, write_kept
from .config import VocabularyConfig
from .readers import Reader

__all__ = ["VOCABULARY", "Vocabulary"]

VOCABULARY = "vocabulary.json"
UNKNOWN = 0
"""The id of a word or character that is not known; the known ones follow."""

_LONGEST = 64
"""Characters of a word that are read: of a longer one its first half and its last."""

_FORMS: dict[str, Literal["NFC", "NFKC"]] = {"nfc": "NFC", "nfkc": "NFKC"}

_Text = Annotated[str, Field(min_length=1)]


@dataclass(frozen=True, config=ConfigDict(extra="forbid", strict=True))
class Vocabulary:
    """What a tagger knows.

    Attributes:
        words: all words of the training sentences as they are looked up, the most frequent first.
        counts: how often each occurs there.
        min_count: rarer words have no embedding.
        lowercase, normalization: how a word is looked up.
        characters: of the training words.
        tags: of each column, by its name.
        readers: the language models that are read along.
    """

    words: tuple[_Text, ...]
    counts: tuple[Annotated[int, Field(ge=1, le=LARGEST)], ...]
    min_count: Annotated[int, Field(ge=1)]
    lowercase: bool
    normalization: str
    characters: tuple[_Text, ...]
    tags: dict[str, tuple[_Text, ...]]
    readers: tuple[Reader, ...] = ()

    @classmethod
    def of(
        cls,
        sentences: Iterable[tuple[Sequence[str], Mapping[str, Sequence[str]]]],
        config: VocabularyConfig,
        readers: Sequence[Reader] = (),
        besides: Mapping[str, str] | None = None,
    ) -> Vocabulary:
        """What is in sentences.

        Args:
            sentences: of each its words, and the tags of each column.
            config: how words are looked up.
            readers: the language models that are read along.
            besides: a tag that a column has even if no sentence has it.
        """
        plain = cls((), (), config.min_count, config.lowercase, config.normalization, (), {})
        words: Counter[str] = Counter()
        characters: Counter[str] = Counter()
        tags: dict[str, set[str]] = {}
        for given, columns in sentences:
            normal = [plain.normal(word) for word in given]
            words.update(map(plain.key, normal))
            characters.update("".join(normal))
            for name, column in columns.items():
                tags.setdefault(name, set()).update(column)
        ordered = sorted(words.items(), key=lambda item: (-item[1], item[0]))
        return cls(
            tuple(word for word, _ in ordered),
            tuple(count for _, count in ordered),
            config.min_count,
            config.lowercase,
            config.normalization,
            tuple(sorted(characters)),
            {name: tuple(sorted(found | {(besides or {}).get(name, "")} - {""})) for name, found in tags.items()},
            tuple(readers),
        )

    @classmethod
    def load(cls, folder: Path) -> Vocabulary:
        """Read what `save` wrote into a run.

        Raises:
            RunError: if it is missing or damaged.
        """
        path = folder / VOCABULARY
        found = read_kept(Vocabulary, path)
        rows = [found.words, found.characters, *found.tags.values()]
        if (
            len(found.words) != len(found.counts)
            or any(len(set(row)) < len(row) for row in rows)
            or not (found.words and found.tags and all(found.tags.values()))
            or found.normalization not in (*_FORMS, "none")
            or any(one < other for one, other in zip(found.counts, found.counts[1:], strict=False))
        ):
            raise damaged(path, "its words, counts and tags do not fit together")
        return found

    def save(self, path: Path) -> None:
        """Write it as one JSON file."""
        write_kept(self, path)

    @property
    def word_count(self) -> int:
        """Embeddings of words that a network needs, that of unknown words included."""
        return len(self.known) + 1

    @property
    def character_count(self) -> int:
        """The same for characters."""
        return len(self.characters) + 1

    @cached_property
    def known(self) -> tuple[str, ...]:
        """The words with an embedding of their own, in the order of their ids from 1."""
        most = next((place for place, count in enumerate(self.counts) if count < self.min_count), len(self.words))
        return self.words[:most]

    @cached_property
    def seen(self) -> dict[str, int]:
        """How often each word, as it is looked up, occurs in the training sentences."""
        return dict(zip(self.words, self.counts, strict=True))

    def has_seen(self, word: str) -> bool:
        """Whether a training sentence has this word, as it is looked up."""
        return self.key(self.normal(word)) in self.seen

    def normal(self, word: str) -> str:
        """A word in the Unicode normal form of the vocabulary."""
        return word if self.normalization == "none" else unicodedata.normalize(_FORMS[self.normalization], word)

    def key(self, normal: str) -> str:
        """How a word of this normal form is looked up."""
        return normal.lower() if self.lowercase else normal

    def encode(self, words: Sequence[str]) -> tuple[list[int], list[list[int]]]:
        """The id of each word, and the ids of its characters."""
        normal = [self.normal(word) for word in words]
        ids = [self._word_ids.get(self.key(word), UNKNOWN) for word in normal]
        return ids, [[self._character_ids.get(letter, UNKNOWN) for letter in _shortened(word)] for word in normal]

    def encode_tags(self, column: str, tags: Sequence[str]) -> list[int]:
        """The places of tags; -1 for one that no training sentence has."""
        places = self._tag_places[column]
        return [places.get(tag, -1) for tag in tags]

    @cached_property
    def occurrences(self) -> npt.NDArray[np.float32]:
        """Occurrences of each word by its id; 0 of the unknown word."""
        return np.array([0, *self.counts[: len(self.known)]], np.float32)

    @cached_property
    def _word_ids(self) -> dict[str, int]:
        return {word: place for place, word in enumerate(self.known, start=1)}

    @cached_property
    def _character_ids(self) -> dict[str, int]:
        return {letter: place for place, letter in enumerate(self.characters, start=1)}

    @cached_property
    def _tag_places(self) -> dict[str, dict[str, int]]:
        return {name: {tag: place for place, tag in enumerate(tags)} for name, tags in self.tags.items()}


def _shortened(word: str) -> str:
    return word if len(word) <= _LONGEST else word[: _LONGEST // 2] + word[-_LONGEST // 2 :]
