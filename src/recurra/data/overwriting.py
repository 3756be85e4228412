"""Files that are to be written must not be those that are read."""

from __future__ import annotations

import glob
from collections.abc import Iterable
from pathlib import Path

from ..errors import ConfigError

__all__ = ["refuse_overwriting"]


def refuse_overwriting(output: str | Path, inputs: Iterable[str | Path | None]) -> None:
    """Raise ConfigError if a file that is to be written is one of those that are read, by whatever name or link."""
    path = Path(output)
    for given in inputs:
        if given is None or str(given) == "-" or not path.exists():
            continue
        for read in glob.glob(str(given), recursive=True) if glob.has_magic(str(given)) else [given]:  # noqa: PTH207
            if Path(read).exists() and path.samefile(read):
                raise ConfigError(
                    f"{path}: is read as {read}, and writing to it would destroy that; name another file."
                )
