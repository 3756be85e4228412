"""Files of a run, which somebody else may have made."""

from __future__ import annotations

import errno
from pathlib import Path

__all__ = ["regular"]


def regular(path: Path) -> Path:
    """The path, if it names a file: to read a pipe in its place would wait for ever.

    Raises:
        FileNotFoundError: if it does not.
    """
    if path.is_file():
        return path
    what = "is no regular file" if path.exists() else "there is no such file"
    raise FileNotFoundError(errno.ENOENT, what, str(path))
