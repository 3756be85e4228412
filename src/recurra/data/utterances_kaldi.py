"""Utterances of a Kaldi data folder: `wav.scp`, `segments`, `text` and `utt2spk`.

| file | each of its lines |
|---|---|
| wav.scp | name of a recording, path |
| segments | name of an utterance, name of its recording, start, end; an end of -1 is that of the recording |
| text | name of an utterance, what is said |
| utt2spk | name of an utterance, name of its speaker |

Without `segments` every recording is one utterance of the same name. A path that ends in `|` is a command to Kaldi.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ..errors import DataError
from ..shown import tell
from .source_files import SourceFile
from .text import read_lines
from .utterances_said import Said, seconds

__all__ = ["read_kaldi"]

_Lines = dict[str, tuple[str, int]]
"""What stands after the name that a line begins with, and the number of the line."""


def read_kaldi(folder: Path, sources: list[SourceFile]) -> Iterator[Said]:
    """The utterances of a folder, in the order of `segments` or else of `wav.scp`.

    Args:
        folder: that holds the files.
        sources: where the files are put down.

    Raises:
        DataError: if a file is missing or a line is not what it should be.
    """
    recordings = _table(folder / "wav.scp", sources)
    texts = _table(folder / "text", sources) if (folder / "text").is_file() else {}
    speakers = _table(folder / "utt2spk", sources) if (folder / "utt2spk").is_file() else {}
    segments = folder / "segments"
    parts = _table(segments, sources) if segments.is_file() else None
    file = str(folder / "wav.scp" if parts is None else segments)
    used = set()
    for name, (rest, line) in (recordings if parts is None else parts).items():
        where = f"{file}:{line}"
        audio, start, end = rest, 0.0, None
        if parts is not None:
            recording, start, end = _segment(rest, where)
            if recording not in recordings:
                raise DataError(f"{where}: there is no recording {recording!r} in wav.scp; mend one of the two.")
            audio = recordings[recording][0]
        text = texts.get(name)
        speaker = speakers.get(name)
        used.add(name)
        # Kaldi keeps silent utterances as names without a text.
        yield Said(name, audio, start, end, None if text is None else text[0], speaker and speaker[0], file, line)
    unused = [name for name in texts if name not in used]
    if unused:
        place = f"{folder / 'text'}:{texts[unused[0]][1]}"
        tell(
            f"recurra: {place}: {len(unused):,} texts belong to no utterance, the first to {unused[0]!r}; they are "
            "left out."
        )


def _table(path: Path, sources: list[SourceFile]) -> _Lines:
    found: _Lines = {}
    for number, line in enumerate(read_lines(path, sources), start=1):
        if not line.strip():
            continue
        name, *rest = line.split(None, 1)
        if name in found:
            raise DataError(f"{path}:{number}: {name!r} stands on line {found[name][1]} already; leave one of the two.")
        if not rest and path.name != "text":
            raise DataError(f"{path}:{number}: nothing stands after the name {name!r}; mend the line.")
        found[name] = (" ".join(rest).strip(), number)
    return found


def _segment(rest: str, where: str) -> tuple[str, float, float | None]:
    # Kaldi's older folders have a channel after the end, and one channel is all that is read.
    fields = rest.split()
    if len(fields) != 3:
        raise DataError(
            f"{where}: has {len(fields) + 1} fields, and must have 4: utterance, recording, start, end; mend the line."
        )
    start = seconds(fields[1], "start", where)
    if fields[2] in ("-1", "-1.0"):
        return fields[0], start, None
    end = seconds(fields[2], "end", where)
    if end <= start:
        raise DataError(f"{where}: ends at {end:g} s, which is not after its start at {start:g} s; mend the line.")
    return fields[0], start, end
