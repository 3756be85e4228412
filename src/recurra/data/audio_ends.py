"""Whether an audio file was cut off, which the library that decodes it does not say."""

from __future__ import annotations

import os
from pathlib import Path
from typing import IO, Literal

__all__ = ["cut_off", "tells_length"]

_UNKNOWN = 0x7FFFF000
"""Programs that write to a pipe announce this many bytes or more, because they do not know the number yet."""
_LAST_PAGE = 1 << 17
"""More than the largest page of Ogg, which has 65,307 bytes."""
_END_OF_STREAM = 0x04
_CHUNKS = 1000
_FIRST_FRAME = 4096
"""More than the largest frame of MP3."""


def cut_off(path: Path) -> str | None:
    """Why a WAV, AIFF or Ogg file is known to be cut off, as a clause; None if it looks whole or is of another format.

    A FLAC file says how many samples it has, so a reader that gets fewer knows by itself.

    Raises:
        OSError: if the file cannot be read.
    """
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        start = file.read(12)
        if start[:4] == b"RIFF" and start[8:] == b"WAVE":
            return _chunks(file, size, "little", b"data")
        if start[:4] == b"FORM" and start[8:] in (b"AIFF", b"AIFC"):
            return _chunks(file, size, "big", b"SSND")
        if start[:4] == b"OggS":
            return _ogg(file, size)
    return None


def tells_length(path: Path) -> bool:
    """Whether the number of samples in the header of an audio file is to be believed.

    An MP3 file without a Xing, Info or VBRI header has no such number, and libmpg123 makes a guess.

    Raises:
        OSError: if the file cannot be read.
    """
    with open(path, "rb") as file:
        start = file.read(10)
        place = 0
        if start[:3] == b"ID3":
            # Seven bits of each byte count.
            place = 10 + sum((byte & 127) << shift for byte, shift in zip(start[6:], (21, 14, 7, 0), strict=False))
        file.seek(place)
        first = file.read(_FIRST_FRAME)
    return any(mark in first for mark in (b"Xing", b"Info", b"VBRI"))


def _chunks(file: IO[bytes], size: int, order: Literal["little", "big"], samples: bytes) -> str | None:
    """WAV and AIFF files are rows of chunks: a name of 4 bytes, the number of bytes that follow, and these bytes."""
    for _ in range(_CHUNKS):
        head = file.read(8)
        if len(head) < 8:
            return "it ends before its samples begin"
        announced, place = int.from_bytes(head[4:], order), file.tell()
        if head[:4] == samples:
            if announced < _UNKNOWN and place + announced > size:
                return f"its header announces {announced:,} bytes of samples, and {size - place:,} are there"
            return None
        # A chunk of an odd number of bytes is followed by one that fills it up.
        file.seek(place + announced + announced % 2)
    return None


def _ogg(file: IO[bytes], size: int) -> str | None:
    """The last page of an Ogg file is marked as the last."""
    file.seek(max(0, size - _LAST_PAGE))
    end = file.read(_LAST_PAGE)
    page = end.rfind(b"OggS")
    if page < 0 or len(end) < page + 6 or not end[page + 5] & _END_OF_STREAM:
        return "its last page is missing"
    segments = end[page + 26] if len(end) > page + 26 else 0
    whole = page + 27 + segments + sum(end[page + 27 : page + 27 + segments])
    return "its last page is not whole" if len(end) < whole or len(end) < page + 27 else None
