"""The fuzzer finds faults that are planted, and its cases follow from their numbers."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any

import pytest
from tests.fuzz import case
from tests.fuzz.mutations import damage_bytes, damage_lines, damage_tree

TREE = {"a": [1, 2.5, None, {"b": "text"}], "c": True}


@pytest.mark.parametrize("damage", [damage_bytes, damage_lines, lambda random, data: damage_tree(random, TREE)])
def test_damage_follows_from_the_number_and_damages(damage: Callable[..., Any]) -> None:
    data = json.dumps(TREE, indent=1).encode()
    found = [damage(Random(number), data) for number in range(300)]
    assert repr(found) == repr([damage(Random(number), data) for number in range(300)])
    assert sum(each in (data, TREE) for each in found) < 60
    assert TREE == {"a": [1, 2.5, None, {"b": "text"}], "c": True}


FAULTS: dict[str, Callable[[], Any]] = {
    "an internal error": lambda: answer(1, "recurra: internal error (KeyError: 'x'); please report it."),
    "a signal's exit code": lambda: answer(-6, "recurra: no"),
    "an exit without a sentence": lambda: answer(1, "Traceback (most recent call last):"),
    "an escape in a sentence": lambda: answer(1, "recurra: \x1b[2J"),
    "a C1 character in a result": lambda: answer(0, "", "\x9b2J"),
    "an exception": lambda: answer(1, "", exception=KeyError("x")),
    "a panic": lambda: raised(BaseException("panic")),
}


def answer(exit_code: int, stderr: str, stdout: str = "", exception: BaseException | None = None) -> Any:
    return SimpleNamespace(exit_code=exit_code, stderr=stderr, stdout=stdout, exception=exception)


def raised(error: BaseException) -> Any:
    raise error


@pytest.mark.parametrize("name", FAULTS)
def test_a_planted_fault_is_found(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(case, "invoke", lambda command: FAULTS[name]())
    assert case._problem([]) is not None


def test_a_sentence_is_no_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(case, "invoke", lambda command: answer(1, "recurra: x: is damaged.", exception=SystemExit(1)))
    assert case._problem([]) is None


def test_what_is_touched_outside_is_seen(tmp_path: Path) -> None:
    touched = case._Touched(tmp_path)
    inside, outside = str(tmp_path / "a"), str(tmp_path.parent / "a")
    for path in (inside, outside):
        touched("open", (path, "r", os.O_RDONLY))
    assert touched.outside == []
    touched("open", (inside, "w", os.O_WRONLY | os.O_CREAT))
    touched("os.rename", (inside, inside, -1, -1))
    assert touched.outside == []
    events: list[tuple[str, tuple[Any, ...]]] = [
        ("open", (outside, "w", os.O_WRONLY)),
        ("os.rename", (inside, outside, -1, -1)),
        ("os.remove", (outside, -1)),
        ("os.mkdir", (outside, 0o777, -1)),
        ("subprocess.Popen", ("true", ["true"])),
    ]
    for number, (event, arguments) in enumerate(events, start=1):
        touched(event, arguments)
        assert len(touched.outside) == number
