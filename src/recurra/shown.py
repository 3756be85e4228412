"""Text as people may see it: what comes from files, names and models must not steer their terminal."""

from __future__ import annotations

import sys
import unicodedata
from contextlib import suppress

__all__ = ["counted", "tell", "visible"]


def visible(text: str, keep: str = "") -> str:
    r"""The text with control characters as escapes (`\x1b`), so that data cannot steer the terminal or break a table.

    Format characters stay: they join emoji and mark the direction of writing.

    Args:
        text: any text.
        keep: control characters to leave as they are, such as line feeds in a text of several lines.
    """
    if text.isprintable():
        return text
    return "".join(
        c.encode("unicode_escape").decode() if c not in keep and unicodedata.category(c) in "Cc Zl Zp" else c
        for c in text
    )


def counted(number: int, noun: str) -> str:
    """A number with its noun: 1 layer, 1,200 layers."""
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def tell(text: str) -> None:
    """Say something to the person at the keyboard, on stderr; results alone go to stdout."""
    # What was printed before comes first, if there is still someone who reads it.
    with suppress(OSError, ValueError, AttributeError):
        sys.stdout.flush()
    print(visible(text, keep="\n\t"), file=sys.stderr, flush=True)
