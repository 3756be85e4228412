"""What a tagger's run keeps of its data: the vocabulary and the sentences as ids."""

from __future__ import annotations

import json
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from hashlib import blake2b, sha256
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ...data.pair_store import held_sources
from ...data.source_files import tell_changes
from ...data.spans import broken, convert, repair
from ...data.store import ExampleStore
from ...data.store_writer import StoreWriter
from ...data.tagged import TaggedReader, TaggedSentence, format_of
from ...data.text import expand_paths, name_of
from ...errors import DataError, RunError
from ...files import unwritten
from ...run.checkpoint import has_checkpoint
from ...run.directory import Run
from ...shown import tell
from ...training.progress import preparation
from .batches import EncodedSentence
from .config import TaggedDataConfig
from .readers import Reader, opened_reader
from .vocabulary import VOCABULARY, Vocabulary

__all__ = ["SentenceStore", "encoded", "learnt_tags", "opened_readers", "prepare_sentences", "reader", "whole_tags"]

TRAIN, VALID = "train", "valid"

_COLUMNS = {"words": "uint32[]", "characters": "uint32[]", "sizes": "uint8[]", "tags": "int32[]", "text": "text"}


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
        """Some sentences; a tag that no training sentence has is -1."""
        found = self._store.take(chosen)
        return [self._checked(*each) for each in zip(*(found[name] for name in _COLUMNS), strict=True)]

    def words(self, chosen: Iterable[int]) -> list[list[str]]:
        """The words of some sentences as they are written."""
        return [json.loads(text) for text in self._store.take(chosen)["text"]]

    def _checked(self, words: Any, characters: Any, sizes: Any, tags: Any, text: str) -> EncodedSentence:
        count = len(words)
        fits = count and len(sizes) == count and int(sizes.sum()) == len(characters) and (sizes > 0).all()
        fits = fits and len(tags) == count * self._columns
        table = tags.reshape(count, -1) if fits else tags
        if not fits or (table >= self._most).any() or table.min() < -1:
            raise RunError(f"{self._path}.arrow: a sentence's words, characters and tags do not fit; prepare it again.")
        written = json.loads(text) if self._readers else []
        read = tuple(reader.encode(written) for reader in self._readers)
        return EncodedSentence(words, characters, sizes, table, read)


def reader(
    paths: Sequence[str], data: TaggedDataConfig, tags: Sequence[str] | None = None, *, need_tags: bool = True
) -> TaggedReader:
    """A reader of files in the format that a configuration says.

    Args:
        tags: columns; None: those of the configuration.
    """
    return TaggedReader(paths, tags or data.tags or None, words=data.words, format=data.format, need_tags=need_tags)


def opened_readers(data: TaggedDataConfig) -> list[tuple[Reader, Run]]:
    """The language models that a configuration names, and their runs."""
    named = [(name, False) for name in data.language_models] + [(name, True) for name in data.backward_language_models]
    return [opened_reader(name, backward) for name, backward in named]


def learnt_tags(sentence: TaggedSentence, data: TaggedDataConfig) -> dict[str, list[str]]:
    """The tags of each column as the network learns them, those of spans in the scheme that it learns.

    Raises:
        DataError: if a tag breaks its scheme, and is not to be repaired.
    """
    found = {}
    for name, given in sentence.tags.items():
        assert given is not None
        tags = list(given)
        if data.marks_spans(name):
            tags = convert(whole_tags(sentence, tags, data), data.scheme, data.learnt(name))
        found[name] = tags
    return found


def whole_tags(sentence: TaggedSentence, tags: list[str], data: TaggedDataConfig) -> list[str]:
    """Tags that keep to their scheme, repaired if need be."""
    wrong = broken(tags, data.scheme)
    if not wrong:
        return tags
    where = f"{sentence.file}:{sentence.line}: in the sentence that begins here"
    if data.repair == "error":
        raise DataError(
            f"{where} {wrong[0].reason}, at {sentence.words[wrong[0].place]!r}; mend the tags, set data.repair to to-b "
            "or to-o, or name the columns that mark spans in data.span_columns."
        )
    try:
        return repair(tags, data.scheme, data.repair)
    except DataError as error:
        raise DataError(f"{where} tags cannot be repaired: {error}") from error


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

    The sentences are read several times, one by one, so that memory holds the vocabulary and a hash of each sentence.

    Raises:
        DataError: if a sentence cannot be used; see `TaggedReader`.
        RunError: if something cannot be written, or a training that has begun learnt other words or tags.
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
    _require_one_format(data)
    with preparation("Reading the sentences", shown):
        columns, hashes = _looked_through(reader(data.train, data))
        train = reader(data.train, data, columns)
        held = np.zeros(len(hashes), bool)
        if data.valid:
            valid = reader(data.valid, data, columns)
            _, others = _looked_through(valid)
            both = int(np.isin(others, hashes).sum())
            if both:
                tell(
                    f"recurra: {both:,} of {len(others):,} validation sentences stand among the training sentences too."
                )
        else:
            held = held_sources(hashes, data.validation_fraction, config.training.seed)
            if not held.any():
                raise DataError(
                    f"{data.train[0]}: one sentence cannot be parted into training and validation; give more."
                )
    with preparation("Learning the words", shown):
        vocabulary = Vocabulary.of(
            ((sentence.words, learnt_tags(sentence, data)) for sentence in _chosen(train, ~held)),
            config.vocabulary,
            [found for found, _ in opened_readers(data)],
            # Every sentence has a legal row of tags then, however short it is.
            {name: "O" for name in columns if data.marks_spans(name)},
        )
        _keep(vocabulary, run)
    with preparation("Preparing the sentences", shown):
        _write(run.data / TRAIN, train, ~held, vocabulary, run)
        _write(run.data / VALID, valid if data.valid else train, None if data.valid else held, vocabulary, run)


def _require_one_format(data: TaggedDataConfig) -> None:
    """Raise DataError if files have different formats and no columns are named: each format has other usual ones."""
    if data.tags or data.format is not None:
        return
    formats: dict[str, str] = {}
    for path in map(name_of, expand_paths([*data.train, *data.valid])):
        formats.setdefault(format_of(path), path)
    if len(formats) > 1:
        said = " and ".join(f"{path} ({name})" for name, path in formats.items())
        raise DataError(f"{said} have different formats, in which columns have other names; give files of one format.")


def _looked_through(sentences: TaggedReader) -> tuple[list[str], npt.NDArray[np.uint64]]:
    """The names of the tag columns, each that can be numbered by its number, and a hash of each sentence's words."""
    hashes = array("Q")
    columns: list[str] = []
    for sentence in sentences:
        if not columns:
            # The last column of another file may be another one.
            places = getattr(sentence.format, "places", {})
            columns = [str(places[name] + 1) if name == "last" else name for name in sentence.tags]
        text = json.dumps(sentence.words)
        hashes.append(int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "little"))
    return columns, np.frombuffer(hashes, np.uint64)


def _chosen(sentences: TaggedReader, taken: npt.NDArray[np.bool_] | None) -> Iterator[TaggedSentence]:
    return (each for place, each in enumerate(sentences) if taken is None or taken[place])


def _keep(vocabulary: Vocabulary, run: Run) -> None:
    """Write the vocabulary; one that a training has begun with must be the same.

    Raises:
        RunError: if it is another.
    """
    path = run.path / VOCABULARY
    if has_checkpoint(run.checkpoints):
        if not path.is_file() or Vocabulary.load(run.path) != vocabulary:
            raise RunError(
                f"{path}: the files have other words or tags now, or it was changed, and what was learnt would mean "
                "something else; restore them to resume, or train in a new folder."
            )
        return
    vocabulary.save(path)


def _write(
    path: Path, sentences: TaggedReader, taken: npt.NDArray[np.bool_] | None, vocabulary: Vocabulary, run: Run
) -> None:
    """Write sentences to a store that `SentenceStore` opens, and say how many tags of theirs nothing teaches."""
    words = unknown = 0
    data = run.config.data
    with StoreWriter(path, _COLUMNS) as writer:
        for sentence in _chosen(sentences, taken):
            made = encoded(vocabulary, sentence.words, learnt_tags(sentence, data))
            row = {"words": made.words, "characters": made.characters, "sizes": made.sizes, "tags": made.tags.ravel()}
            writer.add(row | {"text": json.dumps(sentence.words)})
            words += len(made.words)
            unknown += int((made.tags < 0).any(axis=1).sum())
        writer.finish({"fingerprint": _fingerprint(run.path)}, sentences.files)
    if unknown:
        tell(
            f"recurra: {unknown:,} of {words:,} words ({path.name}) have tags that no training sentence has; they "
            "count as wrong, and their sentences are left out of the loss."
        )
    if path.name == TRAIN and any(len(tags) < 2 for tags in vocabulary.tags.values()):
        tell("recurra: all words of the training sentences have the same tag; there is nothing to tell apart.")


def _fingerprint(folder: Path) -> str:
    """Equal for vocabularies that are the same."""
    return sha256((folder / VOCABULARY).read_bytes()).hexdigest()
