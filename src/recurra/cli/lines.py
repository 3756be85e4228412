"""Lines of standard input, one by one, typed or read, as they come."""

from __future__ import annotations

import os
import select
import sys
from collections.abc import Iterator
from contextlib import suppress

from ..errors import DataError
from ..shown import tell

__all__ = ["input_lines"]


def input_lines() -> Iterator[str | None]:
    """Lines of standard input without their ends, and None wherever the next would have to be waited for.

    Each line as it is: what is not UTF-8 is replaced and said, so that no line is lost.
    """
    if not sys.stdin.isatty():
        return _read_lines()
    tell("Type a sentence; end with Ctrl-D.")
    return _typed_lines() if sys.stdout.isatty() else _read_lines()


def _typed_lines() -> Iterator[str | None]:
    """Lines that are typed, with the keys for editing and for earlier lines where Python has readline."""
    with suppress(ImportError):
        import readline  # noqa: F401
    sys.stdin.reconfigure(errors="replace")  # type: ignore[union-attr]
    with suppress(EOFError):
        while True:
            yield input()
            yield None


def _read_lines() -> Iterator[str | None]:
    number = 0
    for raw in _raw_lines():
        if raw is None:
            yield None
            continue
        number += 1
        bare = raw.removesuffix(b"\n").removesuffix(b"\r")
        try:
            text = bare.decode("utf-8")
        except UnicodeDecodeError as error:
            tell(
                f"recurra: standard input:{number}: byte 0x{bare[error.start]:02x} is not UTF-8 and is read as an "
                "unknown character; save the text as UTF-8."
            )
            text = bare.decode("utf-8", "replace")
        yield text.lstrip("\ufeff")


def _raw_lines() -> Iterator[bytes | None]:
    try:
        file = sys.stdin.fileno()
    except (OSError, ValueError):  # standard input that is no file, as of a notebook
        yield from sys.stdin.buffer
        return
    rest = b""
    while chunk := _read(file):
        *whole, rest = (rest + chunk).split(b"\n")
        yield from (line + b"\n" for line in whole)
        if not _more_is_there(file):
            yield None
    if rest:
        yield rest


def _read(file: int) -> bytes:
    try:
        return os.read(file, 1 << 16)
    except OSError as error:
        raise DataError(f"standard input: cannot be read ({error.strerror}).") from error


def _more_is_there(file: int) -> bool:
    try:
        return bool(select.select([file], [], [], 0)[0])
    except (OSError, ValueError):  # where only sockets can be asked, more is awaited
        return True
