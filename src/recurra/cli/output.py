"""Results on stdout: aligned tables for people, one JSON value a line for programs."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterable, Sequence
from typing import Any

from ..shown import visible

__all__ = ["print_json", "print_pairs", "print_shaded", "print_table", "show"]

# JSON itself writes only those below 32 as escapes.
_CONTROLS = {code: f"\\u{code:04x}" for code in (*range(0x7F, 0xA0), 0x2028, 0x2029)}


def print_json(value: Any) -> None:
    """Print one JSON value on one line; numbers that JSON has no word for (inf, nan) become null.

    Control characters are escapes, which stand for the same text and cannot steer a terminal.
    """
    print(json.dumps(_finite(value), ensure_ascii=False, allow_nan=False).translate(_CONTROLS), flush=True)


def show(text: str, end: str = "\n") -> None:
    """Print a text of one or more lines, such as a model wrote, that cannot steer a terminal."""
    print(visible(text, keep="\n\t"), end=end, flush=True)


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print rows under their headings; a column whose cells are all numbers is aligned to the right.

    Nothing is cut off: a narrow terminal wraps, and a pipe gets everything. Wide characters (CJK) count as two.
    """
    from rich.cells import cell_len

    table = [[visible(cell) for cell in row] for row in rows]
    numeric = [all(_is_number(row[i]) for row in table) for i in range(len(columns))]
    table.insert(0, list(columns))
    widths = [max(cell_len(row[i]) for row in table) for i in range(len(columns))]
    for row in table:
        cells = []
        for cell, width, right in zip(row, widths, numeric, strict=True):
            space = " " * (width - cell_len(cell))
            cells.append(space + cell if right else cell + space)
        print("  ".join(cells).rstrip())


def print_pairs(pairs: Iterable[tuple[str, str]]) -> None:
    """Print names and values in two columns."""
    rows = list(pairs)
    width = max((len(name) for name, _ in rows), default=0)
    for name, value in rows:
        print(f"{name:<{width}}  {visible(value)}")


def print_shaded(pieces: Sequence[tuple[str, float]]) -> None:
    """Print pieces of a text on one line.

    On a terminal an orange ground shows a positive number and a blue one a negative, the stronger the larger. Elsewhere
    each piece has its number behind it.
    """
    if not sys.stdout.isatty():
        print(" ".join(f"{visible(piece.strip())}({value:+.3f})" for piece, value in pieces), flush=True)
        return
    from rich.console import Console
    from rich.text import Text

    strongest = max((abs(value) for _, value in pieces), default=0.0) or 1.0
    line = Text()
    for piece, value in pieces:
        share = abs(value) / strongest
        ground = _blend((230, 130, 20) if value > 0 else (50, 110, 220), share)
        line.append(visible(piece), style=f"black on {ground}" if share >= 0.05 else "")
    Console(highlight=False, soft_wrap=True).print(line)


def _blend(colour: tuple[int, int, int], share: float) -> str:
    """A colour mixed with white, as rich names it."""
    return "#" + "".join(f"{round(255 + (part - 255) * share):02x}" for part in colour)


def _is_number(text: str) -> bool:
    return bool(text) and text.strip("+-0123456789.,e% ") in ("", "inf", "nan")


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    return value
