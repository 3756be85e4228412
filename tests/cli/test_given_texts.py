"""Texts on the command line that are not UTF-8."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

COMMANDS = [
    ["score", "RUN", "--text", "caf\udce9"],
    ["next", "RUN", "caf\udce9"],
    ["next", "RUN", "the", "--candidates", "the", "caf\udce9"],
    ["generate", "RUN", "--prompt", "caf\udce9"],
    ["generate", "RUN", "--stop", "\udce9"],
    ["translate", "RUN", "--prefix", "caf\udce9"],
    ["translate", "RUN", "--ban", "the", "caf\udce9"],
    ["translate", "RUN", "--require", "caf\udce9"],
]


@pytest.mark.parametrize("number", range(len(COMMANDS)))
def test_what_is_not_utf_8_is_refused_by_its_option(number: int, tmp_path: Path) -> None:
    # As Python makes them of bytes; before any run is looked for.
    command = [word.replace("RUN", str(tmp_path)) for word in COMMANDS[number]]
    program = "from recurra.cli.main import main; main()"
    ended = subprocess.run([sys.executable, "-c", program, *command], capture_output=True, text=True)
    option = next(
        (
            word
            for word in command
            if word in ("--text", "--prompt", "--stop", "--prefix", "--ban", "--require", "--candidates")
        ),
        "TEXT",
    )
    assert ended.returncode == 2
    assert f"{option} " in ended.stderr and "\\udce9: this is not UTF-8" in ended.stderr
    assert "Traceback" not in ended.stderr and len(ended.stderr.splitlines()) <= 2
