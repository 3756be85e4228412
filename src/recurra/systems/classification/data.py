"""What a classifier's run keeps of its data: the tokenizer, the labels, the tokenised texts."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from hashlib import blake2b, sha256
from itertools import compress
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ...data.labelled import Labelled, LabelledReader
from ...data.pair_store import held_sources
from ...data.sentences import SentenceTokenizer
from ...data.source_files import SourceFile, tell_changes
from ...data.store import ExampleStore
from ...data.store_writer import StoreWriter
from ...data.tokenizer import Tokenizer
from ...errors import DataError, RunError
from ...files import unwritten
from ...run.checkpoint import has_checkpoint
from ...run.directory import Run
from ...shown import tell
from ...training.progress import preparation
from .config import LabelledDataConfig
from .labels import LABELS, Labels, Targets

__all__ = ["TOKENIZER", "TextStore", "load_tokenizer", "prepare_texts", "reader"]

TOKENIZER = "tokenizer.json"
TRAIN, VALID = "train", "valid"
TEXTS = ("texts", "texts-valid")

_SEVERAL = "\n"
"""Between labels in a store of texts; no label holds a line end."""


class TextStore:
    """Tokenised texts with their targets, in a file.

    Attributes:
        files: that the texts were read from.
        fingerprint: of the tokenizer that made it.
        shares: the share of the training texts that has each label.

    Raises:
        RunError: here and from its methods, if the store is damaged or holds something else.
    """

    def __init__(self, path: Path, vocab_size: int, labels: Labels) -> None:
        self._store = ExampleStore.open(path)
        kinds, made_by = self._store.columns, self._store.about.get("fingerprint")
        shares = self._store.about.get("shares")
        if (
            kinds != _columns(vocab_size)
            or not isinstance(made_by, str)
            or not len(self._store)
            or not isinstance(shares, list)
            or len(shares) != labels.outputs
            or not all(isinstance(share, float) and 0 <= share <= 1 for share in shares)
        ):
            raise RunError(f"{path}.json: this is not the header of tokenised texts; prepare them again.")
        self.fingerprint, self.shares = made_by, shares
        self.files = self._store.sources
        self._store.require_below("tokens", vocab_size)
        self._labels = labels

    def __len__(self) -> int:
        return len(self._store)

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        """Tokens of each text: (texts,), mapped from a file."""
        return self._store.lengths("tokens")

    def take(self, chosen: Iterable[int]) -> tuple[list[npt.NDArray[Any]], Targets]:
        """Token ids and targets of texts."""
        found = self._store.take(chosen)
        given = [_unpacked(labels, number) for labels, number in zip(found["labels"], found["number"], strict=True)]
        return found["tokens"], self._labels.targets(given)

    def examples(self, chosen: Iterable[int]) -> list[tuple[str, tuple[str, ...], float]]:
        """Texts as they were written, each with its labels and number."""
        found = self._store.take(chosen)
        return [
            (text, *_unpacked(labels, number))
            for text, labels, number in zip(found["text"], found["labels"], found["number"], strict=True)
        ]


def reader(paths: Sequence[str], data: LabelledDataConfig) -> LabelledReader:
    """A reader of files in the form that a configuration says."""
    return LabelledReader(
        paths,
        data.kind,
        form=data.form,
        label=data.label,
        text=data.text,
        header=data.header,
        separator=data.label_separator,
    )


def load_tokenizer(run_dir: Path) -> SentenceTokenizer:
    """The tokenizer of a run.

    Raises:
        RunError: if it is missing or damaged.
    """
    return SentenceTokenizer(Tokenizer.load(run_dir / TOKENIZER))


def prepare_texts(run: Run) -> None:
    """Learn the labels and the tokens, and tokenise the texts, as far as an earlier start has not done so.

    Memory is bounded whatever the number of texts. Where an earlier start has done all, no text is read, and it is said
    which files are no longer those that were read.

    Raises:
        DataError: if a text cannot be used; see `LabelledReader`.
        RunError: if something cannot be written.
    """
    with suppress(RunError):
        labels, tokenizer = Labels.load(run.path), load_tokenizer(run.path)
        stores = [TextStore(run.data / name, tokenizer.vocab_size, labels) for name in (TRAIN, VALID)]
        if all(store.fingerprint == _fingerprint(run.path, tokenizer) for store in stores):
            tell_changes(dict.fromkeys(file for store in stores for file in store.files))
            return
    try:
        _prepare(run)
    except OSError as error:
        raise RunError(f"{run.data}: cannot be written {unwritten(error)}.") from error
    finally:
        for name in TEXTS:
            for path in run.data.glob(f"{name}.*"):
                path.unlink(missing_ok=True)


def _prepare(run: Run) -> None:
    config, folder = run.config, run.data
    data, shown = config.data, config.logging.progress
    with preparation("Reading the texts", shown):
        train = reader(data.train, data)
        hashes = _keep(folder / TEXTS[0], train)
        texts = ExampleStore.open(folder / TEXTS[0])
        held = np.zeros(len(texts), bool)
        files = train.files
        if data.valid:
            valid_reader = reader(data.valid, data)
            valid_hashes = _keep(folder / TEXTS[1], valid_reader)
            valid, taken = ExampleStore.open(folder / TEXTS[1]), np.ones(len(valid_hashes), bool)
            files = [*files, *valid_reader.files]
            both = int(np.isin(valid_hashes, hashes).sum())
            if both:
                tell(f"recurra: {both:,} of {len(valid):,} validation texts stand among the training texts too.")
        else:
            held = held_sources(hashes, data.validation_fraction, config.training.seed)
            if not held.any():
                raise DataError(
                    f"{data.train[0]}: one text cannot be parted into training and validation; give more texts."
                )
            _teach_every_label(texts, hashes, held)
            valid, taken = texts, held
    labels, shares = Labels.of(data.kind, _labelled(texts, ~held))
    _tell_unknown(labels, valid, taken)
    _keep_labels(labels, run)
    path = run.path / TOKENIZER
    if path.is_file():
        tokenizer = load_tokenizer(run.path)
    else:
        with preparation("Learning the tokens", shown):
            tokenizer = SentenceTokenizer.train((each.text for each in _labelled(texts, ~held)), config.tokenizer)
        tokenizer.tokenizer.save(path)
    with preparation("Tokenising the texts", shown):
        for name, kept, chosen in ((TRAIN, texts, ~held), (VALID, valid, taken)):
            about = {"fingerprint": _fingerprint(run.path, tokenizer), "shares": shares}
            cut = _tokenise(folder / name, kept, chosen, tokenizer, data.max_length, about, files)
            if cut and shown:
                tell(f"recurra: {cut:,} texts ({name}) are longer than data.max_length and are read up to there.")


def _keep(path: Path, examples: Iterable[Labelled]) -> npt.NDArray[np.uint64]:
    """Write texts as they were read to a store; a hash of each text without its white space, (texts,)."""
    hashes = array("Q")
    with StoreWriter(path, _TEXT_COLUMNS) as writer:
        for text, labels, number, line, file in examples:
            bare = " ".join(text.split())
            hashes.append(int.from_bytes(blake2b(bare.encode(), digest_size=8).digest(), "little"))
            row = {"text": bare, "labels": _SEVERAL.join(labels), "number": 0.0 if number is None else number}
            writer.add(row | {"line": line, "file": file})
        writer.finish({})
    return np.frombuffer(hashes, np.uint64)


_TEXT_COLUMNS = {"text": "text", "labels": "text", "number": "float64", "line": "int64", "file": "text"}


def _columns(vocab_size: int) -> dict[str, str]:
    tokens = "uint16[]" if vocab_size <= 1 << 16 else "uint32[]"
    return {"tokens": tokens, "text": "text", "labels": "text", "number": "float64"}


def _unpacked(labels: str, number: float) -> tuple[tuple[str, ...], float]:
    return tuple(labels.split(_SEVERAL)) if labels else (), float(number)


def _labelled(texts: ExampleStore, chosen: npt.NDArray[np.bool_]) -> Iterator[Labelled]:
    for part, keep in texts.chosen_parts(chosen):
        rows = (compress(part[name], keep) for name in _TEXT_COLUMNS)
        for text, labels, number, line, file in zip(*rows, strict=True):
            yield Labelled(text, *_unpacked(labels, number), int(line), file)


def _teach_every_label(texts: ExampleStore, hashes: npt.NDArray[np.uint64], held: npt.NDArray[np.bool_]) -> None:
    """Give training a text of each label that only held-out texts would have, and all texts equal to it."""
    taught = {label for example in _labelled(texts, ~held) for label in example.labels}
    back = []
    for place, example in zip(np.flatnonzero(held), _labelled(texts, held), strict=True):
        if not taught.issuperset(example.labels):
            taught.update(example.labels)
            back.append(hashes[place])
    if back:
        held[np.isin(hashes, np.array(back, np.uint64))] = False


def _tell_unknown(labels: Labels, valid: ExampleStore, taken: npt.NDArray[np.bool_]) -> None:
    """Say how many validation texts have a label that no training text has.

    Raises:
        DataError: if all of them have, or none is left.
    """
    names = set(labels.names)
    total = unknown = 0
    first = ""
    for example in _labelled(valid, taken):
        strange = next((label for label in example.labels if label not in names), None)
        total += 1
        if strange is not None:
            unknown += 1
            first = first or f"{example.file}:{example.line} has {strange!r}"
    if not total:
        raise DataError("No text is left to validate on that has a label of the training texts; give more texts.")
    if unknown == total:
        raise DataError(f"All {total:,} validation texts have labels that no training text has: {first}; give others.")
    if unknown:
        tell(
            f"recurra: {unknown:,} of {total:,} validation texts have labels that no training text has: {first}. They "
            "count as wrong, and are left out of the loss."
        )


def _keep_labels(labels: Labels, run: Run) -> None:
    """Write the labels; those that a training has begun with must be the same.

    Raises:
        RunError: if they are others.
    """
    path = run.path / LABELS
    if not has_checkpoint(run.checkpoints):
        labels.save(path)
    elif not path.is_file() or Labels.load(run.path) != labels:
        raise RunError(
            f"{path}: the files have other labels or numbers now, or it was changed, and what was learnt would mean "
            "something else; restore them to resume, or train in a new folder."
        )


def _fingerprint(folder: Path, tokenizer: SentenceTokenizer) -> str:
    """Equal for tokenizers and labels that are the same."""
    return f"{tokenizer.tokenizer.fingerprint} {sha256((folder / LABELS).read_bytes()).hexdigest()}"


def _tokenise(
    path: Path,
    texts: ExampleStore,
    chosen: npt.NDArray[np.bool_],
    tokenizer: SentenceTokenizer,
    max_length: int,
    about: dict[str, Any],
    files: Sequence[SourceFile],
) -> int:
    """Write the chosen texts as ids to a store that `TextStore` opens; how many had to be cut."""
    cut = 0
    with StoreWriter(path, _columns(tokenizer.vocab_size)) as writer:
        for part, keep in texts.chosen_parts(chosen):
            kept = {name: list(compress(part[name], keep)) for name in ("text", "labels", "number")}
            rows = tokenizer.encode_all(kept["text"])
            ids = [rows.values[start:stop] for start, stop in zip(rows.starts[:-1], rows.starts[1:], strict=True)]
            cut += sum(len(each) > max_length for each in ids)
            if ids:
                writer.extend({"tokens": [each[:max_length] for each in ids], **kept})
        writer.finish(about, list(files))
    return cut
