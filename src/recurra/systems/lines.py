"""What verbs share that answer standard input line by line."""

from __future__ import annotations

from collections.abc import Callable, Iterator

__all__ = ["Progress", "after", "groups"]

Progress = Callable[[int, int], None]

# Lines that are read before the first is answered: sorted by length they fill whole batches. Their answers stay until
# they are printed, and what is shown of long lines is large, so their characters are bounded too.
_LINES = 512
_CHARACTERS = 1 << 17


def groups(lines: Iterator[str | None]) -> Iterator[list[str]]:
    """Lines that are there, as many as fit; fewer where the next would have to be waited for, which None says."""
    waiting: list[str] = []
    characters = 0
    for line in lines:
        if line is not None:
            waiting.append(line)
            characters += len(line)
        if waiting and (line is None or len(waiting) == _LINES or characters > _CHARACTERS):
            yield waiting
            waiting, characters = [], 0
    if waiting:
        yield waiting


def after(before: int, progress: Progress) -> Progress:
    """Progress of lines after others; how many there will be in all is not known."""
    return lambda done, total: progress(before + done, 0)
