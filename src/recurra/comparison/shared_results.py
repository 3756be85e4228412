"""Results in a folder that several processes and machines share: claimed before the work, and kept whole after it.

A claim is a lock on a file, which the system takes away when the process that holds it ends, however it ends. So no
claim outlives its process, and what was killed can be begun again at once.
"""

from __future__ import annotations

import errno
import json
import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import RunError
from ..files import unwritten
from ..shown import tell
from ..strict_json import read_json

try:
    import fcntl
except ImportError:  # a system without such locks
    fcntl = None  # type: ignore[assignment]

__all__ = ["Claimed", "claimed", "holder", "keep", "read_result"]


class Claimed(RunError):
    """Another process is at this work."""


@contextmanager
def claimed(folder: Path, name: str) -> Iterator[None]:
    """Keep every other process from a piece of work while the context lasts.

    Where the file system has no locks, this is said on stderr and nothing is kept.

    Raises:
        Claimed: if another process is at it.
        RunError: if the claim cannot be written.
    """
    path = _claim(folder, name)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Not "w": what the holder wrote must stay. For writing, because locks of network file systems want it.
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise RunError(f"{path}: cannot be written {unwritten(error)}.") from error
    try:
        if not _lock(descriptor):
            raise Claimed(f"{name}: {_said(path) or 'another process'} is at it; wait for its end or stop it.")
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"process {os.getpid()} on {socket.gethostname()}".encode())
        yield
    finally:
        os.close(descriptor)


def holder(folder: Path, name: str) -> str | None:
    """Who is at a piece of work, as `process 12 on host`; None: nobody."""
    path = _claim(folder, name)
    try:
        descriptor = os.open(path, os.O_RDWR)
    except OSError:
        return None
    try:
        return None if _lock(descriptor) else _said(path) or "another process"
    finally:
        os.close(descriptor)


def keep(folder: Path, name: str, values: Mapping[str, Any], outcomes: Mapping[str, npt.ArrayLike] = {}) -> None:
    """Write a result aside and then in place, so that whoever reads it finds all of it or nothing.

    Args:
        folder: of the results.
        name: of this one.
        values: what JSON can hold; its key `outcomes` is written here.
        outcomes: arrays by name, which go to a file beside it.

    Raises:
        RunError: if it cannot be written.
    """
    path = folder / f"{name}.json"
    aside = [path.with_name(f".{name}.{os.getpid()}.{ending}") for ending in ("json", "npz")]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if outcomes:
            np.savez_compressed(aside[1], **outcomes)  # type: ignore[arg-type]
            aside[1].replace(path.with_suffix(".npz"))
            values = {**values, "outcomes": f"{name}.npz"}
        aside[0].write_text(json.dumps(values, allow_nan=False) + "\n", encoding="utf-8")
        aside[0].replace(path)
    except OSError as error:
        for each in aside:
            with suppress(OSError):
                each.unlink(missing_ok=True)
        raise RunError(f"{path}: cannot be written {unwritten(error)}.") from error


def read_result(folder: Path, name: str) -> dict[str, Any] | None:
    """A result that was kept; None if there is none yet.

    Raises:
        RunError: if it holds something else.
    """
    path = folder / f"{name}.json"
    try:
        found = read_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise RunError(f"{path}: is no result ({error}); remove it, and run the command again.") from error
    if not isinstance(found, dict):
        raise RunError(f"{path}: is no result; remove it, and run the command again.")
    return found


def _claim(folder: Path, name: str) -> Path:
    return folder / "claims" / name


def _lock(descriptor: int) -> bool:
    """Whether the file is this process's own now."""
    if fcntl is None:
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL):
            raise
        tell("recurra: this file system has no locks, so see to it that no two processes do the same training.")
    return True


def _said(path: Path) -> str:
    with suppress(OSError, ValueError):
        return path.read_text(encoding="utf-8")
    return ""
