"""Drawings in every form, hostile documents among them."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recurra.data.ink import Drawing
from recurra.data.ink_reader import InkKeys, InkReader
from recurra.errors import ConfigError, DataError

OMNIGLOT = os.environ.get("RECURRA_OMNIGLOT")
"""The strokes of Omniglot, where someone has them."""


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode())
    return path


def one(path: Path, **options: Any) -> Drawing:
    (drawing,) = InkReader(path, **options)
    return drawing


def lists(drawing: Drawing) -> list[list[list[float]]]:
    return [stroke.tolist() for stroke in drawing.strokes]


EXPECTED = [[[1.0, 2.0, 0.0], [3.0, 4.5, 10.0]], [[5.0, 6.0, 30.0]]]
INKML = """<?xml version="1.0" encoding="UTF-8"?>
<ink xmlns="http://www.w3.org/2003/InkML">
  <traceFormat><channel name="X" type="decimal"/><channel name="Y"/><channel name="T" units="ms"/></traceFormat>
  <annotation type="UI">2011_x_1</annotation>
  <annotation type="truth"> $x&lt;1$ </annotation>
  <annotation type="writer">w7</annotation>
  <trace id="0">1 2 0, 3 4.5 10</trace>
  <trace id="1">
    5 6 30
  </trace>
  <traceGroup xml:id="2"><annotation type="truth">Segmentation</annotation>
    <traceGroup><annotation type="truth">x</annotation><traceView traceDataRef="0"/></traceGroup></traceGroup>
</ink>
"""


def test_inkml(tmp_path: Path) -> None:
    path = write(tmp_path, "a.inkml", INKML)
    drawing = one(path)
    assert lists(drawing) == EXPECTED
    assert drawing[1:] == ("$x<1$", "w7", True, "2011_x_1", str(path), 1)
    assert (drawing.where, drawing.points) == (f"{path}:1", 3)
    assert one(path, keys=InkKeys(label="writer")).label == "w7"
    assert one(path, keys=InkKeys(label="none"), need_label=False).label is None


def traces(form: str, *texts: str, more: str = "") -> str:
    inner = "".join(f"<trace>{text}</trace>" for text in texts)
    return f'<ink><annotation type="truth">a</annotation>{form}{inner}{more}</ink>'


@pytest.mark.parametrize(
    ("form", "text", "expected"),
    [
        ("", "1 2,3 4", [[1, 2, 0], [3, 4, 0]]),
        ("", "1-2,3.5-4e1", [[1, -2, 0], [3.5, -40, 0]]),
        # First differences from the second point on, then second differences, as in section 3.2.1 of InkML.
        ("", "1125 18432,'23'43,\"7\"-8,3-5,7 -3,6 2,6 8,3 6 T,2 4*T,3 6,3-6 F F",
         [[1125, 18432, 0], [1148, 18475, 0], [1178, 18510, 0], [1211, 18540, 0], [1251, 18567, 0], [1297, 18596, 0],
          [1349, 18633, 0], [1404, 18676, 0], [1461, 18723, 0], [1521, 18776, 0], [1584, 18823, 0]]),
        ("", "10 10,'1 '2,!5 !5,* *", [[10, 10, 0], [11, 12, 0], [5, 5, 0], [5, 5, 0]]),
        ("", "10 10,'1 '2,* *", [[10, 10, 0], [11, 12, 0], [12, 14, 0]]),
        ("", "#A -#f", [[10, -15, 0]]),
        ('<traceFormat><channel name="T" units="s"/><channel name="F"/><channel name="Y" orientation="-ve"/>'
         '<channel name="X"/><intermittentChannels><channel name="B"/></intermittentChannels></traceFormat>',
         "0 7 2 1,0.5 7 4 3 T", [[1, -2, 0], [3, -4, 500]]),
    ],
)  # fmt: skip
def test_traces(tmp_path: Path, form: str, text: str, expected: list[list[float]]) -> None:
    assert lists(one(write(tmp_path, "a.inkml", traces(form, text)))) == [expected]


def test_traces_that_continue_others_and_the_pen_in_the_air(tmp_path: Path) -> None:
    more = (
        '<trace id="b" continuation="begin">1 1</trace><trace type="penUp">9 9</trace>'
        '<trace id="c" continuation="middle" priorRef="#b">2 2</trace>'
        '<trace continuation="end" priorRef="#c">3 3</trace><trace>4 4</trace><trace></trace>'
    )
    drawing = one(write(tmp_path, "a.inkml", traces("", more=more)))
    assert lists(drawing) == [[[1, 1, 0], [2, 2, 0], [3, 3, 0]], [[4, 4, 0]]]
    assert not drawing.timed


BILLION = (
    '<!DOCTYPE ink [<!ENTITY a "lol">'
    + "".join(f'<!ENTITY {b} "{f"&{a};" * 10}">' for a, b in zip("abcdefghi", "bcdefghij", strict=True))
    + "]><ink><annotation type='truth'>&j;</annotation><trace>1 1</trace></ink>"
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (BILLION, r"a\.inkml:1: the document has a document type"),
        ('<!DOCTYPE ink [<!ENTITY x SYSTEM "file:///etc/passwd">]><ink><annotation type="truth">&x;</annotation></ink>',
         "has a document type"),
        ('<!DOCTYPE ink SYSTEM "http://example.org/ink.dtd"><ink><trace>1 1</trace></ink>', "has a document type"),
        ("<ink>\n<annotation>&x;</annotation></ink>", r"a\.inkml:2: is not XML"),
        ("<ink>" * 100 + "</ink>" * 100, "nests more than 64 elements"),
        ("<ink>" + "<x/>" * 200_001 + "</ink>", "more than 200,000"),
        ("<ink>" + " " * (1 << 26) + "</ink>", "has more than 64 MiB"),
        ("<html><body/></html>", "begins with <html> instead of <ink>"),
        ("<ink><trace>1 1</trace>", "is not XML"),
        ("1,2,3", "is not XML"),
        ("", "is not XML"),
        (traces(""), "there is no trace of a pen"),
        (traces("", "1"), r"the point '1' of a trace has no 2 numbers"),
        (traces("", "1 x"), "the point '1 x' of a trace has no 2 numbers"),
        (traces("", "1 2,,3 4"), "the point '' of a trace"),
        (traces("", "1 ?"), r"point 1 of a stroke is \[1.0, nan, 0.0\]"),
        (traces("", "1 1e999"), r"point 1 of a stroke is \[1.0, inf, 0.0\]"),
        (traces('<traceFormat><channel name="X"/></traceFormat>', "1"), "names no channel X or no channel Y"),
        ("<ink><trace>1 1</trace></ink>", "the drawing 'a' has no label"),
    ],
    ids=range(19),
)  # fmt: skip
def test_documents_that_are_hostile_or_wrong(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        one(write(tmp_path, "a.inkml", text))
    assert str(caught.value).startswith(str(tmp_path / "a.inkml"))


def test_another_encoding_of_xml(tmp_path: Path) -> None:
    path = tmp_path / "a.inkml"
    path.write_bytes(INKML.replace("UTF-8", "UTF-16").replace("w7", "Żółć").encode("utf-16"))
    assert one(path).writer == "Żółć"


STROKES = "START\n1,-2,0\n3,-4.5,10\nBREAK\n5,-6,30\nBREAK\n"


def test_omniglot(tmp_path: Path) -> None:
    path = write(tmp_path, "Latin/character03/0685_07.txt", STROKES)
    drawing = one(path)
    assert lists(drawing) == EXPECTED
    assert drawing[1:] == ("Latin/character03", "07", True, "0685_07", str(path), 1)
    path = write(tmp_path, "x.txt", STROKES.removesuffix("BREAK\n").replace(",10", ",0").replace(",30", ",0"))
    drawing = one(path, pattern=r"(?P<label>[a-z])\.txt$")
    assert (drawing.label, drawing.writer, drawing.timed) == ("x", None, False)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("START\n1,2\n", r"a\.txt:2: '1,2' is no point"),
        ("START\n1,2,x\n", "'1,2,x' is no point"),
        ("START\n1,2,3\nSTART\n", r"a\.txt:3: START stands within a drawing"),
        ("START\nBREAK\n", r"a\.txt:2: there is no point in the drawing"),
        ("", r"a\.txt:1: there is no point in the drawing"),
        ("START\n1,2,3\n1,nan,3\n", r"a\.txt:2: point 2 of a stroke is \[1.0, nan, 3.0\]"),
        ("START\n1,1e10,3\n", "at most 1e"),
    ],
)
def test_wrong_strokes_of_omniglot(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        one(write(tmp_path, "a.txt", text), need_label=False)


COLUMNS = [[[1, 3], [2, 4.5], [0, 10]], [[5], [6], [30]]]
POINTS = [[[1, 2, 0], [3, 4.5, 10]], [[5, 6, 30]]]
OBJECTS = [[{"x": 1, "y": 2, "t": 0}, {"x": 3, "y": 4.5, "t": 10}], [{"x": 5, "y": 6, "t": 30}]]


@pytest.mark.parametrize(
    ("tree", "keys"),
    [
        ({"word": "cat", "drawing": COLUMNS, "key_id": "7", "user": 3}, InkKeys()),
        ({"label": "cat", "strokes": POINTS, "id": 7, "writer": "3"}, InkKeys()),
        ({"label": "cat", "ink": OBJECTS, "id": 7, "writer": "3"}, InkKeys()),
        ({"a": {"s": COLUMNS, "l": "cat"}, "id": 7, "w": "3"}, InkKeys("a.s", "a.l", "w", columns=True)),
        ({"word": "cat", "drawing": POINTS, "key_id": "7", "user": 3}, InkKeys(columns=False)),
    ],
)
def test_json(tmp_path: Path, tree: dict[str, Any], keys: InkKeys) -> None:
    for name, text in (("a.jsonl", f"\n{json.dumps(tree)}\n"), ("a.json", json.dumps(tree, indent=1))):
        path = write(tmp_path, name, text)
        drawing = one(path, keys=keys)
        assert lists(drawing) == EXPECTED
        assert drawing[1:] == ("cat", "3", True, "7", str(path), 2 if name == "a.jsonl" else 1)
    several = list(InkReader(write(tmp_path, "b.json", json.dumps([tree, tree])), keys=keys))
    assert [lists(each) for each in several] == [EXPECTED] * 2


@pytest.mark.parametrize("key", ["drawing", "strokes"])
def test_columns_and_points_are_told_apart_by_their_numbers(tmp_path: Path, key: str) -> None:
    # Four points of two numbers cannot be columns, and two columns of four numbers cannot be points.
    points = [[0, 1], [2, 3], [4, 5], [6, 7]]
    columns = [[0, 2, 4, 6], [1, 3, 5, 7]]
    for stroke in (points, columns):
        drawing = one(write(tmp_path, "a.json", json.dumps({"label": "a", key: [stroke]})))
        assert drawing.strokes[0][:, :2].tolist() == points
        assert not drawing.timed


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ([1], "the drawing a-1 is no JSON object"),
        ({"label": "a"}, "there is no list of strokes under drawing or strokes or ink"),
        ({"label": "a", "strokes": []}, "there is no list of strokes"),
        ({"label": "a", "strokes": [[]]}, "a stroke is no list of points, or an empty one"),
        ({"label": "a", "strokes": [3]}, "a stroke is no list of points"),
        ({"label": "a", "strokes": [[1, 2]]}, "a stroke is no list of lists of numbers"),
        ({"label": "a", "strokes": [[[1, 2], [3]]]}, r"the points of a stroke must be \[x, y\]"),
        ({"label": "a", "strokes": [[["1", 2]]]}, "the coordinate '1' of a stroke is no number"),
        ({"label": "a", "strokes": [[[True, 2]]]}, "the coordinate True"),
        ({"label": "a", "strokes": [[{"x": 1}]]}, "the coordinate None"),
        ({"label": "a", "drawing": [[[1, 2], [3]]]}, "a stroke has 2 values of x, 1 of y; there must be as"),
        ({"label": "a", "drawing": [[[], []]]}, "a stroke has no point"),
        ({"label": ["a"], "strokes": POINTS}, r"the label \['a'\] is no text"),
        ({"strokes": POINTS}, "the drawing 'a' has no label"),
        ({"label": "a", "strokes": [[[1, 10**400]]]}, "is no number"),
    ],
    ids=range(15),
)
def test_wrong_json(tmp_path: Path, tree: Any, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        one(write(tmp_path, "a.json", json.dumps(tree)))
    assert str(caught.value).startswith(f"{tmp_path / 'a.json'}:1: ")


def test_what_is_no_number_in_json(tmp_path: Path) -> None:
    for text in ('{"label": "a", "strokes": [[[NaN, 1]]]}', '{"label": "a", "strokes": [[[1, Infinity]]]}'):
        with pytest.raises(DataError, match=r"a\.jsonl:1: point 1 of a stroke is"):
            one(write(tmp_path, "a.jsonl", text))
    with pytest.raises(DataError, match=r"a\.jsonl:1: is not JSON"):
        one(write(tmp_path, "a.jsonl", '{"label"'))
    with pytest.raises(DataError, match="half of a surrogate pair"):
        one(write(tmp_path, "a.jsonl", '{"label": "\\udc00", "strokes": [[[1, 1]]]}'))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"form": "inkm"}, "no form 'inkm' of drawings; the nearest is inkml"),
        ({"pattern": "("}, "is no regular expression"),
        ({"pattern": "(?P<text>.)"}, "must have the groups"),
    ],
)
def test_options_that_cannot_be_are_refused(options: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        InkReader("x", **options)  # type: ignore[arg-type]


def test_files_are_kept_in_mind(tmp_path: Path) -> None:
    for name, text in (("a.inkml", INKML), ("b.txt", STROKES), ("c.jsonl", '{"strokes": [[[1, 1]]]}\n')):
        write(tmp_path, name, text)
    reader = InkReader(tmp_path, need_label=False)
    assert [each.id for each in reader] == ["2011_x_1", "b", "c.jsonl-1"]
    assert [Path(file.name).name for file in reader.files] == ["a.inkml", "b.txt", "c.jsonl"]
    with pytest.raises(DataError, match="drawings are read from"):
        list(InkReader(write(tmp_path, "d.png", "")))


def test_times_that_fall_and_points_out_of_order(tmp_path: Path) -> None:
    path = write(tmp_path, "a.txt", "START\n1,0,50\n2,0,40\nBREAK\n3,0,10\nBREAK\n")
    assert lists(one(path, need_label=False)) == [[[1, 0, 50], [2, 0, 50]], [[3, 0, 50]]]
    assert lists(one(path, need_label=False, by_time=True)) == [[[3, 0, 10]], [[2, 0, 40], [1, 0, 50]]]


@pytest.mark.skipif(not OMNIGLOT, reason="RECURRA_OMNIGLOT names no folder")
def test_omniglot_itself() -> None:
    assert OMNIGLOT
    files = sorted(Path(OMNIGLOT).glob("*/character*/*.txt"))
    drawings = list(InkReader(files))
    lines = [line for file in files for line in file.read_text().splitlines()]
    assert len(drawings) == lines.count("START") > 0
    assert sum(len(each.strokes) for each in drawings) == lines.count("BREAK")
    assert sum(each.points for each in drawings) == sum("," in line for line in lines)
    assert {each.label for each in drawings} == {f"{file.parts[-3]}/{file.parts[-2]}" for file in files}
    assert {each.writer for each in drawings} == {file.stem[-2:] for file in files}
    for drawing in drawings:
        assert all(np.isfinite(stroke).all() and (np.diff(stroke[:, 2]) >= 0).all() for stroke in drawing.strokes)
