"""Where compiled cells are kept, and how they are loaded without letting anybody else's code into the user's process.

Whoever can write to the cache's folder can put a library there that the user's next process would run. So a folder is
used only if two things hold. It belongs to the user, and nobody else can write to it. And nobody else can put another
folder in its place: each folder above it belongs to the user or to root, and others can write to it only if it is
sticky. In a sticky folder, such as /tmp, everyone may rename only files of their own. Each library is checked in the
same way. It is read, checked and loaded through one file descriptor, so that it cannot be swapped in between.

Not covered are three cases. Root, and whoever runs as the same user, need no such way in. Access control lists are
seen only as far as the mode's bits show them. On systems without user ids (Windows) the folder is taken as it is. On
systems other than Linux a library is loaded by its name, so only the check of its folder keeps others from swapping it
after its bytes were checked.
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
from contextlib import ExitStack, contextmanager, suppress
from functools import lru_cache
from pathlib import Path

from ...files import scratch_folder

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
    """The cache's folder with links resolved; it is made if it is missing.

    Returns:
        None if it cannot be made, or cannot be trusted; then one UserWarning says why.
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
    """A folder with links resolved; it is made if it is missing.

    Raises:
        _Distrusted: if somebody else could put a file there.
        OSError: if it cannot be made.
    """
    resolved = Path(os.path.realpath(folder))
    user = _user()
    # From the root down: where a folder was found to be safe, nobody else can swap the folder in it.
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
    """Whether the user is the only member of a group.

    Many systems give every user such a private group, and let the group write to all that the user makes.
    """
    import grp
    import pwd

    try:
        name, entry = pwd.getpwuid(os.geteuid()).pw_name, grp.getgrgid(group)
    except KeyError:
        return False
    return entry.gr_name == name and set(entry.gr_mem) <= {name}


class Library:
    """An open library of the cache that is known to hold the bytes that were once written to it.

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
        # The C library believes that equal names mean the same library. So the descriptor stays open for good, or its
        # number would be given to another file. And the library must not be unloaded: the engine has its addresses.
        _loaded.append((library, self._descriptor))
        return library

    def discard(self) -> None:
        """Remove it, so that it is not tried again."""
        self.close()
        with suppress(OSError):
            self.path.unlink()

    def close(self) -> None:
        """Close the file if it was not loaded."""
        if self._descriptor >= 0 and all(self._descriptor != kept for _, kept in _loaded):
            os.close(self._descriptor)
            self._descriptor = -1


_loaded: list[tuple[ctypes.CDLL, int]] = []


def _digest(library: bytes) -> str:
    return hashlib.sha256(library).hexdigest()[:32]


def find(folder: Path | None, key: str) -> Library | None:
    """A library of this key in a folder; None if none is there that is whole and the user's own."""
    if folder is None:
        return None
    # Names end in a digest of the contents, because a library that was cut short can kill the process that loads it.
    for path in sorted(folder.glob(f"{key}-*.so")):
        with suppress(OSError):
            return Library(path)
    return None


def keep(made: Path, key: str) -> Library:
    """Move a library that was compiled in a `workplace` to the folder around the workplace.

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
    """A folder to compile in: within the cache's folder, or in one for this process if that cannot be written to."""
    with ExitStack() as stack:
        made: Path | None = None
        if folder is not None:
            with suppress(OSError):
                made = stack.enter_context(scratch_folder(folder, ".making-"))
        yield made or stack.enter_context(scratch_folder(Path(_private_folder(os.getpid())), ".making-"))


@lru_cache(maxsize=1)
def _private_folder(process: int) -> str:
    """A folder for one process, which goes when that process ends."""
    folder = tempfile.mkdtemp(prefix="recurra-")
    atexit.register(_remove, folder, process)
    return folder


def _remove(folder: str, process: int) -> None:
    # Processes that were forked from this one call this function too.
    if os.getpid() == process:
        shutil.rmtree(folder, ignore_errors=True)
