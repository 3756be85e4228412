"""Texts with their labels, read from the forms in which people keep them.

| form | what it is |
|---|---|
| tsv | columns parted by tabs, the first the label and the second the text, unless others are named |
| csv | the same parted by commas, with quotes; the first line names the columns |
| jsonl | one JSON object a line, with the keys `label` and `text`, unless others are named |
| fasttext | lines that begin with `__label__NAME`, once for each label, and go on with the text |
| folder | a folder for each label, with one text in each file |
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import DataError
from ..shown import counted, visible
from ..strict_json import read_json
from .comma_rows import comma_rows
from .json_lines import has_half_pair, under
from .source_files import SourceFile
from .text import expand_paths, read_lines

__all__ = ["FORMS", "Labelled", "LabelledReader"]

FORMS = ("tsv", "csv", "jsonl", "fasttext", "folder")

_MARK = "__label__"
_HEADS = ["label", "text"]
"""The first line of a TSV that can be nothing but the names of its columns."""
_ENDINGS = {".tsv": "tsv", ".txt": "tsv", ".csv": "csv", ".jsonl": "jsonl"}
_Place = tuple[str, int]


class Labelled(NamedTuple):
    """A text with what is known of it.

    Attributes:
        text: as it was read; line ends in it are white space.
        labels: its labels; none for a number.
        number: what is to be predicted, where that is a number.
        line: of its file, from 1.
        file: that it stands in.
    """

    text: str
    labels: tuple[str, ...]
    number: float | None
    line: int
    file: str


class LabelledReader:
    """The labelled texts of files, one after another.

    Args:
        paths: files, globs or folders; a folder for the form `folder`.
        kind: "single-label", "multi-label" or "regression".
        form: one of `FORMS`; None: told by the name's ending, and for lines of text by how the first one begins.
        label, text: columns of a table by name or by number from 1, or keys of JSON lines, where `a.b` is the key b in
            the object a; None: the first and the second column of a TSV, else `label` and `text`.
        header: whether the first line of a table names its columns; None: yes in a CSV, where a
            name is given, and where the line is `label` and `text`.
        separator: between several labels in one column of a table.

    Attributes:
        files: that were read to their ends.

    Raises:
        DataError: from the iteration, if a file cannot be read or is not UTF-8, or a line is not what it should be;
            file and line are named.
    """

    def __init__(
        self,
        paths: Sequence[str],
        kind: str,
        *,
        form: str | None = None,
        label: str | None = None,
        text: str | None = None,
        header: bool | None = None,
        separator: str = ",",
    ) -> None:
        self.files: list[SourceFile] = []
        self._paths, self._kind, self._form = list(paths), kind, form
        self._label, self._text, self._header = label, text, header
        self._separator = separator

    def __iter__(self) -> Iterator[Labelled]:
        self.files = []
        some = False
        for path in self._paths:
            for example in self._of_path(path):
                some = True
                yield example
        if not some:
            raise DataError(f"{', '.join(self._paths) or 'data'}: there is no labelled text in it; name other files.")

    def _of_path(self, path: str) -> Iterator[Labelled]:
        if self._form == "folder" or (self._form is None and Path(path).is_dir()):
            yield from self._of_folder(path)
            return
        for file in expand_paths([path]):
            name = path if path == "-" else str(file)
            lines = read_lines(file, self.files)
            form = self._form or _ENDINGS.get(
                Path(name.lower().removesuffix(".gz")).suffix, "tsv" if name == "-" else ""
            )
            if not form:
                raise DataError(
                    f"{name}: labelled texts are read from .tsv, .txt, .csv and .jsonl files (or .gz of these) and "
                    "from folders; rename it, or set data.form."
                )
            first = next(lines, None)
            if first is None:
                continue
            if self._form is None and form == "tsv" and first.startswith(_MARK):
                form = "fasttext"
            lines = chain([first], lines)
            if form == "fasttext":
                yield from self._of_marked_lines(name, lines)
            elif form == "jsonl":
                yield from self._of_objects(name, lines)
            else:
                yield from self._of_table(name, lines, form)

    def _of_folder(self, path: str) -> Iterator[Labelled]:
        folder = Path(path).expanduser()
        if not folder.is_dir():
            raise DataError(f"{path}: is no folder; name one that holds a folder for each label.")
        groups = sorted(each for each in folder.iterdir() if each.is_dir() and not each.name.startswith("."))
        if not groups:
            raise DataError(f"{path}: holds no folders; there must be one for each label, with a text in each file.")
        for group in groups:
            for file in expand_paths([str(group)]):
                yield self._made("\n".join(read_lines(file, self.files)), group.name, (str(file), 1))

    def _of_marked_lines(self, name: str, lines: Iterator[str]) -> Iterator[Labelled]:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            # fastText takes such a word for a label wherever it stands.
            words = line.split()
            labels = [word.removeprefix(_MARK) for word in words if word.startswith(_MARK)]
            yield self._made(" ".join(word for word in words if not word.startswith(_MARK)), labels, (name, number))

    def _of_objects(self, name: str, lines: Iterator[str]) -> Iterator[Labelled]:
        label_key, text_key = self._label or "label", self._text or "text"
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                tree = read_json(line)
            except ValueError as error:
                raise DataError(f"{name}:{number}: is not one JSON object ({error}); mend the line.") from error
            text, label = under(tree, text_key), under(tree, label_key)
            if not isinstance(text, str):
                raise DataError(
                    f"{name}:{number}: there is no text under the key {text_key!r}; mend the line or set data.text."
                )
            if label is None and self._kind != "multi-label":
                raise DataError(
                    f"{name}:{number}: there is no label under the key {label_key!r}; mend the line or set data.label."
                )
            yield self._made(text, label, (name, number))

    def _of_table(self, name: str, lines: Iterator[str], form: str) -> Iterator[Labelled]:
        by_name = form == "csv" and self._header is not False
        chosen = [self._label or ("label" if by_name else "1"), self._text or ("text" if by_name else "2")]
        rows = filter(_is_filled, comma_rows(name, lines)) if form == "csv" else _tab_rows(lines)
        has_header = by_name or not all(map(str.isdecimal, chosen)) if self._header is None else self._header
        heads: list[str] | None = None
        places: list[int] | None = None
        for number, row in rows:
            if places is None and self._header is None and [cell.strip().lower() for cell in row] == _HEADS:
                has_header, chosen = True, ["1", "2"]
            if places is None:
                heads = row if has_header else None
                places = [_place(column, row, heads, (name, number)) for column in chosen]
                width = len(row)
                if has_header:
                    continue
            if len(row) != width:
                raise DataError(
                    f"{name}:{number}: has {counted(len(row), 'column')}, and the first line has {width}; mend the "
                    "line."
                )
            label, text = (row[place] for place in places)
            yield self._made(text, label, (name, number))

    def _made(self, text: str, given: Any, place: _Place) -> Labelled:
        where = f"{place[0]}:{place[1]}"
        if has_half_pair(text):
            raise DataError(f"{where}: the text has half of a surrogate pair, which is no character; mend it.")
        if self._kind == "regression":
            return Labelled(text, (), _number(given, where), place[1], place[0])
        labels = [_label(each, where) for each in self._several(given)]
        if self._kind == "single-label" and len(labels) != 1:
            if not labels:
                raise DataError(f"{where}: the text has no label; give it one, or set data.kind=multi-label.")
            raise DataError(f"{where}: the text has {len(labels)} labels; leave one, or set data.kind=multi-label.")
        return Labelled(text, tuple(dict.fromkeys(labels)), None, place[1], place[0])

    def _several(self, given: Any) -> list[Any]:
        if given is None:
            return []
        if isinstance(given, list):
            return given
        if isinstance(given, str) and self._kind == "multi-label":
            return [part for part in given.split(self._separator) if part.strip()]
        return [given] if str(given).strip() else []


def _is_filled(row: tuple[int, list[str]]) -> bool:
    return bool(row[1])


def _tab_rows(lines: Iterator[str]) -> Iterator[tuple[int, list[str]]]:
    for number, line in enumerate(lines, start=1):
        if line.strip():
            yield number, line.split("\t")


def _place(column: str, row: Sequence[str], heads: Sequence[str] | None, place: _Place) -> int:
    """The place from 0 of a column that is named or numbered."""
    where = f"{place[0]}:{place[1]}"
    if heads is not None and column in heads:
        if heads.count(column) > 1:
            raise DataError(f"{where}: names {heads.count(column)} columns {column!r}; say its number in data.label.")
        return heads.index(column)
    if not column.isdecimal():
        raise DataError(
            f"{where}: the first line names no column {column!r}; it has {', '.join(row)}; set data.label and "
            "data.text."
        )
    if not 1 <= int(column) <= len(row):
        raise DataError(
            f"{where}: has {counted(len(row), 'column')}, parted by tabs in a TSV and by commas in a CSV, and no "
            f"column {column}; mend the line, or set data.label and data.text."
        )
    return int(column) - 1


def _label(given: Any, where: str) -> str:
    if isinstance(given, bool):
        return str(given).lower()
    if not isinstance(given, str | int):
        raise DataError(f"{where}: a label is {given!r}, which is neither a text nor a whole number; mend it.")
    label = str(given).strip()
    # Answers are lines with the label before a tab.
    if not label or visible(label) != label:
        raise DataError(
            f"{where}: the label {label!r} is empty or has a tab, line end or control character; rename it."
        )
    return label


def _number(given: Any, where: str) -> float:
    try:
        if isinstance(given, bool | list | dict):
            raise ValueError
        value = float(given)
    except (TypeError, ValueError):
        raise DataError(f"{where}: {given!r} is not a number, which data.kind=regression learns; mend it.") from None
    if not math.isfinite(value):
        raise DataError(f"{where}: {given!r} is no finite number; mend it or leave out the text.")
    return value
