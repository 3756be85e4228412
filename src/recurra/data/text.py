"""Reading plain text from files, folders, globs, gzip and standard input, in pieces of bounded size.

Text here is lines of UTF-8: every line end (CR LF, CR or LF) is read as a line feed, a byte order mark at the start of
a line is dropped, and a file that does not end its last line gets a line end, so that two files never run into one
another.
"""

from __future__ import annotations

import atexit
import codecs
import glob
import gzip
import io
import os
import re
import shutil
import sys
import tempfile
import unicodedata
import zlib
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import IO, Any

from ..errors import DataError
from ..files import unchanged
from ..names import nearest
from ..shown import tell
from .source_files import HashingReader, SourceFile

__all__ = [
    "PIECE_SIZE",
    "Progress",
    "cut_point",
    "expand_paths",
    "name_of",
    "read_blocks",
    "read_lines",
    "read_text",
    "refuse_foreign",
    "spool_standard_input",
]

PIECE_SIZE = 1 << 20
"""Most characters in a piece of text."""

_MARK = "\ufeff"
_INNER_MARKS = re.compile(f"(?<=\n){_MARK}+")

Progress = Callable[[int, int], None]
"""Called with the bytes read so far and the bytes to read in all (on disk, so packed bytes for gzip)."""

_spooled: dict[Path, str] = {}  # temporary copies of what can be read only once, and what their user calls them

_STDIN = "-"
_LONGEST_NAME = 255
_READ_SIZE = 1 << 20
_GZIP = b"\x1f\x8b"
_FOREIGN = {  # what a file starts with, and what it then is
    codecs.BOM_UTF32_LE: "UTF-32 text; save it as UTF-8",
    codecs.BOM_UTF32_BE: "UTF-32 text; save it as UTF-8",
    codecs.BOM_UTF16_LE: "UTF-16 text; save it as UTF-8, for example with iconv -f UTF-16 -t UTF-8",
    codecs.BOM_UTF16_BE: "UTF-16 text; save it as UTF-8, for example with iconv -f UTF-16 -t UTF-8",
    b"PK\x03\x04": "a zip archive, not text; unpack it first",
    b"\xfd7zXZ\x00": "an xz archive, not text; unpack it first",
    b"\x28\xb5\x2f\xfd": "a zstd archive, not text; unpack it first",
    b"%PDF-": "a PDF, not text; convert it to text first",
}


def expand_paths(patterns: Sequence[str | Path]) -> list[Path]:
    """Turn files, globs, folders and `-` into a list of files, each named once, in the order given.

    A folder stands for all regular files below it, in sorted order, hidden ones (`.name`) left out. `**` in a glob goes
    through folders. `-` is standard input; it and pipes are copied to a temporary file, since training reads text more
    than once.

    Raises:
        DataError: if a path does not exist (the nearest existing name is suggested), a glob matches nothing, a folder
            holds no file, or nothing at all is given.
    """
    files: dict[Path, None] = {}
    for pattern in patterns:
        if str(pattern) == _STDIN:
            files[spool_standard_input()] = None
            continue
        path = Path(pattern).expanduser()
        if len(path.name.encode()) > _LONGEST_NAME:
            raise DataError(f"{str(path)[:60]}...: this is too long for the name of a file; check the path.")
        if path.is_fifo():
            with open(path, "rb") as pipe:
                files[_spool(pipe, str(path))] = None
        elif path.exists():
            found = _files_below(path)
            if not found:
                raise DataError(f"{path}: the folder holds no files; name a folder or files with text.")
            files.update(dict.fromkeys(found))
        elif glob.has_magic(str(path)):
            matches = sorted(glob.glob(str(path), recursive=True))  # noqa: PTH207  Path.glob takes no absolute pattern
            found = [file for match in matches for file in _files_below(Path(match))]
            if not found:
                raise DataError(f"{path}: no file matches this pattern; check it against the folder's contents.")
            files.update(dict.fromkeys(found))
        else:
            raise DataError(f"{path}: there is no such file or folder{_suggestion(path)}.")
    if not files:
        raise DataError("No text was named; give at least one file, folder, glob or - for standard input.")
    return list(files)


@cache
def spool_standard_input() -> Path:
    """Copy standard input to a temporary file, once a process, and return its path; the file goes when Python exits.

    Raises:
        DataError: if standard input cannot be read or the copy cannot be written.
    """
    source = getattr(sys.stdin, "buffer", None)
    if source is None:
        raise DataError("standard input: it is not open; name a file instead of -.")
    return _spool(source, "standard input")


def _remove(path: Path, process: int) -> None:
    # A child that the process forked ends like it, and must leave the copy to it.
    if os.getpid() == process:
        path.unlink(missing_ok=True)


def _spool(source: IO[bytes], name: str) -> Path:
    descriptor, copied = tempfile.mkstemp(prefix="recurra-")
    path = Path(copied)
    atexit.register(_remove, path, os.getpid())
    _spooled[path] = name
    try:
        with open(descriptor, "wb") as copy:
            shutil.copyfileobj(source, copy, _READ_SIZE)
    except OSError as error:
        path.unlink(missing_ok=True)
        raise DataError(
            f"{name}: it could not be copied to {path.parent} ({error.strerror}); name a file or set TMPDIR."
        ) from error
    return path


def read_text(
    paths: Sequence[str | Path],
    piece_size: int = PIECE_SIZE,
    *,
    progress: Progress | None = None,
    sources: list[SourceFile] | None = None,
) -> Iterator[str]:
    """Yield the text of the files one after another, in pieces of at most `piece_size` characters.

    A piece ends at a line end; where a line is longer than a piece, before a run of white space; where there is none,
    where no combining mark follows. Pieces depend on the text alone, not on how the reads fell, and their concatenation
    is the text. Gzip is known by its first bytes, whatever the file is called. Memory is bounded by `piece_size`, not
    by the files or their lines.

    Args:
        paths: the files.
        piece_size: most characters of a piece.
        progress: called with the bytes read so far and the bytes of all files.
        sources: where each file is put down, as `read_lines` does.

    Raises:
        DataError: if a file cannot be read, is not UTF-8 (the byte and line are named), holds NUL bytes, is a damaged
            gzip file, or if all files together hold nothing but white space.
    """
    files = [Path(path) for path in paths]
    total = sum(_size(path) for path in files)
    done = 0
    blank = True
    for path in files:

        def report(position: int, before: int = done) -> None:
            if progress is not None:
                progress(min(before + position, total), total)

        for piece in _pieces(_lines(path, report, sources), piece_size):
            blank = blank and piece.isspace()
            yield piece
        done += _size(path)
    if blank:
        names = ", ".join(name_of(path) for path in files[:3]) + (", ..." if len(files) > 3 else "")
        raise DataError(f"{names or 'The input'}: there is no text to read, the input is empty; give a file with text.")


def read_lines(path: str | Path, sources: list[SourceFile] | None = None) -> Iterator[str]:
    """Yield the lines of one file without their line ends; empty ones too.

    A line ends with a line feed, after which files of pairs are aligned: a carriage return inside it is white space.

    Args:
        path: the file.
        sources: where the file is put down, with its size, time and hash, once it is read to its end; not if it is
            a copy of standard input or of a pipe, which goes when Python exits.

    Raises:
        DataError: if the file cannot be read, is not UTF-8 (the byte and line are named), or is a damaged gzip file.
    """
    rest = ""
    for part in _lines(Path(path), lambda position: None, sources, universal=False):
        *lines, rest = (rest + part).split("\n")
        yield from (line.removesuffix("\r") for line in lines)


def cut_point(text: str, size: int) -> int:
    """Where to end a piece of at most `size` characters of a longer text: after a line end, else before white space.

    Without either it is a place before which a combining mark cannot reach, so that Unicode normal forms of the two
    parts join to that of the whole.
    """
    line = text.rfind("\n", 0, size) + 1
    if line:
        return line
    left = text[:size].rsplit(None, 1)
    if len(left) == 2:
        return len(left[0])
    for cut in range(size, max(size - 256, 1), -1):
        if not _joins(text[cut]):
            return cut
    return size


def _joins(character: str) -> bool:
    """Whether a normal form may merge this character into the one before it: marks, Hangul vowels and finals."""
    first = unicodedata.normalize("NFKD", character)[0]
    return unicodedata.category(first)[0] == "M" or "\u1160" <= first <= "\u11ff" or first == "\u200d"


def _pieces(parts: Iterator[str], size: int) -> Iterator[str]:
    waiting: list[str] = []
    length = 0
    for part in parts:
        waiting.append(part)
        length += len(part)
        # One character more than a piece is needed to see whether a cut at its end would part a mark from its letter.
        if length <= size:
            continue
        text = "".join(waiting)
        start = 0
        while len(text) - start > size:
            cut = start + cut_point(text[start : start + size + 1], size)
            yield text[start:cut]
            start = cut
        waiting = [text[start:]]
        length = len(text) - start
    rest = "".join(waiting)
    if rest:
        yield rest


def _lines(
    path: Path, report: Callable[[int], None], sources: list[SourceFile] | None = None, universal: bool = True
) -> Iterator[str]:
    """The text of one file as it is read, checked, ending with a line feed; `universal` makes every line end one."""
    newlines = io.IncrementalNewlineDecoder(None, translate=universal)
    rest = b""
    position = 0  # of rest's first byte, in the unpacked file
    line = 1
    last = ""
    marks = 0
    for block in read_blocks(path, report, sources):
        data = rest + block
        if position == 0:
            refuse_foreign(path, data)
            if data.startswith(codecs.BOM_UTF8):
                position, data = len(codecs.BOM_UTF8), data[len(codecs.BOM_UTF8) :]
        try:
            raw, used = codecs.utf_8_decode(data, "strict", not block)
        except UnicodeDecodeError as error:
            line += newlines.decode(data[: error.start].decode(), final=True).count("\n")
            raise DataError(
                f"{name_of(path)}: byte 0x{data[error.start]:02x} at byte {position + error.start} (line {line}) is "
                "not valid UTF-8; save the file as UTF-8 or name another."
            ) from error
        nul = raw.find("\0")
        if nul >= 0:
            line += newlines.decode(raw[:nul], final=True).count("\n")
            raise DataError(
                f"{name_of(path)}: there is a NUL byte at byte {position + len(raw[:nul].encode())} (line {line}), "
                "so this is not a text file; name a file with UTF-8 text."
            )
        position += used
        rest = data[used:]
        text = newlines.decode(raw, final=not block)
        line += text.count("\n")
        # Files that were joined bring their marks along.
        bare = _INNER_MARKS.sub("", text)
        if last in ("", "\n"):
            bare = bare.lstrip(_MARK)
        marks += len(text) - len(bare)
        if bare:
            last = bare[-1]
            yield bare
    if last not in ("", "\n"):
        yield "\n"
    if marks:
        _tell_once(f"recurra: {name_of(path)}: {marks:,} byte order marks at the start of lines are left out.")


@cache
def _tell_once(what: str) -> None:
    """Say it once, however often a file is read."""
    tell(what)


def read_blocks(
    path: Path, report: Callable[[int], None] = lambda position: None, sources: list[SourceFile] | None = None
) -> Iterator[bytes]:
    """The unpacked bytes of one file, an empty block last.

    Args:
        path: packed with gzip, or not.
        report: called with the bytes read from the disk so far.
        sources: gets what the file was, once it has been read.

    Raises:
        DataError: if the file cannot be read, or is a damaged gzip file.
    """
    unpacked = 0
    packed = False
    try:
        with unchanged([path]), open(path, "rb") as file:
            packed = file.read(2) == _GZIP
            file.seek(0)
            hashed = None if sources is None or path in _spooled else HashingReader(file)
            bare: Any = file if hashed is None else hashed
            source = gzip.GzipFile(fileobj=bare) if packed else bare
            while True:
                block = source.read(_READ_SIZE)
                unpacked += len(block)
                report(file.tell())
                if not block and sources is not None and hashed is not None:
                    sources.append(hashed.found(str(path)))
                yield block
                if not block:
                    return
    except EOFError as error:
        raise DataError(
            f"{name_of(path)}: the gzip file is cut off after {unpacked} unpacked bytes; fetch it again."
        ) from error
    except (gzip.BadGzipFile, zlib.error) as error:
        raise DataError(
            f"{name_of(path)}: the gzip file is damaged after {unpacked} unpacked bytes ({error}); fetch it again."
        ) from error
    except OSError as error:
        raise DataError(f"{name_of(path)}: the file cannot be read ({error.strerror or error}); check it.") from error


def refuse_foreign(path: Path, data: bytes) -> None:
    """Raise DataError if a file that begins with these bytes is an archive, a PDF or text of another encoding."""
    for magic, what in _FOREIGN.items():
        if data.startswith(magic):
            raise DataError(f"{name_of(path)}: from its first bytes this is {what}.")


def _files_below(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return [folder]
    found = []
    for root, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        found += [Path(root, name) for name in names if not name.startswith(".") and Path(root, name).is_file()]
    return sorted(found)


def _suggestion(path: Path) -> str:
    """The nearest name to a missing one, in the deepest folder on its way that exists."""
    missing = path
    while not missing.parent.exists():
        missing = missing.parent
    try:
        known = sorted(entry.name for entry in missing.parent.iterdir())
    except OSError:
        return ""
    guess = nearest(missing.name, known)
    return f", the nearest name is {missing.parent / guess}" if guess else "; check the path"


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError as error:
        raise DataError(f"{name_of(path)}: the file cannot be read ({error.strerror}); check the path.") from error


def name_of(path: Path) -> str:
    """What errors call a file: its path, or for a copy of standard input or of a pipe what its user calls that."""
    return _spooled.get(path, str(path))
