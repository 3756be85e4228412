"""Progress bars on stderr."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, ProgressColumn, TextColumn, TimeRemainingColumn

from ..shown import tell

__all__ = ["preparation", "screen_progress"]


def screen_progress(*columns: str | ProgressColumn, **options: Any) -> Progress:
    """Progress on stderr that leaves standard output alone, which rich else draws on its own screen too.

    Args:
        columns, options: as rich.progress.Progress takes them.
    """
    return Progress(*columns, console=Console(stderr=True), redirect_stdout=False, **options)


@contextmanager
def preparation(label: str, shown: bool) -> Iterator[Callable[[int, int], None]]:
    """Progress on stderr for reading data: gives a function to call with the bytes done and the bytes in all."""
    if not shown or not sys.stderr.isatty():
        if shown:
            tell(f"{label} ...")
        yield lambda done, total: None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with screen_progress(*columns, refresh_per_second=2) as progress:
        bar = progress.add_task(label, total=None)
        yield lambda done, total: progress.update(bar, completed=done, total=total)
