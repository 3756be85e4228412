"""The tokenizer and the token streams of a language model's run."""

from __future__ import annotations

from pathlib import Path

from ...data.source_files import tell_changes
from ...data.text import expand_paths, read_text
from ...data.token_stream import TokenStream, prepare
from ...data.tokenizer import Tokenizer
from ...errors import DataError, RunError
from ...files import unchanged
from ...run.directory import Run
from ...training.progress import preparation
from .config import LanguageModelConfig

__all__ = ["TOKENIZER", "open_streams", "prepare_streams"]

TOKENIZER = "tokenizer.json"


def prepare_streams(run: Run) -> None:
    """Learn the tokens and tokenise the texts into the run's data, as far as an earlier start has not done so.

    Raises:
        DataError: if a text is missing, not UTF-8 or empty.
        RunError: if something cannot be written.
    """
    config: LanguageModelConfig = run.config
    shown = config.logging.progress
    path = run.path / TOKENIZER
    tokenizer = Tokenizer.load(path) if path.is_file() else None
    needed: dict[str, list[str]] = {}
    for name, patterns in (("train", config.data.train), ("valid", config.data.valid)):
        stream = None if tokenizer is None else _prepared(run.data / name, tokenizer)
        if stream is not None:
            tell_changes(stream.files)
        elif patterns:
            needed[name] = patterns
    # All of them before the long work begins, and once each: a pipe can be read only once.
    files = {name: _outside(run.path, expand_paths(patterns)) for name, patterns in needed.items()}
    # The tokens are learnt of what is tokenised afterwards.
    with unchanged(source for sources in files.values() for source in sources):
        if tokenizer is None:
            with preparation("Learning the tokens", shown) as progress:
                tokenizer = Tokenizer.train(read_text(files["train"], progress=progress), config.tokenizer)
            tokenizer.save(path)
        for name, sources in files.items():
            with preparation(f"Tokenising the text ({name})", shown) as progress:
                prepare(sources, tokenizer, run.data / name, progress=progress)


def open_streams(run: Run, vocab_size: int) -> tuple[TokenStream, TokenStream]:
    """Training and validation tokens; without validation text the end of the training text is held out.

    Raises:
        RunError: if they are missing, damaged, or of another vocabulary.
    """
    data = run.config.data
    streams = [TokenStream.open(run.data / name) for name in ("train", "valid")[: 1 + bool(data.valid)]]
    for stream in streams:
        if not stream.is_of(vocab_size):
            raise RunError(f"{run.data}: holds tokens of another vocabulary; remove it to prepare it again.")
    train_stream = streams[0]
    if len(streams) > 1:
        return train_stream, streams[1]
    return train_stream.split(data.validation_fraction)


def _outside(run_dir: Path, files: list[Path]) -> list[Path]:
    """The files without those of the run itself, whose folder may lie among the texts."""
    own = run_dir.resolve()
    kept = [file for file in files if own not in file.resolve().parents]
    if not kept:
        raise DataError(f"{run_dir}: holds all of the text that was named; give text from elsewhere.")
    return kept


def _prepared(path: Path, tokenizer: Tokenizer) -> TokenStream | None:
    try:
        stream = TokenStream.open(path)
        return stream if stream.tokenizer_fingerprint == tokenizer.fingerprint else None
    except RunError:
        return None
