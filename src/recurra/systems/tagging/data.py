"""What a tagger's run keeps of its data: the vocabulary and the sentences as ids."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ...data.source_files import SourceFile, tell_changes
from ...data.spans import broken, convert, repair
from ...data.store import ExampleStore
from ...data.store_writer import StoreWriter
from ...data.tagged import TaggedReader, TaggedSentence
from ...errors import DataError, RunError
from ...files import unwritten
from ...run.directory import Run
from ...shown import tell
from ...training.progress import preparation
from .batches import EncodedSentence
from .config import TaggedDataConfig
from .readers import Reader, opened_reader
from .vocabulary import VOCABULARY, Vocabulary

__all__ = ["SentenceStore", "encoded", "learnt_tags", "opened_readers", "prepare_sentences", "reader"]

TRAIN, VALID = "train", "valid"

_COLUMNS = {"words": "uint32[]", "characters": "uint32[]", "sizes": "uint8[]", "tags": "uint16[]", "text": "text"}

_JOINT = "\x1f"
"""Between the words of a sentence in a store; no word holds it, as it is a control character."""


class SentenceStore:
    """Sentences as ids, in a file.

    Attributes:
        files: that they were read from.
        fingerprint: of the vocabulary that made it.

    Raises:
        RunError: here and from its methods, if the store is damaged or holds something else.
    """

    def __init__(self, path: Path, vocabulary: Vocabulary) -> None:
        self._store = ExampleStore.open(path)
        made_by = self._store.about.get("fingerprint")
        if self._store.columns != _COLUMNS or not isinstance(made_by, str) or not len(self._store):
            raise RunError(f"{path}.json: this is not the header of sentences as ids; prepare them again.")
        self.fingerprint = made_by
        self.files = self._store.sources
        self._path = path
        self._columns = len(vocabulary.tags)
        self._readers = vocabulary.readers
        self._store.require_below("words", vocabulary.word_count)
        self._store.require_below("characters", vocabulary.character_count)
        self._most = np.array([len(tags) for tags in vocabulary.tags.values()])

    def __len__(self) -> int:
        return len(self._store)

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        """Words of each sentence: (sentences,), mapped from a file."""
        return self._store.lengths("words")

    def take(self, chosen: Iterable[int]) -> list[EncodedSentence]:
        """Some sentences."""
        found = self._store.take(chosen)
        return [self._checked(*each) for each in zip(*(found[name] for name in _COLUMNS), strict=True)]

    def words(self, chosen: Iterable[int]) -> list[list[str]]:
        """The words of some sentences as they are written."""
        return [text.split(_JOINT) for text in self._store.take(chosen)["text"]]

    def _checked(self, words: Any, characters: Any, sizes: Any, tags: Any, text: str) -> EncodedSentence:
        count = len(words)
        fits = count and len(sizes) == count and int(sizes.sum()) == len(characters) and (sizes > 0).all()
        if not fits or len(tags) != count * self._columns or (tags.reshape(count, -1) >= self._most).any():
            raise RunError(f"{self._path}.arrow: a sentence's words, characters and tags do not fit; prepare it again.")
        written = text.split(_JOINT) if self._readers else []
        read = tuple(reader.encode(written) for reader in self._readers)
        return EncodedSentence(words, characters, sizes, tags.reshape(count, -1), read)


def reader(paths: Sequence[str], data: TaggedDataConfig, *, need_tags: bool = True) -> TaggedReader:
    """A reader of files in the format that a configuration says."""
    return TaggedReader(paths, data.tags or None, words=data.words, format=data.format, need_tags=need_tags)


def opened_readers(data: TaggedDataConfig) -> list[tuple[Reader, Run]]:
    """The language models that a configuration names, and their runs."""
    named = [(name, False) for name in data.language_models] + [(name, True) for name in data.backward_language_models]
    return [opened_reader(name, backward) for name, backward in named]


def learnt_tags(sentence: TaggedSentence, data: TaggedDataConfig) -> dict[str, list[str]]:
    """The tags of each column as the network learns them, in the scheme that it learns.

    Raises:
        DataError: if a tag breaks its scheme, and is not to be repaired.
    """
    found = {}
    for name, given in sentence.tags.items():
        assert given is not None
        tags = list(given)
        if data.scheme != "none":
            wrong = broken(tags, data.scheme)
            if wrong and data.repair == "error":
                word = sentence.words[wrong[0].place]
                raise DataError(
                    f"{sentence.file}:{sentence.line}: in the sentence that begins here {wrong[0].reason}, at "
                    f"{word!r}; mend the tags, or set data.repair to to-b or to-o."
                )
            tags = repair(tags, data.scheme, data.repair) if wrong else tags
            tags = convert(tags, data.scheme, data.learnt)
        found[name] = tags
    return found


def encoded(vocabulary: Vocabulary, words: Sequence[str], tags: Mapping[str, Sequence[str]] | None) -> EncodedSentence:
    """A sentence as ids; a tag that the vocabulary lacks is -1, and so are all where there are none."""
    ids, spelt = vocabulary.encode(words)
    places = (
        np.full((len(words), len(vocabulary.tags)), -1, np.int64)
        if tags is None
        else np.array([vocabulary.encode_tags(name, tags[name]) for name in vocabulary.tags], np.int64).T
    )
    letters = [letter for word in spelt for letter in word]
    sizes = [len(word) for word in spelt]
    read = tuple(reader.encode(words) for reader in vocabulary.readers)
    rows = [np.array(row, np.int64) for row in (ids, letters, sizes)]
    return EncodedSentence(rows[0], rows[1], rows[2], places, read)


def prepare_sentences(run: Run) -> None:
    """Learn the vocabulary and write the sentences as ids, as far as an earlier start has not done so.

    The sentences are read twice, one by one, so that memory holds the vocabulary alone.

    Raises:
        DataError: if a sentence cannot be used; see `TaggedReader`.
        RunError: if something cannot be written.
    """
    with suppress(RunError):
        vocabulary = Vocabulary.load(run.path)
        stores = [SentenceStore(run.data / name, vocabulary) for name in (TRAIN, VALID)]
        if all(store.fingerprint == _fingerprint(run.path) for store in stores):
            tell_changes(dict.fromkeys(file for store in stores for file in store.files))
            return
    try:
        _prepare(run)
    except OSError as error:
        raise RunError(f"{run.data}: cannot be written {unwritten(error)}.") from error


def _prepare(run: Run) -> None:
    config = run.config
    data, shown = config.data, config.logging.progress
    held = _Held(data.validation_fraction, config.training.seed)
    with preparation("Learning the words", shown):
        train = reader(data.train, data)
        vocabulary = Vocabulary.of(
            (
                (sentence.words, learnt_tags(sentence, data))
                for sentence in train
                if data.valid or not held(sentence.words)
            ),
            config.vocabulary,
            [found for found, _ in opened_readers(data)],
        )
        if not vocabulary.words:
            raise DataError(f"{data.train[0]}: one sentence cannot be parted into training and validation; give more.")
    vocabulary.save(run.path / VOCABULARY)
    made_by = _fingerprint(run.path)
    with preparation("Preparing the sentences", shown):
        if data.valid:
            _write(run.data / TRAIN, train, vocabulary, data, made_by)
            valid = reader(data.valid, data)
            _write(run.data / VALID, valid, vocabulary, data, made_by)
            return
        for name, taken in ((TRAIN, False), (VALID, True)):
            chosen = _Chosen(train, held, taken)
            _write(run.data / name, chosen, vocabulary, data, made_by)


class _Held:
    """Whether a sentence is held out: as its words say, so that equal sentences go together."""

    def __init__(self, fraction: float, seed: int) -> None:
        self._fraction, self._seed = fraction, seed

    def __call__(self, words: Sequence[str]) -> bool:
        return random.Random(f"{self._seed} {_JOINT.join(words)}").random() < self._fraction


class _Chosen:
    """The sentences of a reader that are held out, or those that are not."""

    def __init__(self, sentences: TaggedReader, held: _Held, taken: bool) -> None:
        self._sentences, self._held, self._taken = sentences, held, taken

    def __iter__(self) -> Iterator[TaggedSentence]:
        return (each for each in self._sentences if self._held(each.words) is self._taken)

    @property
    def files(self) -> list[SourceFile]:
        return self._sentences.files


def _write(
    path: Path, sentences: TaggedReader | _Chosen, vocabulary: Vocabulary, data: TaggedDataConfig, made_by: str
) -> None:
    """Write sentences to a store that `SentenceStore` opens.

    Raises:
        DataError: if one has a tag that no training sentence has, or there is none.
    """
    count = 0
    with StoreWriter(path, _COLUMNS) as writer:
        for sentence in sentences:
            tags = learnt_tags(sentence, data)
            if tags.keys() != vocabulary.tags.keys():
                raise DataError(
                    f"{sentence.file}:{sentence.line}: has the tags {', '.join(tags)}, and the sentences before "
                    f"{', '.join(vocabulary.tags)}; name the columns in data.tags."
                )
            made = encoded(vocabulary, sentence.words, tags)
            if (made.tags < 0).any():
                place, column = np.argwhere(made.tags < 0)[0]
                name = list(tags)[column]
                raise DataError(
                    f"{sentence.file}:{sentence.line}: in the sentence that begins here {sentence.words[place]!r} has "
                    f"the tag {tags[name][place]!r} ({name}), which no training sentence has; it cannot be learnt."
                )
            row = {"words": made.words, "characters": made.characters, "sizes": made.sizes, "tags": made.tags.ravel()}
            writer.add(row | {"text": _JOINT.join(sentence.words)})
            count += 1
        if not count:
            raise DataError(
                f"{data.train[0]}: no sentence is left for {path.name}; give more, or change data.validation_fraction."
            )
        writer.finish({"fingerprint": made_by}, list(sentences.files))
    if path.name == TRAIN and any(len(tags) < 2 for tags in vocabulary.tags.values()):
        tell("recurra: all words of the training sentences have the same tag; there is nothing to tell apart.")


def _fingerprint(folder: Path) -> str:
    """Equal for vocabularies that are the same."""
    return sha256((folder / VOCABULARY).read_bytes()).hexdigest()
