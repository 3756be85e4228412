"""What comes from files, names and models cannot steer the terminal of who reads it."""

from __future__ import annotations

import io
import sys
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recurra.config.load import load_config
from recurra.config.sections import LoggingConfig
from recurra.errors import ConfigError, DataError, RunError
from recurra.run.directory import read_run
from recurra.shown import counted, tell, visible
from recurra.training.logging import RunLog

from .training.regression import opened

# Clears the screen, as ESC [ and as the one C1 character for both.
HOSTILE = "\x1b[2J\x9b2Jname"
SAFE = "\\x1b[2J\\x9b2Jname"


@given(st.text())
def test_no_control_character_reaches_the_terminal(text: str) -> None:
    shown = visible(text)
    assert not any(unicodedata.category(c) in ("Cc", "Zl", "Zp") for c in shown)
    assert len(shown.splitlines()) <= 1


def test_joined_emoji_and_marks_of_direction_stay() -> None:
    assert visible("👩‍🍳 \u200f사과") == "👩‍🍳 \u200f사과"
    assert visible("\x1b[31m\n") == "\\x1b[31m\\n"


def test_line_feeds_stay_where_a_text_has_lines() -> None:
    assert visible("a\tb\n\x1bc", keep="\n\t") == "a\tb\n\\x1bc"


def test_errors_show_the_names_that_they_quote_without_control_characters(tmp_path: Path) -> None:
    with pytest.raises(RunError) as missing:
        read_run(tmp_path / HOSTILE)
    assert SAFE in str(missing.value)
    assert "\x1b" not in str(missing.value)
    (tmp_path / "config.yaml").write_text('model: {init: "\\e[2J"}\n')
    with pytest.raises(ConfigError) as config:
        load_config(tmp_path / "config.yaml")
    assert "\\x1b[2J" in str(config.value)
    assert "\x1b" not in str(config.value)
    assert str(DataError("two\nlines\x9b")) == "two\nlines\\x9b"


def test_samples_and_messages_show_no_control_characters(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tell(HOSTILE)
    log = RunLog(opened(tmp_path, LoggingConfig(tensorboard=False)))
    log.say(HOSTILE)
    log.close()
    assert capsys.readouterr().err == f"{SAFE}\n{SAFE}\n"


def test_samples_above_a_progress_bar_show_no_control_characters(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    log = RunLog(opened(tmp_path, LoggingConfig(tensorboard=False)))
    log.say(HOSTILE)
    log.close()
    assert SAFE in terminal.getvalue()
    assert HOSTILE not in terminal.getvalue()


def test_a_reader_that_has_gone_does_not_stop_a_message(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Gone(io.StringIO):
        def flush(self) -> None:
            raise BrokenPipeError

    monkeypatch.setattr(sys, "stdout", Gone())
    tell("said")
    assert capsys.readouterr().err == "said\n"


def test_a_noun_has_the_form_of_its_number() -> None:
    assert [counted(number, "layer") for number in (0, 1, 2, 1200)] == [
        "0 layers",
        "1 layer",
        "2 layers",
        "1,200 layers",
    ]
