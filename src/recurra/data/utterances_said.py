"""An utterance as a file names it, before its recording is looked for."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import DataError

__all__ = ["Said", "found_audio", "seconds"]


class Said(NamedTuple):
    """The attributes of an `Utterance`, with the audio as it is written in the file."""

    id: str
    audio: str
    start: float
    end: float | None
    text: str | None
    speaker: str | None
    file: str
    line: int


def found_audio(named: str, folders: Iterable[Path], where: str) -> Path:
    """The recording that a file names: in one of some folders, or else in the working folder.

    Raises:
        DataError: if it is a command, or is not there.
    """
    if named.startswith("|") or named.rstrip().endswith("|"):
        raise DataError(
            f"{where}: the recording is the output of the command {named!r}, and commands are never run; run it once "
            "yourself, and name the file that it writes."
        )
    if "\0" in named or not named.strip():
        raise DataError(f"{where}: {named!r} is no name of an audio file; mend the line.")
    path = Path(named).expanduser()
    for place in [path] if path.is_absolute() else [*(folder / path for folder in folders), path]:
        try:
            if place.is_file():
                return place
        except OSError:
            # A name may be longer than the system allows.
            continue
    raise DataError(f"{where}: there is no audio file {named!r}; mend the path or fetch the file.")


def seconds(given: Any, what: str, where: str) -> float:
    """A time that a file names.

    Raises:
        DataError: if it is no number of seconds from 0 on.
    """
    try:
        if isinstance(given, (bool, list, dict)):
            raise ValueError
        value = float(given)
    except (TypeError, ValueError):
        raise DataError(f"{where}: the {what} {given!r} is no number of seconds; mend it.") from None
    if not 0 <= value < math.inf:
        raise DataError(f"{where}: the {what} is {value:g} seconds; it must be 0 or more.")
    return value
