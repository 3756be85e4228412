"""What is said of each token of a text, written out by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from recurra.analysis.labels import read_labels
from recurra.analysis.properties import BUILT_IN, properties
from recurra.analysis.recording import SideRecord
from recurra.errors import DataError

from .made_up import side

NOTHING: list = []


def values(name: str, text: str, places: list[tuple[int, int]] | None = None) -> list[float]:
    (found,) = properties(side(text, NOTHING, places), [name])
    assert found.name == name and found.yes_no == (name not in ("line", "brackets"))
    return found.values.tolist()


@pytest.mark.parametrize(
    ("name", "text", "wanted"),
    [
        ("line", "ab\nc\r\nde", "12010012"),
        ("quotes", 'a "b" c', "0011000"),
        ("quotes", "«a» „b“ “c”", "11001100110"),
        # A quotation that nobody closed ends with its paragraph.
        ("quotes", '"a\n\nb "c"', "111000110"),
        ("brackets", "a(b[c])d)", "011221000"),
        ("spaces", "a b\tc\n", "010101"),
        ("word-starts", "an old-ish 3x", "1001000100010"),
        ("word-starts", "don't 사과", "10000010"),
    ],
)
def test_properties_of_characters(name: str, text: str, wanted: str) -> None:
    assert values(name, text) == [float(number) for number in wanted]


def test_tokens_of_several_characters_are_as_their_last_one() -> None:
    text, places = '("a b")', [(0, 3), (3, 5), (5, 7)]
    assert values("line", text, places) == [3, 5, 7]
    assert values("quotes", text, places) == [1, 1, 0]
    assert values("brackets", text, places) == [1, 1, 0]
    assert values("word-starts", text, places) == [1, 1, 0]


def test_nothing_is_carried_from_a_text_to_the_next_one() -> None:
    made = replace(side('a "(b\nc) d', NOTHING), starts=(0, 6))
    quotes, brackets, line = (each.values.tolist() for each in properties(made, ["quotes", "brackets", "line"]))
    assert quotes == [0, 0, 1, 1, 1, 1, 0, 0, 0, 0] and brackets == [0, 0, 0, 1, 1, 1, 0, 0, 0, 0]
    assert line == [1, 2, 3, 4, 5, 0, 1, 2, 3, 4]


def test_every_property_is_described_and_works_on_an_empty_token() -> None:
    for name in BUILT_IN:
        assert values(name, "a", [(0, 0), (0, 1), (1, 1)])[1] in (0.0, 1.0)


def labelled(tmp_path: Path, content: str, made: SideRecord) -> dict[str, list[float]]:
    path = tmp_path / "labels.txt"
    path.write_text(content, encoding="utf-8")
    return {each.name: each.values.tolist() for each in read_labels(path, made)}


def test_labels_of_spans(tmp_path: Path) -> None:
    made = side("ab cd", NOTHING)
    found = labelled(tmp_path, "0\t2\tname\n3\t4\tverb\n", made)
    assert found == {"label:name": [1, 1, 0, 0, 0], "label:verb": [0, 0, 0, 1, 0]}


def test_numbers_of_tokens(tmp_path: Path) -> None:
    made = side("abc", NOTHING)
    found = labelled(tmp_path, "1.5\n\n-2\n", made)
    np.testing.assert_array_equal(found["label"], [1.5, np.nan, -2])
    (yes_no,) = read_labels(tmp_path / "labels.txt", made)
    assert not yes_no.yes_no


def test_zeros_and_ones_are_yes_and_no(tmp_path: Path) -> None:
    path = tmp_path / "labels.txt"
    path.write_text("1\n0\n1\n")
    (found,) = read_labels(path, side("abc", NOTHING))
    assert found.yes_no and found.values.tolist() == [1, 0, 1]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("a\nb\n", r"has 2 lines, but the text has 3 tokens"),
        ("\n\n\n", "holds no labels"),
        ("2\t2\tx\n", r":1: the span 2 to 2 is empty"),
        ("0\t2\tx\n1\t3\ty\n", r":2: this span overlaps"),
        ("".join(f"{i}\t{i + 1}\tn{i}x\n" for i in range(60)), "60 different labels|holds"),
    ],
)
def test_labels_that_do_not_fit_are_refused(tmp_path: Path, content: str, said: str) -> None:
    made = side("x" * 60 if "59" in content else "abc", NOTHING)
    with pytest.raises(DataError, match=said):
        labelled(tmp_path, content, made)
