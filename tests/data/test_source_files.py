"""The files that prepared data was made from, then and now."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from recurra.data.source_files import HashingReader, SourceFile, changed_sources


def seen(path: Path) -> SourceFile:
    with path.open("rb") as file:
        reader = HashingReader(file)
        while reader.read(7):
            pass
        return reader.found(str(path))


def test_a_file_that_was_read_is_known_by_size_time_and_hash(tmp_path: Path) -> None:
    path = tmp_path / "text"
    path.write_bytes(b"an apple\n" * 100)
    found = seen(path)
    state = path.stat()
    assert found == SourceFile(str(path), 900, state.st_mtime_ns, hashlib.sha256(path.read_bytes()).hexdigest())
    assert changed_sources([found]) == []


def test_what_became_of_a_file_is_said(tmp_path: Path) -> None:
    files = []
    for name in ("same", "longer", "touched", "gone"):
        (tmp_path / name).write_bytes(b"an apple\n")
        files.append(seen(tmp_path / name))
    (tmp_path / "longer").write_bytes(b"an apple and a pear\n")
    os.utime(tmp_path / "touched", ns=(0, files[2].modified + 1))
    (tmp_path / "gone").unlink()
    assert changed_sources(files) == [
        f"{tmp_path / 'longer'} was edited since: it had 9 bytes and has 20 now",
        f"{tmp_path / 'touched'} was written since, though it still has 9 bytes",
        f"{tmp_path / 'gone'} can no longer be found (No such file or directory)",
    ]
