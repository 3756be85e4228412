"""Pairs of sentences, read from two files, a TSV, a CSV or JSON lines."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import DataError
from ..shown import counted
from ..strict_json import read_json
from .comma_rows import comma_rows
from .json_lines import has_half_pair, under
from .source_files import SourceFile
from .text import expand_paths, read_lines

__all__ = ["Pair", "PairReader", "read_pairs"]


class Pair(NamedTuple):
    """A sentence and its translation."""

    source: str
    target: str


class PairReader:
    """Pairs of two files aligned by line, or both sides from one .tsv, .csv or .jsonl file (.gz too), read one by one.

    Args:
        source, target: files of one sentence a line.
        pairs: a file of both, in their place; - is standard input, lines of a TSV.
        columns: of a TSV, from 1.
        keys: of JSON lines.
        empty: "error", "drop" pairs with an empty side, or "keep" them in their places.

    Attributes:
        dropped: how many were dropped for an empty side, of those read so far.
        files: that were read to their ends.

    Raises:
        DataError: from the iteration, if a file cannot be read or is not UTF-8, the files have not as many lines, there
            are none, or a line is empty, has too few columns, or is not the JSON that it should be; file and line are
            named.
    """

    def __init__(
        self,
        source: str | None,
        target: str | None,
        pairs: str | None,
        *,
        columns: tuple[int, int] = (1, 2),
        keys: tuple[str, str] = ("source", "target"),
        empty: str = "error",
    ) -> None:
        self.dropped = 0
        self.files: list[SourceFile] = []
        self._named = (source, target, pairs)
        self._columns, self._keys, self._empty = columns, keys, empty

    def __iter__(self) -> Iterator[Pair]:
        source, target, pairs = self._named
        self.dropped, self.files = 0, []
        if pairs is not None:
            names = (pairs, pairs)
            found = _both_sides(pairs, self._columns, self._keys, self.files)
        elif source is not None and target is not None:
            names = (source, target)
            found = _aligned(source, target, self.files)
        else:
            raise DataError("No pairs of sentences were named; give a source and a target file, or one of pairs.")
        some = False
        # The first line of a CSV names its columns.
        first = 2 if names[0].lower().removesuffix(".gz").endswith(".csv") and pairs is not None else 1
        for line, pair in enumerate(found, start=first):
            bare = Pair(pair.source.strip(), pair.target.strip())
            if self._empty == "keep" or (bare.source and bare.target):
                some = True
                yield bare
            elif self._empty == "drop":
                self.dropped += 1
            else:
                raise DataError(
                    f"{names[bool(bare.source)]}:{line}: there is no sentence in this line; remove the pair, or leave "
                    "out all such pairs with data.empty_lines=drop in training and --empty-lines drop in recurra "
                    "evaluate."
                )
        if not some:
            raise DataError(f"{names[0]}: there is no pair of sentences in it; give a file with text.")


def read_pairs(
    source: str | None,
    target: str | None,
    pairs: str | None,
    *,
    columns: tuple[int, int] = (1, 2),
    keys: tuple[str, str] = ("source", "target"),
    empty: str = "error",
) -> tuple[list[Pair], int]:
    """All pairs of a `PairReader`, which says what the arguments are, and how many were dropped for an empty side.

    Raises:
        DataError: as `PairReader` does.
    """
    reader = PairReader(source, target, pairs, columns=columns, keys=keys, empty=empty)
    return list(reader), reader.dropped


def _file(name: str) -> Path:
    found = expand_paths([name])
    if len(found) != 1:
        raise DataError(f"{name}: this names {len(found)} files, and lines are paired file by file; name one file.")
    return found[0]


def _aligned(source: str, target: str, read: list[SourceFile]) -> Iterator[Pair]:
    files = _file(source), _file(target)
    sides = [read_lines(file, read) for file in files]
    line = 0
    while True:
        line += 1
        one, other = (next(side, None) for side in sides)
        if one is None and other is None:
            return
        if one is None or other is None:
            (longer, rest), shorter = ((source, sides[0]), target) if other is None else ((target, sides[1]), source)
            count = line + sum(1 for _ in rest)
            raise DataError(
                f"{longer}:{line}: this line has no partner: {shorter} has {line - 1} lines and {longer} has {count}; "
                "the two files must be aligned line by line."
            )
        yield Pair(one, other)


def _both_sides(name: str, columns: tuple[int, int], keys: tuple[str, str], read: list[SourceFile]) -> Iterator[Pair]:
    file = _file(name)
    plain = name.lower().removesuffix(".gz")
    if name != "-" and not plain.endswith((".tsv", ".jsonl", ".csv", ".txt")):
        raise DataError(
            f"{name}: pairs are read from .tsv, .csv or .jsonl files (or .gz of these); rename or convert it."
        )
    if plain.endswith(".csv"):
        yield from _from_csv(name, read_lines(file, read), keys)
        return
    as_json = plain.endswith(".jsonl")
    for line, text in enumerate(read_lines(file, read), start=1):
        yield _from_json(text, keys, (name, line)) if as_json else _from_columns(text, columns, (name, line))


def _from_csv(name: str, lines: Iterator[str], keys: tuple[str, str]) -> Iterator[Pair]:
    """Pairs of a file whose first line names its columns; a row may go on over several lines within quotes."""
    rows = comma_rows(name, lines)
    _, heads = next(rows, (1, []))
    for key in keys:
        if heads.count(key) != 1:
            raise DataError(
                f"{name}:1: the first line names no column {key!r}, or several; it has {', '.join(heads)}; set "
                "data.keys."
            )
    places = [heads.index(key) for key in keys]
    for line, row in rows:
        if row and len(row) != len(heads):
            raise DataError(
                f"{name}:{line}: has {counted(len(row), 'column')}, and the first line {len(heads)}; mend the line."
            )
        yield Pair(*(row[place] for place in places)) if row else Pair("", "")


def _from_columns(text: str, columns: tuple[int, int], place: tuple[str, int]) -> Pair:
    cells = text.split("\t")
    if not text.strip():
        return Pair("", "")
    if len(cells) < max(columns):
        raise DataError(
            f"{place[0]}:{place[1]}: has {counted(len(cells), 'column')}, but the sentences are in columns "
            f"{columns[0]} and {columns[1]}; mend the line or set data.columns."
        )
    return Pair(*(cells[column - 1] for column in columns))


def _from_json(text: str, keys: tuple[str, str], place: tuple[str, int]) -> Pair:
    if not text.strip():
        return Pair("", "")
    try:
        tree = read_json(text)
    except ValueError as error:
        raise DataError(f"{place[0]}:{place[1]}: is not one JSON object ({error}); mend the line.") from error
    values: list[Any] = [under(tree, key) for key in keys]
    for key, value in zip(keys, values, strict=True):
        if not isinstance(value, str):
            raise DataError(
                f"{place[0]}:{place[1]}: there is no text under the key {key!r}; mend the line or set data.keys."
            )
        if has_half_pair(value):
            raise DataError(
                f"{place[0]}:{place[1]}: the text under the key {key!r} has half of a surrogate pair, which is no "
                "character; mend the line."
            )
    return Pair(*values)
