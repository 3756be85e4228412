"""Which recordings are meant when somebody asks what is said in them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from ...data.utterances import Utterance
from .config import SpeechDataConfig
from .data import reader

__all__ = ["asked_utterances"]

_TABLES = (".jsonl", ".ndjson", ".json", ".csv", ".tsv")


def asked_utterances(paths: Sequence[str | Path], data: SpeechDataConfig) -> Iterator[Utterance]:
    """The utterances of audio files, folders and globs of them, or of files that name utterances.

    Their texts need not be known. An audio file that is named alone has its path as its name.

    Args:
        paths: the columns and keys of tables are those of the configuration.
        data: of the configuration.

    Raises:
        DataError: if a file is not there or cannot be read.
    """
    for path in map(str, paths):
        is_table = Path(path.lower().removesuffix(".gz")).suffix in _TABLES or (Path(path) / "wav.scp").is_file()
        section = data.model_copy(update={"form": None if is_table else "folder", "pattern": None})
        for utterance in reader([path], section, need_text=False):
            yield utterance if is_table or Path(path).is_dir() else utterance._replace(id=str(utterance.audio))
