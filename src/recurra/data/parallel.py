"""Pairs of sentences: read from two files, a TSV or JSON lines, tokenised, filtered by length, kept and batched."""

from __future__ import annotations

import csv
import struct
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ..errors import DataError, RunError
from ..files import regular, unwritten
from ..strict_json import read_json
from .json_lines import has_half_pair, under
from .sentences import SentenceTokenizer
from .source_files import SourceFile
from .text import expand_paths, read_lines

__all__ = ["Pair", "PairReader", "ParallelCorpus", "read_pairs"]


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
    rows = csv.reader((f"{line}\n" for line in lines), strict=True)
    try:
        heads = next(rows, [])
        for key in keys:
            if heads.count(key) != 1:
                raise DataError(
                    f"{name}:1: the first line names no column {key!r}, or several; it has {', '.join(heads)}; set "
                    "data.keys."
                )
        places = [heads.index(key) for key in keys]
        for row in rows:
            if row and len(row) != len(heads):
                raise DataError(
                    f"{name}:{rows.line_num}: has {len(row)} columns, and the first line {len(heads)}; mend the line."
                )
            yield Pair(*(row[place] for place in places)) if row else Pair("", "")
    except csv.Error as error:
        raise DataError(f"{name}:{rows.line_num}: is not CSV ({error}); mend the line.") from error


def _from_columns(text: str, columns: tuple[int, int], place: tuple[str, int]) -> Pair:
    cells = text.split("\t")
    if not text.strip():
        return Pair("", "")
    if len(cells) < max(columns):
        raise DataError(
            f"{place[0]}:{place[1]}: has {len(cells)} columns, but the sentences are in columns {columns[0]} and "
            f"{columns[1]}; mend the line or set data.columns."
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


class ParallelCorpus:
    """Tokenised pairs, each side one row of ids with the place where each sentence begins.

    Args:
        source, target: ids of all sentences one after another, without ends.
        source_starts, target_starts: (pairs + 1,), where each sentence begins; the last is the number of ids.
        characters: of all targets, a line end each included.
        fingerprint: of the tokenizers that made it.
    """

    files: tuple[SourceFile, ...] = ()
    """Which files the pairs come from is not known."""

    def __init__(
        self,
        source: npt.NDArray[np.uint32],
        source_starts: npt.NDArray[np.int64],
        target: npt.NDArray[np.uint32],
        target_starts: npt.NDArray[np.int64],
        characters: int = 0,
        fingerprint: str = "",
    ) -> None:
        self.source, self.source_starts = source, source_starts
        self.target, self.target_starts = target, target_starts
        self.characters = characters
        self.fingerprint = fingerprint

    @classmethod
    def of(cls, pairs: Sequence[Pair], source: SentenceTokenizer, target: SentenceTokenizer) -> ParallelCorpus:
        """Tokenise pairs."""
        sides = [
            _joined(tokenizer.encode(sentence) for sentence in side)
            for tokenizer, side in ((source, [p.source for p in pairs]), (target, [p.target for p in pairs]))
        ]
        characters = sum(len(target.tokenizer.normalize(pair.target)) + 1 for pair in pairs)
        return cls(*sides[0], *sides[1], characters, fingerprint(source, target))

    def __len__(self) -> int:
        return len(self.source_starts) - 1

    @property
    def source_lengths(self) -> npt.NDArray[np.int64]:
        """Tokens of each source, without its end."""
        return np.diff(self.source_starts)

    @property
    def target_lengths(self) -> npt.NDArray[np.int64]:
        """Tokens of each target, without its end."""
        return np.diff(self.target_starts)

    @property
    def target_tokens(self) -> int:
        """Tokens of all targets, without their ends."""
        return len(self.target)

    def fits(self, source_size: int, target_size: int) -> bool:
        """Whether all ids lie in vocabularies of these sizes."""
        return all(
            not len(ids) or int(ids.max()) < size
            for ids, size in ((self.source, source_size), (self.target, target_size))
        )

    def pair(self, index: int) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.uint32]]:
        """The ids of one pair."""
        source = self.source[self.source_starts[index] : self.source_starts[index + 1]]
        return source, self.target[self.target_starts[index] : self.target_starts[index + 1]]

    def kept(self, max_length: int, max_ratio: float | None) -> tuple[ParallelCorpus, dict[str, int]]:
        """The pairs that are short enough and of like enough lengths, and how many were dropped for each reason.

        Args:
            max_length: most tokens on a side.
            max_ratio: most that the longer side may have over the shorter; None: any.
        """
        fits, dropped = fitting(self.source_lengths, self.target_lengths, max_length, max_ratio)
        keep = np.flatnonzero(fits)
        if len(keep) == len(self):
            return self, dropped
        if not len(keep):
            raise all_dropped(dropped, len(self))
        chosen = [self.pair(int(index)) for index in keep]
        sides = [_joined(pair[side] for pair in chosen) for side in (0, 1)]
        share = len(sides[1][0]) / max(len(self.target), 1)
        return ParallelCorpus(*sides[0], *sides[1], round(self.characters * share), self.fingerprint), dropped

    def save(self, path: Path) -> None:
        """Write the corpus, aside and renamed.

        Raises:
            RunError: if it cannot be written.
        """
        aside = path.with_name(f".{path.name}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with open(aside, "wb") as file:
                np.savez(
                    file,
                    source=self.source,
                    source_starts=self.source_starts,
                    target=self.target,
                    target_starts=self.target_starts,
                    characters=np.int64(self.characters),
                    fingerprint=np.array(self.fingerprint),
                )
            aside.replace(path)
        except OSError as error:
            aside.unlink(missing_ok=True)
            raise RunError(f"{path}: the tokenised pairs cannot be written {unwritten(error)}.") from error

    @classmethod
    def open(cls, path: Path) -> ParallelCorpus:
        """Read what `save` wrote.

        Raises:
            RunError: if it is missing or damaged.
        """
        try:
            with np.load(regular(path), allow_pickle=False) as file:
                parts = {name: file[name] for name in file.files}
            sides = [_side(parts[name], parts[f"{name}_starts"]) for name in ("source", "target")]
            if len(sides[0][1]) != len(sides[1][1]):
                raise ValueError("the two sides have different numbers of sentences")
            characters, made_by = parts["characters"], parts["fingerprint"]
            if characters.shape or characters.dtype.kind != "i" or made_by.shape or made_by.dtype.kind != "U":
                raise ValueError("the number of characters or the fingerprint is damaged")
            return cls(*sides[0], *sides[1], int(characters), str(made_by))
        except (OSError, ValueError, KeyError, EOFError, *_DAMAGE) as error:
            raise RunError(f"{path}: the tokenised pairs cannot be read ({error}); prepare them again.") from error


# Raised for damaged archives, besides OSError and ValueError.
_DAMAGE = (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, struct.error, SyntaxError)


def _side(ids: npt.NDArray[Any], starts: npt.NDArray[Any]) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.int64]]:
    if ids.ndim != 1 or ids.dtype != np.uint32 or starts.ndim != 1 or starts.dtype != np.int64:
        raise ValueError("its tokens are damaged")
    if len(starts) < 2 or starts[0] != 0 or starts[-1] != len(ids) or (starts[1:] < starts[:-1]).any():
        raise ValueError("the starts of its sentences are damaged")
    return ids, starts


def fingerprint(source: SentenceTokenizer, target: SentenceTokenizer) -> str:
    """Equal for tokenizers of both sides that do the same."""
    return f"{source.tokenizer.fingerprint} {target.tokenizer.fingerprint}"


def fitting(
    sources: npt.NDArray[np.int64], targets: npt.NDArray[np.int64], max_length: int, max_ratio: float | None
) -> tuple[npt.NDArray[np.bool_], dict[str, int]]:
    """Which pairs are short enough and of like enough lengths, and how many are not for each reason.

    Args:
        sources, targets: (pairs,), tokens of each side.
        max_length: most tokens on a side.
        max_ratio: most that the longer side may have over the shorter; None: any.
    """
    longer, shorter = np.maximum(sources, targets), np.minimum(sources, targets)
    long = longer > max_length
    blank = shorter == 0
    unlike = np.zeros_like(long)
    if max_ratio is not None:
        unlike = ~long & ~blank & (longer > max_ratio * shorter)
    dropped = {
        "too_long": int(long.sum()),
        "unlike_lengths": int(unlike.sum()),
        "no_tokens": int((blank & ~long).sum()),
    }
    return ~(long | unlike | blank), dropped


def all_dropped(dropped: dict[str, int], total: int) -> DataError:
    """What is raised where no training pair is left."""
    return DataError(
        f"All {total} training pairs were dropped for their lengths ({_reasons(dropped)}); raise data.max_length or "
        "data.max_length_ratio."
    )


def describe_dropped(dropped: dict[str, int], total: int) -> str:
    """One sentence on the pairs that were left out; empty where none was."""
    return (
        f"{sum(dropped.values()):,} of {total:,} training pairs are left out: {_reasons(dropped)}."
        if any(dropped.values())
        else ""
    )


_REASONS = {
    "empty": "with an empty side",
    "too_long": "longer than data.max_length",
    "unlike_lengths": "beyond data.max_length_ratio",
    "no_tokens": "without tokens on a side",
}


def _reasons(dropped: dict[str, int]) -> str:
    return ", ".join(f"{count:,} {_REASONS[name]}" for name, count in dropped.items() if count)


def _joined(rows: Iterable[Any]) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.int64]]:
    kept = [np.asarray(row, np.uint32) for row in rows]
    starts = np.zeros(len(kept) + 1, np.int64)
    np.cumsum([len(row) for row in kept], out=starts[1:])
    return (np.concatenate(kept) if kept else np.empty(0, np.uint32)), starts
