"""Drawings of InkML documents (W3C 2011), read so that no document can do harm.

An InkML document is XML, and XML can tell its reader to open files or to repeat a text a billion times. Here a document
with a document type is refused, because only that can define entities; documents are bounded in size, in the number of
elements and in how deep they nest, and no address in them is followed.

What is read: traces, in the order of the document, with the channels X, Y and T wherever the trace format has them;
values as numbers, and as first and second differences (`'` and `"`, `!` goes back to numbers); traces that continue
others; traces of the pen in the air are left out. The annotations of the document, those that stand outside of its
traces and groups, give label, writer and name.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from xml.parsers import expat

import numpy as np

from ..errors import DataError
from .ink import Drawing, Stroke, stroke_of
from .ink_json import InkKeys
from .source_files import SourceFile
from .text import name_of, read_blocks

__all__ = ["read_inkml"]

_LARGEST = 1 << 26
_DEEPEST = 64
_MOST_ELEMENTS = 200_000
_LONGEST_TEXT = 10_000

_LABELS = ("truth", "label", "transcription", "transcript", "text")
_WRITERS = ("writer", "writerid", "writer_id")
_IDS = ("ui", "id")

_VALUE = re.compile(r"""\s*([!'"]?)\s*([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?|[-+]?#[0-9A-Fa-f]+|[*?TF])""")
_PER_SECOND = {"ms": 1.0, "s": 1000.0, "us": 0.001, "ns": 1e-6, "": 1.0}


@dataclass
class _Channel:
    name: str
    sign: float
    unit: str


@dataclass
class _Document:
    """What was found in a document so far."""

    name: str
    channels: list[_Channel] = field(default_factory=list)
    strokes: list[tuple[Stroke, bool]] = field(default_factory=list)
    ids: dict[str, int] = field(default_factory=dict)
    annotations: dict[str, str] = field(default_factory=dict)
    elements: int = 0
    path: list[str] = field(default_factory=list)
    formats: int = 0
    text: list[str] | None = None
    attributes: dict[str, str] = field(default_factory=dict)
    line: int = 0


def read_inkml(path: Path, keys: InkKeys, sources: list[SourceFile]) -> Iterator[Drawing]:
    """The drawing of a document.

    Args:
        path: of the file.
        keys: the types of the annotations with label, writer and name.
        sources: where the file is put down.

    Raises:
        DataError: if the file is not XML, has a document type, is too large or nests too deeply, a trace cannot be
            read, or there is none.
    """
    name = name_of(path)
    document = _Document(name)
    parser = expat.ParserCreate(namespace_separator=" ")
    parser.buffer_text = True
    _connect(parser, document)
    size = 0
    try:
        for block in read_blocks(path, sources=sources):
            size += len(block)
            if size > _LARGEST:
                raise DataError(f"{name}: has more than {_LARGEST >> 20} MiB, too much for one drawing; cut it up.")
            parser.Parse(block, not block)
    except expat.ExpatError as error:
        raise DataError(f"{name}:{error.lineno}: is not XML ({expat.ErrorString(error.code)}); mend it.") from error
    if not document.strokes:
        raise DataError(f"{name}:1: there is no trace of a pen in this document; name another.")
    found = document.annotations
    label = _annotation(found, keys.label, _LABELS)
    timed = all(has_time for _, has_time in document.strokes)
    strokes = tuple(stroke for stroke, _ in document.strokes)
    yield Drawing(
        strokes,
        label,
        _annotation(found, keys.writer, _WRITERS),
        timed and any(stroke[:, 2].any() for stroke in strokes),
        _annotation(found, keys.id, _IDS) or path.stem,
        name,
        1,
    )


def _annotation(found: dict[str, str], key: str | None, usual: tuple[str, ...]) -> str | None:
    if key is not None:
        return found.get(key.lower())
    return next((found[name] for name in usual if name in found), None)


def _connect(parser: expat.XMLParserType, document: _Document) -> None:
    name = document.name

    def begin(tag: str, attributes: dict[str, str]) -> None:
        kind = tag.rpartition(" ")[2]
        document.elements += 1
        document.path.append(kind)
        if len(document.path) > _DEEPEST or document.elements > _MOST_ELEMENTS:
            raise DataError(
                f"{name}:{parser.CurrentLineNumber}: nests more than {_DEEPEST} elements or has more than "
                f"{_MOST_ELEMENTS:,}, which no drawing needs; name another file."
            )
        if len(document.path) == 1 and kind != "ink":
            raise DataError(
                f"{name}:{parser.CurrentLineNumber}: begins with <{kind[:40]}> instead of <ink>; give InkML."
            )
        if kind == "traceFormat":
            document.formats += 1
        # What stands behind further formats belongs to other devices.
        if kind == "channel" and document.formats == 1 and "intermittentChannels" not in document.path:
            sign = -1.0 if attributes.get("orientation") == "-ve" else 1.0
            document.channels.append(_Channel(attributes.get("name", ""), sign, attributes.get("units", "")))
        if kind in ("trace", "annotation"):
            document.text, document.attributes, document.line = [], attributes, parser.CurrentLineNumber

    def characters(text: str) -> None:
        if document.text is not None:
            document.text.append(text)

    def end(tag: str) -> None:
        kind = document.path.pop()
        if kind not in ("trace", "annotation") or document.text is None:
            return
        text, document.text = "".join(document.text), None
        if kind == "trace":
            _add_trace(document, text)
        elif document.path == ["ink"]:
            document.annotations.setdefault(document.attributes.get("type", "").lower(), text.strip()[:_LONGEST_TEXT])

    def refuse(*_: object) -> None:
        raise DataError(
            f"{name}:{parser.CurrentLineNumber}: the document has a document type, which can make its reader open "
            "other files; take the <!DOCTYPE ...> out."
        )

    parser.StartElementHandler = begin
    parser.EndElementHandler = end
    parser.CharacterDataHandler = characters
    parser.StartDoctypeDeclHandler = refuse
    parser.EntityDeclHandler = refuse


def _add_trace(document: _Document, text: str) -> None:
    where = f"{document.name}:{document.line}"
    attributes = document.attributes
    if attributes.get("type") == "penUp" or not text.strip():
        return
    channels = document.channels or [_Channel("X", 1.0, ""), _Channel("Y", 1.0, "")]
    names = [channel.name.upper() for channel in channels]
    if "X" not in names or "Y" not in names:
        raise DataError(f"{where}: the trace format names no channel X or no channel Y; mend it.")
    rows = _points(text, len(channels), where)
    columns = {}
    for name in ("X", "Y", "T"):
        if name in names:
            place = names.index(name)
            scale = channels[place].sign
            if name == "T":
                scale = _PER_SECOND.get(channels[place].unit, 1.0)
            columns[name] = [scale * row[place] for row in rows]
    stroke = stroke_of(columns["X"], columns["Y"], columns.get("T"), where)
    before = document.ids.get(attributes.get("priorRef", "").removeprefix("#"))
    if attributes.get("continuation") in ("middle", "end") and before is not None:
        joined = np.concatenate([document.strokes[before][0], stroke])
        document.strokes[before] = (joined, "T" in columns)
    else:
        before = len(document.strokes)
        document.strokes.append((stroke, "T" in columns))
    for key, value in attributes.items():
        if key.rpartition(" ")[2] == "id":
            document.ids[value] = before


def _points(text: str, channels: int, where: str) -> list[list[float]]:
    """The values of a trace, a row of `channels` numbers for each point."""
    rows: list[list[float]] = []
    # Of each channel: how its values are given, the last number that was given, the last value and difference.
    ways, given, values, speeds = [""] * channels, [0.0] * channels, [0.0] * channels, [0.0] * channels
    for point in text.strip().strip(",").split(","):
        place = start = 0
        while place < channels:
            found = _VALUE.match(point, start)
            if found is None:
                raise DataError(
                    f"{where}: the point {point.strip()[:60]!r} of a trace has no {channels} numbers; mend it."
                )
            mark, value = found.groups()
            start = found.end()
            ways[place] = {"!": "", "": ways[place]}.get(mark, mark)
            number = given[place] = given[place] if value == "*" else _number(value, where)
            if ways[place] == "'":
                speeds[place] = number
                number += values[place]
            elif ways[place] == '"':
                speeds[place] += number
                number = values[place] + speeds[place]
            values[place] = number
            place += 1
        rows.append(list(values))
    return rows


def _number(value: str, where: str) -> float:
    if value in "?TF":
        # Unknown values and buttons; a coordinate of this kind is refused with the stroke.
        return {"T": 1.0, "F": 0.0}.get(value, float("nan"))
    if "#" in value:
        return float(int(value.replace("#", ""), 16))
    return float(value)
