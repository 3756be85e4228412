"""Tables for people and JSON for programs."""

from __future__ import annotations

import contextlib
import io
import json
import math
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recurra.cli.output import print_json, print_pairs, print_table


def width(text: str) -> int:
    return sum(2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def test_columns_line_up_with_wide_characters(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(["word", "probability", "rest"], [["pear", "0.5", "x"], ["사과와", "12.25", "y"], ["梨", "1e-05", "z"]])
    lines = capsys.readouterr().out.splitlines()
    starts = {width(line[: line.index(last)]) for line, last in zip(lines, ["rest", "x", "y", "z"], strict=True)}
    assert len(starts) == 1
    # Numbers stand to the right of their column, words to the left.
    ends = {width(line[: line.index(n) + len(n)]) for line, n in zip(lines[1:], ["0.5", "12.25", "1e-05"], strict=True)}
    assert len(ends) == 1


def test_an_empty_table_has_its_headings(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(["a", "b"], [])
    print_pairs([])
    assert capsys.readouterr().out.split() == ["a", "b"]


def test_json_is_strict_and_readable(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"사과": [1.5, math.inf, math.nan], "nested": {"x": (-math.inf,)}})
    line = capsys.readouterr().out
    assert line.count("\n") == 1
    assert "사과" in line
    assert json.loads(line) == {"사과": [1.5, None, None], "nested": {"x": [None]}}


@given(st.text())
def test_json_holds_the_text_and_no_control_character(text: str) -> None:
    with contextlib.redirect_stdout(io.StringIO()) as out:
        print_json({"text": text})
    line = out.getvalue()
    assert json.loads(line) == {"text": text}
    assert not any(unicodedata.category(c) in ("Cc", "Zl", "Zp") for c in line[:-1])
