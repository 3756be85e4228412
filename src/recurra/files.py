"""Files that others may change or take away while they are in use, and folders to work in."""

from __future__ import annotations

import errno
import os
import shutil
import stat
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from .errors import DataError

__all__ = ["regular", "scratch_folder", "unchanged", "unwritten", "written_whole"]


def regular(path: Path) -> Path:
    """The path, if it names a file: to read a pipe in its place would wait for ever.

    Raises:
        FileNotFoundError: if it does not.
    """
    if path.is_file():
        return path
    what = "is no regular file" if path.exists() else "there is no such file"
    raise FileNotFoundError(errno.ENOENT, what, str(path))


@contextmanager
def unchanged(paths: Iterable[str | Path]) -> Iterator[None]:
    """Check that files do not change while they are read in this context; else a mixture of two texts was read.

    A file may grow: its text at the start was read whole.

    Raises:
        DataError: on leaving, if one of the files is shorter than at the start, or was written again or taken away.
    """
    before = {Path(path): found for path in paths if (found := _state(Path(path))) is not None}
    yield
    for path, old in before.items():
        new = _state(path)
        if new is None:
            raise DataError(f"{path}: was taken away while it was read; start again when it is there.")
        if new.st_size < old.st_size or (new.st_size == old.st_size and new.st_mtime_ns != old.st_mtime_ns):
            raise DataError(
                f"{path}: was written while it was read, {old.st_size:,} bytes before and {new.st_size:,} now; start "
                "again when it is whole."
            )


@contextmanager
def scratch_folder(beside: Path | None = None, prefix: str = "recurra-") -> Iterator[Path]:
    """A new folder that is removed on leaving this context.

    Args:
        beside: the folder that it is made in; None: the system's folder for temporary files.
        prefix: with which its name begins.

    Raises:
        OSError: if it cannot be made.
    """
    # No TemporaryDirectory: if another thread forks meanwhile, the forked process would remove the folder at its end.
    made = tempfile.mkdtemp(dir=beside, prefix=prefix)
    try:
        yield Path(made)
    finally:
        shutil.rmtree(made, ignore_errors=True)


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """Let a file be written under another name beside its own, and rename it on leaving this context.

    Whoever reads the file meanwhile finds all of the old file or all of the new one. If the writing fails, the old file
    stays as it is, and the new one is removed.

    Args:
        path: of the file.

    Yields:
        The path to write to, whose name ends as that of `path`.
    """
    aside = path.with_name(f".{os.getpid()}.{path.name}")
    try:
        yield aside
        aside.replace(path)
    except BaseException:
        with suppress(OSError):
            aside.unlink(missing_ok=True)
        raise


def _state(path: Path) -> os.stat_result | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found if stat.S_ISREG(found.st_mode) else None


def unwritten(error: Exception) -> str:
    """The reason why a file could not be written, and advice, as `(Disk quota exceeded); make room`."""
    code, reason = getattr(error, "errno", None), getattr(error, "strerror", None) or str(error)
    # Libraries written in Rust give the system's error as text.
    if code is None and "os error" in reason:
        code = int("".join(c for c in reason.rpartition("os error")[2] if c.isdigit()) or 0)
        reason = os.strerror(code)
    if code in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return f"({reason}); make room"
    if code in (errno.ENOENT, errno.ENOTDIR):
        return f"({reason}); its folder was removed or renamed, so put it back"
    if code in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"({reason}); make the folder writable"
    return f"({reason}); mend the disk"
