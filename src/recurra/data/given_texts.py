"""What callers from Python hand over as texts."""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["listed"]


def listed(several: Iterable[str]) -> list[str]:
    """Texts as a list.

    Raises:
        TypeError: for one string, which would be taken letter by letter, and for what holds anything but strings.
    """
    if isinstance(several, str):
        raise TypeError("this takes a list of texts, and one string would be taken letter by letter; put it in a list")
    texts = list(several)
    for number, text in enumerate(texts):
        if not isinstance(text, str):
            raise TypeError(f"text {number} is of type {type(text).__name__}, not a string")
    return texts
