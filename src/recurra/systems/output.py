"""What a verb of a system gives: results for people and for programs, and remarks; the command line prints them.

A verb is a generator of these. With --json only the values of `Record` are printed, one a line; else the texts.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from ..decoding.word_scores import WordScore

__all__ = ["Note", "Output", "Pairs", "Record", "Shaded", "Table", "Text", "word_table", "word_values"]


@dataclass(frozen=True)
class Record:
    """One answer: a value that JSON can hold, and the line that stands for it in plain output; None: no line."""

    json: Any
    line: str | None = None


@dataclass(frozen=True)
class Table:
    """Rows under their headings, for people."""

    columns: Sequence[str]
    rows: Iterable[Sequence[str]]


@dataclass(frozen=True)
class Pairs:
    """Names and values in two columns, for people."""

    rows: Iterable[tuple[str, str]]


@dataclass(frozen=True)
class Text:
    """Text for people, as it is written."""

    text: str
    end: str = "\n"


@dataclass(frozen=True)
class Note:
    """A remark for the person at the keyboard, on stderr."""

    text: str


@dataclass(frozen=True)
class Shaded:
    """Pieces of a text for people, each with a number: coloured by it on a terminal, and with it elsewhere."""

    pieces: Sequence[tuple[str, float]]


def word_values(words: Sequence[WordScore]) -> list[dict[str, Any]]:
    """The scores of a text's words as JSON holds them."""
    return [word._asdict() for word in words]


def word_table(texts: Iterable[tuple[int, Sequence[WordScore]]]) -> Table:
    """The scores of words for people: of texts, each with the number of its line."""
    rows = [[str(line), f"{value:.3f}", word] for line, words in texts for word, value in words]
    return Table(["line", "log-probability", "word"], rows)


Output = Record | Table | Pairs | Text | Shaded | Note
