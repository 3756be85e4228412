"""A cell of the user's own, FILE.py:CLASS, that travels with the run which it was trained in.

Such a file is a program, and a run may come from anybody. So what lies in a run directory is run only if this user has
trained with a file of the same bytes, or accepted it, before; else the user is asked to look at it and to say so.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from .. import cells
from ..errors import ConfigError, RunError
from .directory import Run

__all__ = ["accept", "is_own", "model_settings", "take_along", "trusting"]

ACCEPTED = "accepted-cells"
_LARGEST = 1 << 20

_trusted: ContextVar[bool] = ContextVar("recurra_trust_cell", default=False)
# Of this process, should the list not be writable.
_accepted: set[str] = set()


@contextmanager
def trusting(on: bool = True) -> Iterator[None]:
    """Accept the cells of all runs that are read while the context lasts, and remember them."""
    token = _trusted.set(on)
    try:
        yield
    finally:
        _trusted.reset(token)


def is_own(config: Any) -> bool:
    """Whether the cell of a configuration is a file of somebody's own."""
    return bool(config.model.cell.rpartition(":")[0].endswith(".py"))


def take_along(config: Any, *, resumed: bool = False) -> tuple[Path | None, Any]:
    """The file of the user's own cell, if any, and the configuration that names it as it lies in the run directory.

    The file is accepted: the user has named it.

    Args:
        config: of a task whose `model` section has a `cell`.
        resumed: whether the run has its file already; no other is then looked for.

    Raises:
        ConfigError: if there is no such cell.
    """
    if not is_own(config):
        return None, config
    path, _, class_name = config.model.cell.rpartition(":")
    file = Path(path)
    model = config.model.model_copy(update={"cell": f"{file.name}:{class_name}"})
    named = config.model_copy(update={"model": model})
    if resumed:
        return None, named
    if file.name != path or file.is_file():
        try:
            cells.get(config.model.cell)
        except ValueError as error:
            raise ConfigError(f"model.cell: {error}") from error
    if not file.is_file():
        return None, named
    accept(file)
    return file, named


def model_settings(run: Run) -> Any:
    """The `model` section of a run with the user's own cell found in its directory, ready to be run.

    Raises:
        RunError: if the cell does not lie in the run directory as a file of its own, or nobody has accepted it.
    """
    config = run.config
    if not is_own(config):
        return config.model
    path, _, class_name = config.model.cell.rpartition(":")
    if Path(path).name != path:
        raise RunError(
            f"{run.path}: its cell {config.model.cell} lies elsewhere; a run brings its own file, named without "
            "folders."
        )
    file = run.path / path
    digest = _digest(_bytes(file))
    if digest not in _accepted and digest not in _kept():
        if not _trusted.get():
            raise RunError(
                f"{file}: this program came with the run and would be run to load it; read it, and if you trust it, "
                "give --trust-cell (in Python trust_cell=True)."
            )
        _keep(digest)
    return config.model.model_copy(update={"cell": f"{file}:{class_name}"})


def accept(file: Path) -> None:
    """Remember that the user trusts a file of these bytes.

    Raises:
        RunError: if it cannot be read.
    """
    _keep(_digest(_bytes(file)))


def _bytes(file: Path) -> bytes:
    """The bytes of a regular file that is no link."""
    try:
        descriptor = os.open(file, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
        with open(descriptor, "rb") as opened:
            if not stat.S_ISREG(os.fstat(opened.fileno()).st_mode) or file.is_symlink():
                raise RunError(f"{file}: is no file of the run's own; a cell's file is no link.")
            content = opened.read(_LARGEST + 1)
            if len(content) > _LARGEST:
                raise RunError(f"{file}: is larger than {_LARGEST:,} bytes, which no cell is.")
            return content
    except OSError as error:
        if file.is_symlink():
            raise RunError(f"{file}: is a link; the file of a run's cell lies in the run itself.") from error
        raise RunError(f"{file}: cannot be read ({error.strerror or error}).") from error


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _folder() -> Path | None:
    # Imports torch, for which a mistake in a command should not have to wait.
    from ..kernels.cpu.own_cache import usable_folder

    return usable_folder()


def _kept() -> set[str]:
    folder = _folder()
    if folder is None:
        return set()
    try:
        return set((folder / ACCEPTED).read_text(encoding="ascii").split())
    except (OSError, ValueError):
        return set()


def _keep(digest: str) -> None:
    _accepted.add(digest)
    folder = _folder()
    if folder is None or digest in _kept():
        return
    # Where it cannot be kept, it is asked for again.
    with suppress(OSError), open(folder / ACCEPTED, "a", encoding="ascii") as file:
        file.write(digest + "\n")
