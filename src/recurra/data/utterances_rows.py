"""Utterances in the rows of tables and in JSON lines: manifests as NeMo, Hugging Face and Lhotse have them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import ConfigError, DataError
from ..shown import counted
from ..strict_json import read_json
from .comma_rows import comma_rows
from .json_lines import under
from .source_files import SourceFile
from .text import name_of, read_lines
from .utterances_said import Said, seconds

__all__ = ["Keys", "read_rows"]


class Keys(NamedTuple):
    """Where a row has what: the name of a column, its number from 1, or the key of a JSON object.

    In a key, `a.b` is the key b in the object a. None: the first of the usual names that the row has, see `USUAL`.

    Attributes:
        audio: the path of the recording.
        text: what is said.
        speaker: who speaks.
        id: the name of the utterance; without one it is the file's name and the number of the line.
        start, end, duration: seconds; of the last two one is enough.
        header: whether the first line of a table names its columns; None: unless all given columns are numbers.
    """

    audio: str | None = None
    text: str | None = None
    speaker: str | None = None
    id: str | None = None
    start: str | None = None
    end: str | None = None
    duration: str | None = None
    header: bool | None = None


USUAL = {
    "audio": ("audio_filepath", "audio.path", "audio", "audio_path", "path", "wav", "file", "file_name"),
    "text": ("text", "transcript", "transcription", "sentence"),
    "speaker": ("speaker", "speaker_id", "client_id"),
    "id": ("id", "utterance_id", "utt_id", "key"),
    "start": ("start", "offset"),
    "end": ("end",),
    "duration": ("duration",),
}
"""The names that common manifests and data sets use."""

_NUMBERS = {"start", "end", "duration"}


def read_rows(path: Path, form: str, keys: Keys, sources: list[SourceFile]) -> Iterator[Said]:
    """The utterances of a file.

    Args:
        path: of the file.
        form: "jsonl", "csv" or "tsv".
        keys: of its rows.
        sources: where the file is put down.

    Raises:
        DataError: if a row is not what it should be.
    """
    lines, name = read_lines(path, sources), name_of(path)
    for number, row in _objects(name, lines) if form == "jsonl" else _table(name, lines, form, keys):
        where = f"{name}:{number}"
        if _is_cut(row):
            for each in _cut(row, number, where):
                yield _said(each, Keys(), name, number)
        else:
            yield _said(row, keys, name, number)


def _said(row: Mapping[str, Any], keys: Keys, file: str, number: int) -> Said:
    where = f"{file}:{number}"
    found = {name: _value(row, name, getattr(keys, name), where) for name in USUAL}
    audio = found["audio"]
    if not isinstance(audio, str) or not audio:
        raise DataError(
            f"{where}: {_missing('audio', keys.audio)}; mend the line, or name the key or column of the audio."
        )
    texts = {name: found[name] for name in ("text", "speaker", "id")}
    for name, value in texts.items():
        # Speakers and names are often numbers, and what is said may be one digit.
        if isinstance(value, int) and not isinstance(value, bool):
            texts[name] = str(value)
        elif value is not None and not isinstance(value, str):
            raise DataError(f"{where}: the {name} {value!r} is no text; mend the line.")
    times = {name: None if found[name] in (None, "") else seconds(found[name], name, where) for name in _NUMBERS}
    start, end = times["start"] or 0.0, times["end"]
    if end is None and times["duration"] is not None:
        end = start + times["duration"]
    if end is not None and end <= start:
        raise DataError(f"{where}: ends at {end:g} s, which is not after its start at {start:g} s; mend the line.")
    name = texts["id"] or f"{Path(file).name}-{number}"
    text = texts["text"]
    return Said(name, audio, start, end, text if text is None else text.strip(), texts["speaker"] or None, file, number)


def _value(row: Mapping[str, Any], name: str, key: str | None, where: str) -> Any:
    if key is not None:
        value = under(row, key)
        if value is None and name not in ("speaker", "id"):
            raise DataError(f"{where}: {_missing(name, key)}; mend the line, or name another key or column.")
        return value
    for usual in USUAL[name]:
        value = under(row, usual)
        if value is not None and not isinstance(value, dict):
            return value
    return None


def _missing(name: str, key: str | None) -> str:
    if key is not None:
        return f"there is no {name} under {key!r}"
    return f"there is no {name} under any of the usual names ({', '.join(USUAL[name][:4])}, ...)"


def _objects(file: str, lines: Iterator[str]) -> Iterator[tuple[int, Mapping[str, Any]]]:
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            tree = read_json(line)
        except ValueError as error:
            raise DataError(f"{file}:{number}: is not one JSON object ({error}); mend the line.") from error
        if not isinstance(tree, dict):
            raise DataError(f"{file}:{number}: is not one JSON object; write one utterance a line.")
        yield number, tree


def _table(file: str, lines: Iterator[str], form: str, keys: Keys) -> Iterator[tuple[int, Mapping[str, Any]]]:
    given = [key for key in (getattr(keys, name) for name in USUAL) if key is not None]
    header = not (given and all(map(str.isdecimal, given))) if keys.header is None else keys.header
    if not header and keys.audio is None:
        raise ConfigError(
            f"{file}: the columns have no names, so say the numbers of those with the audio and the text."
        )
    rows = (
        comma_rows(file, lines)
        if form == "csv"
        else ((number, line.split("\t") if line.strip() else []) for number, line in enumerate(lines, start=1))
    )
    heads: list[str] | None = None
    width = 0
    for number, row in rows:
        if not row:
            continue
        if not width:
            width = len(row)
            if header:
                heads = [cell.strip() for cell in row]
                twice = next((head for head in heads if heads.count(head) > 1), None)
                if twice is not None:
                    raise DataError(f"{file}:{number}: names two columns {twice!r}; rename one of them.")
                continue
        if len(row) != width:
            raise DataError(
                f"{file}:{number}: has {counted(len(row), 'column')}, and the first line has {width}; mend the line."
            )
        cells: dict[str, Any] = {str(place): cell for place, cell in enumerate(row, start=1)}
        yield number, cells | (dict(zip(heads, row, strict=True)) if heads else {})


def _is_cut(row: Mapping[str, Any]) -> bool:
    return isinstance(row.get("recording"), dict) and isinstance(row.get("supervisions"), list)


def _cut(row: Mapping[str, Any], number: int, where: str) -> Iterator[dict[str, Any]]:
    """The utterances of a cut of Lhotse as plain rows: each supervision lies in its cut, and the cut in a recording."""
    sources = row["recording"].get("sources")
    source = sources[0] if isinstance(sources, list) and len(sources) == 1 else None
    if not isinstance(source, dict) or not isinstance(source.get("source"), str):
        raise DataError(f"{where}: the recording of this cut is not one file; write its audio to a file.")
    if source.get("type", "file") != "file":
        raise DataError(
            f"{where}: the recording is of the type {source['type']!r}, and neither commands nor addresses are "
            "followed; write its audio to a file."
        )
    cut_start = seconds(row.get("start", 0.0), "start", where)
    for place, part in enumerate(row["supervisions"], start=1):
        if not isinstance(part, dict):
            raise DataError(f"{where}: a supervision of this cut is no object; mend the line.")
        start = cut_start + _number(part.get("start", 0.0), where)
        end = start + seconds(part.get("duration", row.get("duration")), "duration", where)
        yield {
            "audio": source["source"],
            # An utterance may begin before its cut, and then before the recording, if times are rounded.
            "start": max(0.0, start),
            "end": end,
            "text": part.get("text"),
            "speaker": part.get("speaker"),
            "id": part.get("id") or f"{row.get('id') or number}-{place}",
        }


def _number(given: Any, where: str) -> float:
    if isinstance(given, bool) or not isinstance(given, (int, float)):
        raise DataError(f"{where}: the start {given!r} is no number of seconds; mend it.")
    return float(given)
