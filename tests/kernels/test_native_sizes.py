"""The engine's arithmetic of sizes, at numbers that no tensor of a test has."""

from __future__ import annotations

import shlex
import subprocess
from pathlib import Path

import pytest

from .native import CXX, SIZES, program


@pytest.mark.skipif(CXX is None, reason="this machine has no C++ compiler")
def test_sizes_beyond_an_int(tmp_path: Path) -> None:
    made = program(tmp_path, [SIZES], [*shlex.split(str(CXX)), "-O1", "-Wall", "-Wextra", "-Wno-psabi", "-Werror"])
    ended = subprocess.run([str(made)], capture_output=True, text=True, timeout=100)
    assert (ended.returncode, ended.stderr) == (0, "")
