"""What a translation run keeps beside its weights: tokenizers, tokenised training pairs, validation pairs."""

from __future__ import annotations

import json
from collections.abc import Iterable
from itertools import chain
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ...data.pair_corpus import ParallelCorpus, describe_dropped, fingerprint
from ...data.pair_store import PairStore, held_sources, keep_texts, sentences, tokenise
from ...data.parallel import Pair, PairReader
from ...data.sentences import SentenceTokenizer
from ...data.source_files import tell_changes
from ...data.store import ExampleStore
from ...data.tokenizer import Tokenizer
from ...errors import DataError, RunError
from ...files import regular, unwritten
from ...run.directory import Run
from ...shown import tell
from ...strict_json import read_json
from ...training.progress import preparation
from .config import TranslationConfig
from .toy_pairs import toy_pairs

__all__ = ["load_tokenizers", "named_tokenizers", "open_pairs", "prepare_pairs"]

JOINT = "tokenizer.json"
SOURCE, TARGET = "tokenizer.source.json", "tokenizer.target.json"
TEXTS = "texts"
TRAIN = "train"
VALID = "valid.jsonl"
DROPPED = "dropped.json"

TOY_PAIRS = 20_000
TOY_VALID = 1_000


def load_tokenizers(run_dir: Path) -> tuple[SentenceTokenizer, SentenceTokenizer]:
    """The tokenizers of source and target; the same one where the vocabulary is joint.

    Raises:
        RunError: if they are missing or damaged.
    """
    if (run_dir / JOINT).is_file():
        joint = SentenceTokenizer(Tokenizer.load(run_dir / JOINT))
        return joint, joint
    for name in (SOURCE, TARGET):
        if not (run_dir / name).is_file():
            raise RunError(f"{run_dir}: lacks {name}; its training has hardly begun or the file was lost.")
    return SentenceTokenizer(Tokenizer.load(run_dir / SOURCE)), SentenceTokenizer(Tokenizer.load(run_dir / TARGET))


def named_tokenizers(source: SentenceTokenizer, target: SentenceTokenizer) -> dict[str, Tokenizer]:
    """The tokenizers of both sides under the names of their files; one where the vocabulary is joint."""
    if source.tokenizer is target.tokenizer:
        return {JOINT: source.tokenizer}
    return {SOURCE: source.tokenizer, TARGET: target.tokenizer}


def prepare_pairs(run: Run) -> None:
    """Learn the tokenizers and tokenise the pairs into the run, as far as an earlier start has not done so.

    Memory is bounded whatever the number of training pairs. Where an earlier start has done all, no text is read, and
    it is said which files are no longer those that were read.

    Raises:
        DataError: if a text cannot be used; see `recurra.data.parallel.PairReader`.
        RunError: if something cannot be written.
    """
    prepared = _prepared(run)
    if prepared is not None:
        tell_changes(prepared.files)
        return
    folder = run.data
    try:
        _prepare(run.config, run.path, folder)
    except OSError as error:
        raise RunError(f"{folder}: cannot be written {unwritten(error)}.") from error
    finally:
        for path in folder.glob(f"{TEXTS}.*"):
            path.unlink(missing_ok=True)


def _prepare(config: TranslationConfig, run_dir: Path, folder: Path) -> None:
    shown, data = config.logging.progress, config.data
    with preparation("Reading the pairs", shown):
        train, valid = _readers(config)
        hashes = keep_texts(folder / TEXTS, train)
        texts = ExampleStore.open(folder / TEXTS)
        held = np.zeros(len(texts), bool)
        if valid is None:
            held = held_sources(hashes, data.validation_fraction, config.training.seed)
            if not held.any():
                raise DataError(
                    f"{data.pairs or data.source}: one source cannot be parted into training and validation; give more."
                )
            valid_count = _write_valid(
                folder, map(Pair, *(sentences(texts, held, side) for side in ("source", "target")))
            )
        else:
            valid_count = _write_valid(folder, valid)
    try:
        tokenizers = load_tokenizers(run_dir)
    except RunError:
        with preparation("Learning the tokens", shown):
            tokenizers = _learn(config, texts, ~held)
        for name, tokenizer in named_tokenizers(*tokenizers).items():
            tokenizer.save(run_dir / name)
    readers = [reader for reader in (train, valid) if isinstance(reader, PairReader)]
    files = [file for reader in readers for file in reader.files]
    empty, valid_empty = (each.dropped if isinstance(each, PairReader) else 0 for each in (train, valid))
    with preparation("Tokenising the pairs", shown):
        filtered = tokenise(folder / TRAIN, texts, ~held, tokenizers, data.max_length, data.max_length_ratio, files)
    counts = {"empty": empty, **filtered}
    total = int((~held).sum()) + empty
    (folder / DROPPED).write_text(
        json.dumps({"pairs": total, "kept": total - sum(counts.values()), **counts, "valid_empty": valid_empty}) + "\n",
        encoding="utf-8",
    )
    said = describe_dropped(counts, total)
    if said and shown:
        tell(said)
    if valid_empty and shown:
        tell(f"{valid_empty:,} of {valid_count + valid_empty:,} validation pairs are left out: with an empty side.")


def _write_valid(folder: Path, pairs: Iterable[Pair]) -> int:
    count = 0
    with open(folder / VALID, "w", encoding="utf-8") as file:
        for pair in pairs:
            file.write(json.dumps(pair._asdict(), ensure_ascii=False) + "\n")
            count += 1
    return count


def open_pairs(run: Run) -> tuple[ParallelCorpus | PairStore, list[Pair]]:
    """The training and validation pairs that `prepare_pairs` wrote.

    Raises:
        RunError: if they are missing or damaged.
    """
    folder = run.data
    # Runs that were prepared before there was a store have an archive of arrays.
    archive = folder / f"{TRAIN}.npz"
    held_whole = archive.exists() and not (folder / f"{TRAIN}.json").exists()
    corpus = ParallelCorpus.open(archive) if held_whole else PairStore(folder / TRAIN)
    path = folder / VALID
    try:
        lines = regular(path).read_text(encoding="utf-8").split("\n")[:-1]
        pairs = [Pair(**read_json(line)) for line in lines]
        if not pairs:
            raise ValueError("there are none")
        # What cannot be written as UTF-8 has half of a surrogate pair in it; UnicodeEncodeError is a ValueError.
        for side in (side for pair in pairs for side in pair):
            if not isinstance(side, str):
                raise ValueError("a side is no text")
            side.encode()
        return corpus, pairs
    except (OSError, ValueError, TypeError) as error:
        raise RunError(f"{path}: the validation pairs cannot be read ({error}); prepare them again.") from error


def _prepared(run: Run) -> ParallelCorpus | PairStore | None:
    try:
        corpus, _ = open_pairs(run)
        return corpus if corpus.fingerprint == fingerprint(*load_tokenizers(run.path)) else None
    except RunError:
        return None


def _readers(config: TranslationConfig) -> tuple[PairReader | list[Pair], PairReader | list[Pair] | None]:
    """Training and validation pairs; None where these are to be drawn from those."""
    data, seed = config.data, config.training.seed
    if data.toy != "none":
        made = toy_pairs(data.toy, TOY_PAIRS, seed)
        return made, toy_pairs(data.toy, TOY_VALID, seed + 1_000_000, frozenset(made))
    columns, keys, empty = data.columns, data.keys, data.empty_lines
    train = PairReader(data.source, data.target, data.pairs, columns=columns, keys=keys, empty=empty)
    if data.valid_source is None and data.valid_pairs is None:
        return train, None
    valid = PairReader(data.valid_source, data.valid_target, data.valid_pairs, columns=columns, keys=keys, empty=empty)
    return train, valid


def _learn(
    config: TranslationConfig, texts: ExampleStore, chosen: npt.NDArray[np.bool_]
) -> tuple[SentenceTokenizer, SentenceTokenizer]:
    sides = [sentences(texts, chosen, side) for side in ("source", "target")]
    if config.tokenizer.joint:
        joint = SentenceTokenizer.train(chain(*sides), config.tokenizer)
        return joint, joint
    source, target = (SentenceTokenizer.train(side, config.tokenizer) for side in sides)
    return source, target
