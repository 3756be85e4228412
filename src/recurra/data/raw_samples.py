"""Raw samples from standard input, as microphones and other programs write them into a pipe."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import IO

import numpy as np
import numpy.typing as npt

from ..errors import DataError
from ..shown import tell

__all__ = ["raw_samples"]

_BYTES = 1 << 14


def raw_samples(file: IO[bytes] | None = None) -> Iterator[npt.NDArray[np.float32]]:
    """Samples as soon as they are there: pieces (samples,) from -1 to 1.

    Args:
        file: with samples of 16 bits, little-endian, of one channel; None: standard input.

    Raises:
        DataError: if standard input is a terminal, or cannot be read.
    """
    source = file or getattr(sys.stdin, "buffer", None)
    if source is None or source.isatty():
        raise DataError("standard input: is no stream of samples; pipe raw audio of 16 bits into this command.")
    # Reads what is there, and waits only where there is nothing.
    read = getattr(source, "read1", source.read)
    rest = b""
    while True:
        try:
            data = read(_BYTES)
        except OSError as error:
            raise DataError(f"standard input: cannot be read ({error.strerror}).") from error
        if not data:
            break
        data = rest + data
        whole = len(data) // 2 * 2
        rest = data[whole:]
        if whole:
            yield np.frombuffer(data[:whole], "<i2").astype(np.float32) / np.float32(32768)
    if rest:
        tell("recurra: the stream ends within a sample; is it of 16 bits?")
