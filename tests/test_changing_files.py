"""Files that are cut short, written anew or taken away while they are in use."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from recurra.data.text import read_text
from recurra.errors import DataError
from recurra.files import unchanged, unwritten

LINE = "an apple and a pear\n"


def large(path: Path) -> Path:
    path.write_text(LINE * 500_000, encoding="utf-8")
    return path


def test_a_text_cut_short_while_it_is_read_is_refused(tmp_path: Path) -> None:
    path = large(tmp_path / "text.txt")
    pieces = read_text([path])
    next(pieces)
    os.truncate(path, 2 * len(LINE))
    with pytest.raises(DataError, match=r"10,000,000 bytes before and 40 now"):
        list(pieces)


def test_a_text_written_anew_while_it_is_read_is_refused(tmp_path: Path) -> None:
    path = large(tmp_path / "text.txt")
    pieces = read_text([path])
    next(pieces)
    with path.open("r+b") as file:
        file.seek(-len(LINE), os.SEEK_END)
        file.write(b"a pear and an apple\n")
    os.utime(path, ns=(0, path.stat().st_mtime_ns + 1))
    with pytest.raises(DataError, match="written while it was read"):
        list(pieces)


def test_a_text_that_grows_while_it_is_read_is_whole(tmp_path: Path) -> None:
    path = large(tmp_path / "text.txt")
    pieces = read_text([path])
    first = next(pieces)
    with path.open("a") as file:
        file.write(LINE)
    assert "".join([first, *pieces]).startswith(LINE * 500_000)


def test_a_text_taken_away_while_it_is_read_is_refused(tmp_path: Path) -> None:
    path = large(tmp_path / "text.txt")
    pieces = read_text([path])
    next(pieces)
    path.unlink()
    with pytest.raises(DataError, match="taken away"):
        list(pieces)


def test_a_text_that_is_read_in_part_may_change_afterwards(tmp_path: Path) -> None:
    path = large(tmp_path / "text.txt")
    pieces = read_text([path])
    next(pieces)
    path.unlink()
    pieces.close()  # type: ignore[attr-defined]


def test_the_fault_of_a_reader_is_not_hidden_by_the_change(tmp_path: Path) -> None:
    path = large(tmp_path / "text.txt")
    with pytest.raises(KeyError), unchanged([path]):
        path.unlink()
        raise KeyError


@pytest.mark.parametrize(
    ("code", "advice"),
    [
        (errno.ENOSPC, "make room"),
        (errno.EDQUOT, "make room"),
        (errno.ENOENT, "its folder was removed or renamed, so put it back"),
        (errno.EACCES, "make the folder writable"),
        (errno.EROFS, "make the folder writable"),
        (errno.EIO, "mend the disk"),
    ],
)
def test_what_helps_depends_on_why_a_file_could_not_be_written(code: int, advice: str) -> None:
    said = f"({os.strerror(code)}); {advice}"
    assert unwritten(OSError(code, os.strerror(code))) == said
    # As libraries written in Rust say it.
    assert unwritten(ValueError(f"Error while serializing: I/O error: {os.strerror(code)} (os error {code})")) == said
