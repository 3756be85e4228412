"""Where compiled cells are kept, and how they are loaded: nobody else's code may come into the user's process so.

Whoever can write to the folder of the cache can put a library there that the user's next process would run. So a
folder is used only if it belongs to the user and nobody else can write to it, and if nobody else can put another folder
in its place: each folder above it belongs to the user or to root, and others can write to it only if it is sticky, as
/tmp is, where each may rename only what is theirs. The same is asked of each library, through the descriptor by which
it is read, checked and loaded.

Not covered: root, and whoever runs as the same user, who need no such way in; access control lists beyond what the
mode's bits show of them; and systems without user ids (Windows), where the folder is taken as it is. On systems other
than Linux a library is loaded by its name, so that the check of the folder alone keeps it from being swapped after its
bytes were checked.
"""

from __future__ import annotations

import atexit
import ctypes
import hashlib
import os
import shutil
import stat
import sys
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path

__all__ = ["Library", "cache_folder", "find", "keep", "usable_folder", "workplace"]

_OTHERS = stat.S_IWGRP | stat.S_IWOTH


class _Distrusted(Exception):
    """Why somebody else could put a library into a folder."""


def cache_folder() -> Path | None:
    """Where compiled cells are kept: $RECURRA_CACHE, else the user's folder for caches; None if there is no such."""
    if chosen := os.environ.get("RECURRA_CACHE"):
        return Path(os.path.expanduser(chosen)).absolute()  # noqa: PTH111 - it leaves alone what it does not know
    # The XDG specification has relative paths ignored.
    if Path(shared := os.environ.get("XDG_CACHE_HOME", "")).is_absolute():
        return Path(shared) / "recurra"
    try:
        home = Path.home()
    except RuntimeError:
        return None
    return home / ("Library/Caches" if sys.platform == "darwin" else ".cache") / "recurra"


def usable_folder() -> Path | None:
    """The cache's folder, links resolved, made if it is missing; None if it cannot be made or trusted.

    A UserWarning says, once, why it is not trusted.
    """
    folder = cache_folder()
    if folder is None:
        return None
    try:
        return _trusted(folder)
    except _Distrusted as reason:
        _warn(str(reason))
        return None
    except OSError:
        return None


@lru_cache(maxsize=16)
def _warn(reason: str) -> None:
    warnings.warn(
        f"Cells are compiled anew in each process, for {reason} and could put other code in their place: "
        "name in RECURRA_CACHE a folder that only you can write to.",
        stacklevel=2,
    )


def _user() -> int | None:
    """The user's id; None on a system without."""
    return os.geteuid() if hasattr(os, "geteuid") else None


def _trusted(folder: Path) -> Path:
    """A folder, links resolved, made if it is missing.

    Raises:
        _Distrusted: if somebody else could put a file there.
        OSError: if it cannot be made.
    """
    resolved = Path(os.path.realpath(folder))
    user = _user()
    # From the root down: once a folder is found to be safe, nobody else can swap the next.
    for part in (*reversed(resolved.parents), resolved):
        try:
            status = part.lstat()
        except FileNotFoundError:
            with suppress(FileExistsError):
                part.mkdir(mode=0o700)
            status = part.lstat()
        if not stat.S_ISDIR(status.st_mode):
            raise NotADirectoryError(f"{part} is no folder")
        if user is None:
            continue
        above = part != resolved
        if status.st_uid != user and not (above and status.st_uid == 0):
            raise _Distrusted(f"others (user {status.st_uid}) own {part}")
        writers = status.st_mode & _OTHERS
        if above and (status.st_mode & stat.S_ISVTX or (writers == stat.S_IWGRP and _is_alone_in(status.st_gid))):
            continue
        if writers:
            raise _Distrusted(f"others can write to {part}")
    return resolved


def _is_alone_in(group: int) -> bool:
    """Whether a group is the user's private one, with which many systems let all that a user makes be writable."""
    import grp
    import pwd

    try:
        name, entry = pwd.getpwuid(os.geteuid()).pw_name, grp.getgrgid(group)
    except KeyError:
        return False
    return entry.gr_name == name and set(entry.gr_mem) <= {name}


class Library:
    """A library of the cache, open, whose bytes are those that were written.

    Attributes:
        path: where it lies; its name ends in the digest of its bytes.

    Raises:
        OSError: if it cannot be opened, others could have written it, or its bytes are not those that its name tells.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        flags = (getattr(os, name, 0) for name in ("O_NOFOLLOW", "O_NONBLOCK", "O_BINARY"))
        self._descriptor = os.open(path, os.O_RDONLY | sum(flags))
        try:
            self._check()
        except BaseException:
            os.close(self._descriptor)
            raise

    def _check(self) -> None:
        status, user = os.fstat(self._descriptor), _user()
        if not stat.S_ISREG(status.st_mode):
            raise OSError(f"{self.path} is no file")
        if user is not None and (status.st_uid != user or status.st_mode & _OTHERS):
            raise OSError(f"{self.path} could have been written by others")
        with open(self._descriptor, "rb", closefd=False) as file:
            if not self.path.stem.endswith(f"-{_digest(file.read())}"):
                raise OSError(f"{self.path} is not what was written")

    def load(self) -> ctypes.CDLL:
        """Load it into this process, for good.

        Raises:
            OSError: if it cannot be loaded.
        """
        by_descriptor = f"/proc/self/fd/{self._descriptor}"
        direct = sys.platform == "linux" and os.path.exists(by_descriptor)  # noqa: PTH110 - no path, a name for dlopen
        library = ctypes.CDLL(by_descriptor if direct else str(self.path))
        # The C library takes a name that it has loaded before for the same library, so the number must never be
        # another file's; and code that the engine has addresses of must never be unloaded.
        _loaded.append((library, self._descriptor))
        return library

    def discard(self) -> None:
        """Remove it, so that it is not tried again."""
        self.close()
        with suppress(OSError):
            self.path.unlink()

    def close(self) -> None:
        """Let go of it if it was not loaded."""
        if self._descriptor >= 0 and all(self._descriptor != kept for _, kept in _loaded):
            os.close(self._descriptor)
            self._descriptor = -1


_loaded: list[tuple[ctypes.CDLL, int]] = []


def _digest(library: bytes) -> str:
    return hashlib.sha256(library).hexdigest()[:32]


def find(folder: Path | None, key: str) -> Library | None:
    """A library of this key in a folder, whole and the user's own."""
    if folder is None:
        return None
    # The name ends in the contents' own digest: to load a library that was cut short can kill the process.
    for path in sorted(folder.glob(f"{key}-*.so")):
        with suppress(OSError):
            return Library(path)
    return None


def keep(made: Path, key: str) -> Library:
    """Move what was compiled in a `workplace` to the folder that the workplace lies in.

    Raises:
        OSError: if that cannot be done.
    """
    # Linkers leave the mode to the umask, which may let others write.
    made.chmod(0o700)
    target = made.parent.parent / f"{key}-{_digest(made.read_bytes())}.so"
    # In one go, so that no other process ever sees half of it.
    made.replace(target)
    return Library(target)


@contextmanager
def workplace(folder: Path | None) -> Iterator[Path]:
    """A folder to compile in, within the cache's, or if that cannot be written to within one for this process."""
    made = _make(folder)
    # No TemporaryDirectory: that is also removed when a process ends that was forked meanwhile by another thread.
    try:
        yield Path(made)
    finally:
        shutil.rmtree(made, ignore_errors=True)


def _make(folder: Path | None) -> str:
    prefix = ".making-"
    if folder is not None:
        with suppress(OSError):
            return tempfile.mkdtemp(dir=folder, prefix=prefix)
    return tempfile.mkdtemp(dir=_private_folder(os.getpid()), prefix=prefix)


@lru_cache(maxsize=1)
def _private_folder(process: int) -> str:
    """A folder for one process, which goes when that process ends."""
    folder = tempfile.mkdtemp(prefix="recurra-")
    atexit.register(_remove, folder, process)
    return folder


def _remove(folder: str, process: int) -> None:
    # A process that was forked from this one also comes here.
    if os.getpid() == process:
        shutil.rmtree(folder, ignore_errors=True)
