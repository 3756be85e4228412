"""YAML 1.2's values, keys that stand twice, and depth; what is written is read as the same by either version."""

from __future__ import annotations

import math
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from recurra.config.load import load_config, parse_assignment
from recurra.errors import ConfigError
from recurra.strict_yaml import DEEPEST, read_yaml, write_yaml

# From the tables of YAML 1.2.2, 10.2 and 10.3.
VALUES = {
    "010": 10, "-19": -19, "0o7": 7, "0x3A": 58, "+12": 12, "1:30": "1:30", "1_000": "1_000", "0b1": "0b1",
    "1e-3": 0.001, "12e03": 12000.0, "-2E+05": -200000.0, "0.": 0.0, "-0.0": -0.0, ".5": 0.5, "1.5.2": "1.5.2",
    ".inf": math.inf, "-.Inf": -math.inf, "null": None, "~": None, "": None, "true": True, "False": False, "yes": "yes",
    "off": "off", "2026-11-28": "2026-11-28", "'010'": "010", "[1, 2.0, x]": [1, 2.0, "x"], "e5": "e5",
}  # fmt: skip


@pytest.mark.parametrize("text", VALUES)
def test_values_are_those_of_yaml_1_2(text: str) -> None:
    found = read_yaml(f"a: {text}")["a"]
    assert found == VALUES[text] and type(found) is type(VALUES[text])


@pytest.mark.parametrize(
    ("text", "problem", "line"),
    [
        ("model:\n  x: 1\nmodel:\n  y: 2", "the key model stands in line 1 and again in line 3", 3),
        ("a:\n  b: 1\n  c: 2\n  b: 1", "the key b stands in line 2 and again in line 4", 4),
        ("a: {b: 1, b: 2}", "the key b stands in line 1 and again in line 1", 1),
        ("- x\n-\n  a: 1\n  'a': 2", "the key a stands in line 3 and again in line 4", 4),
        ("a: " + "[" * DEEPEST + "]" * DEEPEST, f"nests more than {DEEPEST} levels", 1),
        ("x: 1\na: " + "{b: " * 100_000, f"nests more than {DEEPEST} levels", 2),
        ("? [1, 2]\n: 3", "a key must be plain text", 1),
        ("a: " + "9" * 5000, "this number is too long", 1),
        ("a: !!python/object/apply:os.system [ls]", "could not determine a constructor", 1),
    ],
)
def test_what_is_refused_and_where(text: str, problem: str, line: int) -> None:
    with pytest.raises(yaml.YAMLError) as refused:
        read_yaml(text)
    error: Any = refused.value
    assert problem in error.problem and error.problem_mark.line + 1 == line


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-(10**20), 10**20) | st.floats(allow_nan=False) | st.text(),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
        max_leaves=12,
    )
)
def test_what_is_written_is_read_the_same(value: Any) -> None:
    text = write_yaml(value)
    assert read_yaml(text) == value
    assert yaml.safe_load(text) == value


@pytest.mark.parametrize("text", ["1e3", "0o17", "010", "1:30", "yes", "2026-11-28", "0x1F", "~", "1_0", "=", "<<"])
def test_texts_that_look_like_something_else_are_quoted(text: str) -> None:
    written = write_yaml({"a": text, text: "b"})
    assert read_yaml(written) == yaml.safe_load(written) == {"a": text, text: "b"}


def test_the_configuration_says_where(tmp_path: Any) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("model:\n  cell: gru\n\nmodel:\n  num_layers: 3\n")
    with pytest.raises(ConfigError, match=r"c.yaml:4: is not valid YAML \(the key model stands in line 1 and again"):
        load_config(path)
    path.write_text("training:\n  max_minutes: 1:30\n")
    with pytest.raises(ConfigError, match=r"training.max_minutes: .*\(it is '1:30'\)"):
        load_config(path)
    path.write_text("training:\n  max_steps: 010\n  learning_rate: 1e-3\n")
    assert load_config(path).training.max_steps == 10 and load_config(path).training.learning_rate == 0.001


def test_assignments_nest_no_deeper_and_say_so() -> None:
    assert parse_assignment("training.learning_rate=1e-3") == {"training": {"learning_rate": 0.001}}
    assert parse_assignment("training.max_steps=010") == {"training": {"max_steps": 10}}
    with pytest.raises(ConfigError, match="no key in so many sections"):
        parse_assignment("a." * 100_000 + "b=1")
    with pytest.raises(ConfigError, match="nests more than 100 levels"):
        parse_assignment("a=" + "[" * 100_000)
    with pytest.raises(ConfigError, match="the key b stands in line 1 and again in line 1"):
        parse_assignment("a={b: 1, b: 2}")
