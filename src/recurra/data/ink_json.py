"""Drawings in JSON: strokes as columns, as QuickDraw has them, or as lists of points."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import DataError
from ..strict_json import read_json
from .ink import Drawing, Stroke, stroke_of
from .json_lines import has_half_pair, under
from .source_files import SourceFile
from .text import name_of, read_lines

__all__ = ["InkKeys", "read_ink_json"]


class InkKeys(NamedTuple):
    """Where a JSON object has what, or of which type the annotations of InkML are.

    In a key, `a.b` is the key b in the object a. None: the first of the usual names that there is, see `USUAL`.

    Attributes:
        strokes: of JSON: the list of strokes.
        label: what was written.
        writer: who wrote it.
        id: the name of the drawing; without one it is the file's name and the number of the line or of the drawing.
        columns: of JSON: whether a stroke is [[x, ...], [y, ...], [t, ...]] instead of [[x, y, t], ...]; None: as far
            as the numbers of values leave a choice, yes under the key `drawing`, as in QuickDraw, and no under others.
    """

    strokes: str | None = None
    label: str | None = None
    writer: str | None = None
    id: str | None = None
    columns: bool | None = None


USUAL = {
    "strokes": ("drawing", "strokes", "ink"),
    "label": ("label", "word", "text", "transcript"),
    "writer": ("writer", "writer_id", "user", "user_id"),
    "id": ("id", "key_id"),
}
"""The names that common files use."""


def read_ink_json(path: Path, by_line: bool, keys: InkKeys, sources: list[SourceFile]) -> Iterator[Drawing]:
    """The drawings of a file.

    Args:
        path: of the file.
        by_line: whether each line is an object; else the file is one object or one list of objects.
        keys: of the objects.
        sources: where the file is put down.

    Raises:
        DataError: if an object is not what it should be.
    """
    name = name_of(path)
    if by_line:
        for number, line in enumerate(read_lines(path, sources), start=1):
            if line.strip():
                yield _drawing(_parsed(line, f"{name}:{number}"), keys, name, number, f"{path.name}-{number}")
        return
    tree = _parsed("\n".join(read_lines(path, sources)), f"{name}:1")
    trees = tree if isinstance(tree, list) else [tree]
    for number, each in enumerate(trees, start=1):
        ending = f"-{number}" if isinstance(tree, list) else ""
        yield _drawing(each, keys, name, 1, f"{path.stem}{ending}")


def _parsed(text: str, where: str) -> Any:
    try:
        return read_json(text)
    except ValueError as error:
        raise DataError(f"{where}: is not JSON ({error}); mend it.") from error


def _drawing(tree: Any, keys: InkKeys, file: str, line: int, name: str) -> Drawing:
    where = f"{file}:{line}"
    if not isinstance(tree, dict):
        raise DataError(f"{where}: the drawing {name} is no JSON object; write its strokes and its label in one.")
    found = {key: _value(tree, key, getattr(keys, key)) for key in USUAL}
    texts: dict[str, str | None] = {}
    for key in ("label", "writer", "id"):
        value = found[key][1]
        if value is not None and (isinstance(value, bool) or not isinstance(value, (str, int))):
            raise DataError(f"{where}: the {key} {value!r} is no text; mend it.")
        texts[key] = None if value is None else str(value)
        if has_half_pair(texts[key] or ""):
            raise DataError(f"{where}: the {key} has half of a surrogate pair, which is no character; mend it.")
    key, strokes = found["strokes"]
    if not isinstance(strokes, list) or not strokes:
        named = keys.strokes or " or ".join(USUAL["strokes"])
        raise DataError(f"{where}: there is no list of strokes under {named}; mend it or name another key.")
    columns = _in_columns(strokes, keys.columns, key, where)
    made = [_stroke(stroke, columns, where) for stroke in strokes]
    timed = all(has_time for _, has_time in made) and any(stroke[:, 2].any() for stroke, _ in made)
    rows = tuple(stroke for stroke, _ in made)
    return Drawing(rows, texts["label"], texts["writer"], timed, texts["id"] or name, file, line)


def _value(tree: Mapping[str, Any], name: str, key: str | None) -> tuple[str, Any]:
    for each in USUAL[name] if key is None else (key,):
        value = under(tree, each)
        if value is not None:
            return each, value
    return "", None


def _in_columns(strokes: list[Any], given: bool | None, key: str, where: str) -> bool:
    """Whether strokes are lists of x, of y and of times; a stroke of two or three points may look like both."""
    if given is not None:
        return given
    if not all(isinstance(stroke, list) and stroke for stroke in strokes):
        raise DataError(f"{where}: a stroke is no list of points, or an empty one; mend it.")
    rows = [row for stroke in strokes for row in stroke]
    if all(isinstance(row, dict) for row in rows):
        return False
    if not all(isinstance(row, list) for row in rows):
        raise DataError(f"{where}: a stroke is no list of lists of numbers; mend it.")
    columns = all(len(stroke) in (2, 3) and len({len(row) for row in stroke}) == 1 for stroke in strokes)
    points = all(len(row) in (2, 3) for row in rows)
    return columns if columns != points else key == "drawing"


def _stroke(stroke: Any, columns: bool, where: str) -> tuple[Stroke, bool]:
    """A stroke, and whether it has times."""
    if not isinstance(stroke, list):
        raise DataError(f"{where}: a stroke is no list; mend it.")
    rows: list[Any] = stroke
    if not columns:
        rows = [[row.get("x"), row.get("y"), row.get("t", 0)] if isinstance(row, dict) else row for row in stroke]
        lengths = {len(row) if isinstance(row, list) else 0 for row in rows}
        if len(lengths) != 1 or not lengths <= {2, 3}:
            raise DataError(f"{where}: the points of a stroke must be [x, y] or [x, y, milliseconds]; mend it.")
        rows = [list(column) for column in zip(*rows, strict=True)]
    if len(rows) not in (2, 3) or not all(isinstance(row, list) for row in rows):
        raise DataError(f"{where}: a stroke must be [[x, ...], [y, ...]] or have times as a third list; mend it.")
    for value in (value for row in rows for value in row):
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise DataError(f"{where}: the coordinate {value!r} of a stroke is no number; mend it.")
    return stroke_of(rows[0], rows[1], rows[2] if len(rows) == 3 else None, where), len(rows) == 3
