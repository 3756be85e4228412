"""Labelled texts in every form, and what is said of lines that are not what they should be."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import pytest

from recurra.data.labelled import Labelled, LabelledReader
from recurra.errors import DataError


def write(folder: Path, name: str, text: str) -> str:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(text.encode(), mtime=0) if name.endswith(".gz") else text.encode())
    return str(path)


def found(path: str, kind: str = "single-label", **options: Any) -> list[tuple[str, Any]]:
    rows = list(LabelledReader([path], kind, **options))
    return [(row.text, row.number if kind == "regression" else row.labels) for row in rows]


PEARS = [("a pear, ripe", ("good",)), ("", ("bad",)), ('say "no"', ("bad",))]


@pytest.mark.parametrize(
    ("name", "text", "options"),
    [
        ("a.tsv", 'good\ta pear, ripe\nbad\t\nbad\tsay "no"\n', {}),
        ("a.tsv.gz", 'good\ta pear, ripe\r\nbad\t\r\n\nbad\tsay "no"', {}),
        ("a.txt", 'id\tdocument\tlabel\n1\ta pear, ripe\tgood\n2\t\tbad\n3\tsay "no"\tbad\n',
         {"label": "label", "text": "document"}),
        ("a.csv", 'text,label\n"a pear, ripe",good\n,bad\n"say ""no""",bad\n', {}),
        ("a.csv", '"a pear, ripe",good\n,bad\n"say ""no""",bad\n', {"header": False, "label": "2", "text": "1"}),
        ("a.csv", 'x,y\n"a pear, ripe",good\n,bad\n"say ""no""",bad\n', {"label": "2", "text": "x"}),
        ("a.jsonl", '{"text": "a pear, ripe", "label": "good"}\n{"text": "", "label": "bad"}\n'
         '{"text": "say \\"no\\"", "label": "bad"}\n', {}),
        ("a.jsonl", '{"a": {"t": "a pear, ripe"}, "y": "good"}\n{"a": {"t": ""}, "y": "bad"}\n'
         '{"a": {"t": "say \\"no\\""}, "y": "bad"}\n', {"text": "a.t", "label": "y"}),
        ("a.txt", '__label__good a pear, ripe\n__label__bad\n__label__bad say "no"\n', {}),
    ],
)  # fmt: skip
def test_every_form_gives_the_same(tmp_path: Path, name: str, text: str, options: dict[str, Any]) -> None:
    assert found(write(tmp_path, name, text), **options) == PEARS


def test_a_folder_of_folders(tmp_path: Path) -> None:
    for name, text in (("bad/1.txt", "grey\nand cold\n"), ("good/1.txt", "sunny"), ("good/2.txt", ""), (".git/x", "y")):
        write(tmp_path, name, text)
    assert found(str(tmp_path)) == [("grey\nand cold", ("bad",)), ("sunny", ("good",)), ("", ("good",))]


def test_several_labels(tmp_path: Path) -> None:
    table = write(tmp_path, "a.tsv", "red, sweet\tan apple\n\ta stone\nred,red\ta rose\n")
    assert found(table, "multi-label") == [("an apple", ("red", "sweet")), ("a stone", ()), ("a rose", ("red",))]
    lines = write(tmp_path, "a.txt", "__label__red __label__sweet an apple\na stone\n__label__red a rose\n")
    assert found(lines, "multi-label", form="fasttext") == found(table, "multi-label")
    objects = write(tmp_path, "a.jsonl", '{"text": "an apple", "label": ["red", 7]}\n{"text": "a stone"}\n')
    assert found(objects, "multi-label") == [("an apple", ("red", "7")), ("a stone", ())]
    assert found(write(tmp_path, "b.tsv", "a|b\tx\n"), "multi-label", separator="|") == [("x", ("a", "b"))]


def test_what_fasttext_and_people_write(tmp_path: Path) -> None:
    assert found(write(tmp_path, "a.txt", "__label__x an apple __label__y\n"), "multi-label") == [
        ("an apple", ("x", "y"))
    ]
    assert found(write(tmp_path, "a.tsv", "Label\tText\ngood\ta\n")) == [("a", ("good",))]
    long = "x" * 200_000
    assert found(write(tmp_path, "a.csv", f'text,label\n"{long}",a\n')) == [(long, ("a",))]
    assert found(write(tmp_path, "b.tsv", "👩‍🔬\ta\nb c/d\tb\n"))[0][1] == ("👩‍🔬",)


def test_numbers(tmp_path: Path) -> None:
    assert found(write(tmp_path, "a.tsv", "-1.5\ta\n2e3\tb\n"), "regression") == [("a", -1.5), ("b", 2000.0)]


def test_the_place_of_a_text_is_known(tmp_path: Path) -> None:
    path = write(tmp_path, "a.csv", 'text,label\n"two\nlines",x\nnext,y\n')
    rows = list(LabelledReader([path], "single-label"))
    assert rows == [Labelled("two\nlines", ("x",), None, 3, path), Labelled("next", ("y",), None, 4, path)]


@pytest.mark.parametrize(
    ("name", "text", "kind", "options", "message"),
    [
        ("a.tsv", "x\ta\nonly\n", "single-label", {}, r"a.tsv:2: has 1 column, and the first line has 2; mend"),
        ("a.tsv", "x\ta\ny\tb\tc\n", "single-label", {}, r"a.tsv:2: has 3 columns, and the first line has 2"),
        ("a.tsv", "no tab\n", "single-label", {}, r"a.tsv:1: has 1 column, parted by tabs in a TSV and by"),
        ("a.csv", "text,mark\na,b\n", "single-label", {}, r"a.csv:1: the first line names no column 'label'; it has t"),
        ("a.csv", "label,label,text\n1,2,3\n", "single-label", {}, r"names 2 columns 'label'; say its number"),
        ("a.csv", 'text,label\n"a,b\n', "single-label", {}, r"a.csv:2: is not CSV"),
        ("a.jsonl", '{"text": 3, "label": "x"}\n', "single-label", {}, r"a.jsonl:1: there is no text under the key '"),
        ("a.jsonl", '{"text": "a"}\n', "single-label", {}, r"a.jsonl:1: there is no label under the key 'label'"),
        ("a.jsonl", '{"text": "a", "label": 0.5}\n', "single-label", {}, r"a.jsonl:1: a label is 0.5, which is "),
        ("a.jsonl", '{"text": "a", "label": "x\\ty"}\n', "single-label", {}, r"the label 'x\\ty' is empty or has a"),
        ("a.jsonl", '{"text": "\\ud800", "label": "x"}\n', "single-label", {}, r"half of a surrogate pair"),
        ("a.jsonl", "[1]x\n", "single-label", {}, r"a.jsonl:1: is not one JSON object"),
        ("a.tsv", "\ta\n", "single-label", {}, r"a.tsv:1: the text has no label; give it one, or set data.kind=multi"),
        ("a.txt", "__label__x __label__y a\n", "single-label", {}, r"a.txt:1: the text has 2 labels; leave one, or"),
        ("a.txt", "__label__x a\nb\n", "single-label", {}, r"a.txt:2: the text has no label"),
        ("a.tsv", "good\ta\n", "regression", {}, r"a.tsv:1: 'good' is not a number, which data.kind=regression learns"),
        ("a.tsv", "nan\ta\n", "regression", {}, r"a.tsv:1: 'nan' is no finite number"),
        ("a.tsv", "", "single-label", {}, r"a.tsv: there is no labelled text in it"),
        ("a.pdf", "x\ty\n", "single-label", {}, r"a.pdf: labelled texts are read from .tsv, .txt, .csv"),
        ("a.tsv", "x\ty\n", "single-label", {"form": "folder"}, r"a.tsv: is no folder"),
        ("a.tsv", "x\ty\n", "single-label", {"text": "body"}, r"the first line names no column 'body'"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said(
    tmp_path: Path, name: str, text: str, kind: str, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        found(write(tmp_path, name, text), kind, **options)


def test_a_folder_without_folders_is_refused(tmp_path: Path) -> None:
    write(tmp_path, "a.tsv", "x\ty\n")
    with pytest.raises(DataError, match="holds no folders; there must be one for each label"):
        found(str(tmp_path))
