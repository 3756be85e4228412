"""The text files that prepared data was made from: what each was when it was read, and whether it still is."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Annotated

from pydantic import ConfigDict, Field, StrictInt, StrictStr

from ..bounds import LARGEST
from ..shown import tell

__all__ = ["HashingReader", "SourceFile", "changed_sources", "tell_changes"]


@dataclass(frozen=True)
class SourceFile:
    """A file as it was when it was read.

    Attributes:
        name: its path, as it was named.
        size: in bytes.
        modified: time of its last change, in nanoseconds since 1970.
        sha256: of its bytes, in hexadecimal digits.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    name: Annotated[StrictStr, Field(min_length=1, pattern="^[^\0]*$")]
    size: Annotated[StrictInt, Field(ge=0, le=LARGEST)]
    modified: Annotated[StrictInt, Field(ge=-(1 << 63), le=(1 << 63) - 1)]
    sha256: Annotated[StrictStr, Field(pattern="^[0-9a-f]{64}$")]


class HashingReader:
    """Reads an open file from where it stands to its end, and takes the SHA-256 of its bytes on the way.

    Args:
        file: at its first byte.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._state = os.fstat(file.fileno())
        self._digest = hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(size)
        self._digest.update(data)
        return data

    def found(self, name: str) -> SourceFile:
        """The file under a name, with its size and time as they were when reading began."""
        return SourceFile(name, self._state.st_size, self._state.st_mtime_ns, self._digest.hexdigest())


def changed_sources(sources: Iterable[SourceFile]) -> list[str]:
    """A clause on each file that is gone, or has another size or time of change than when it was read.

    Nothing is read, so that this takes no time: a file that was only touched is told of as written since.
    """
    said = []
    for source in sources:
        try:
            now = Path(source.name).stat()
        except OSError as error:
            said.append(f"{source.name} can no longer be found ({error.strerror})")
            continue
        if now.st_size != source.size:
            said.append(f"{source.name} was edited since: it had {source.size:,} bytes and has {now.st_size:,} now")
        elif now.st_mtime_ns != source.modified:
            said.append(f"{source.name} was written since, though it still has {source.size:,} bytes")
    return said


def tell_changes(sources: Iterable[SourceFile]) -> None:
    """Say which files are no longer as they were when a run's data were prepared from them."""
    for change in changed_sources(sources):
        tell(f"recurra: {change}; training goes on with the data as prepared, and to learn from it takes a new run.")
