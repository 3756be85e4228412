"""What a translation run keeps beside its weights: tokenizers, tokenised training pairs, validation pairs."""

from __future__ import annotations

import json
import random
from pathlib import Path

from ...data.parallel import Pair, ParallelCorpus, describe_dropped, fingerprint, read_pairs
from ...data.sentences import SentenceTokenizer
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
TRAIN = "train.npz"
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

    Raises:
        DataError: if a text cannot be used; see `recurra.data.parallel.read_pairs`.
        RunError: if something cannot be written.
    """
    if _is_prepared(run):
        return
    config: TranslationConfig = run.config
    run_dir = run.path
    shown, data = config.logging.progress, config.data
    with preparation("Reading the pairs", shown):
        train, valid, dropped, valid_empty = _pairs(config)
    run.data.mkdir(parents=True, exist_ok=True)
    try:
        tokenizers = load_tokenizers(run_dir)
    except RunError:
        with preparation("Learning the tokens", shown):
            tokenizers = _learn(config, train)
        for name, tokenizer in named_tokenizers(*tokenizers).items():
            tokenizer.save(run_dir / name)
    with preparation("Tokenising the pairs", shown):
        corpus, filtered = ParallelCorpus.of(train, *tokenizers).kept(data.max_length, data.max_length_ratio)
    counts = {"empty": dropped, **filtered}
    said = describe_dropped(counts, len(train) + dropped)
    if said and shown:
        tell(said)
    if valid_empty and shown:
        count = len(valid) + valid_empty
        tell(f"{valid_empty:,} of {count:,} validation pairs are left out: with an empty side.")
    lines = [json.dumps(pair._asdict(), ensure_ascii=False) + "\n" for pair in valid]
    try:
        (run.data / VALID).write_text("".join(lines), encoding="utf-8")
        (run.data / DROPPED).write_text(
            json.dumps({"pairs": len(train) + dropped, "kept": len(corpus), **counts, "valid_empty": valid_empty})
            + "\n",
            encoding="utf-8",
        )
    except OSError as error:
        raise RunError(f"{run_dir / 'data'}: cannot be written {unwritten(error)}.") from error
    # Last: with it in place, the rest is whole.
    corpus.save(run.data / TRAIN)


def open_pairs(run: Run) -> tuple[ParallelCorpus, list[Pair]]:
    """The training and validation pairs that `prepare_pairs` wrote.

    Raises:
        RunError: if they are missing or damaged.
    """
    corpus = ParallelCorpus.open(run.data / TRAIN)
    path = run.data / VALID
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


def _is_prepared(run: Run) -> bool:
    try:
        corpus, _ = open_pairs(run)
        return corpus.fingerprint == fingerprint(*load_tokenizers(run.path))
    except RunError:
        return False


def _pairs(config: TranslationConfig) -> tuple[list[Pair], list[Pair], int, int]:
    """Training and validation pairs, and how many of the one and the other were dropped for an empty side."""
    data, seed = config.data, config.training.seed
    if data.toy != "none":
        made = toy_pairs(data.toy, TOY_PAIRS, seed)
        return made, toy_pairs(data.toy, TOY_VALID, seed + 1_000_000, frozenset(made)), 0, 0
    forms = {"columns": data.columns, "keys": data.keys}
    train, dropped = read_pairs(data.source, data.target, data.pairs, empty=data.empty_lines, **forms)  # type: ignore[arg-type]
    if data.valid_source is not None or data.valid_pairs is not None:
        valid, valid_dropped = read_pairs(
            data.valid_source,
            data.valid_target,
            data.valid_pairs,
            empty=data.empty_lines,
            **forms,  # type: ignore[arg-type]
        )
        return train, valid, dropped, valid_dropped
    sources = list(dict.fromkeys(pair.source for pair in train))
    if len(sources) < 2:
        raise DataError(
            f"{data.pairs or data.source}: one source cannot be parted into training and validation; give more."
        )
    # From all over the text, as its end may be of another kind; whole sources, so that none is in both parts.
    count = min(max(1, round(data.validation_fraction * len(sources))), len(sources) - 1)
    held = set(random.Random(seed).sample(sources, count))
    return [p for p in train if p.source not in held], [p for p in train if p.source in held], dropped, 0


def _learn(config: TranslationConfig, pairs: list[Pair]) -> tuple[SentenceTokenizer, SentenceTokenizer]:
    sources, targets = [pair.source for pair in pairs], [pair.target for pair in pairs]
    if config.tokenizer.joint:
        joint = SentenceTokenizer.train([*sources, *targets], config.tokenizer)
        return joint, joint
    return SentenceTokenizer.train(sources, config.tokenizer), SentenceTokenizer.train(targets, config.tokenizer)
