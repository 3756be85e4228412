"""The engine's barrier orders what threads write before it and read after it, and lets them go if one fails."""

from __future__ import annotations

import os
import shlex
import subprocess
from pathlib import Path

import pytest

from .native import BARRIER, CXX, ENGINE, FAILURES, STANDARD_THREADS, program, works

THREAD_SANITIZER = ("-O1", "-g", "-fsanitize=thread", STANDARD_THREADS)


@pytest.fixture(scope="module", autouse=True)
def thread_sanitizer() -> None:
    if CXX is None or not works(CXX, THREAD_SANITIZER):
        pytest.skip("this machine has no C++ compiler with a thread sanitizer")


def meet(folder: Path, *threads: int) -> subprocess.CompletedProcess[str]:
    """Run threads that share memory across a barrier; team.hpp is taken from the folder if it is there."""
    made = program(folder, [BARRIER], [*shlex.split(str(CXX)), *THREAD_SANITIZER], include=[folder])
    options = {**os.environ, "TSAN_OPTIONS": "halt_on_error=1"}
    return subprocess.run([str(made), *map(str, threads)], env=options, capture_output=True, text=True, timeout=100)


@pytest.mark.parametrize("flags", [THREAD_SANITIZER, ("-O1", "-fopenmp")], ids=["threads", "openmp"])
def test_a_failure_of_one_thread_reaches_the_caller(flags: tuple[str, ...], tmp_path: Path) -> None:
    made = program(tmp_path, [FAILURES], [*shlex.split(str(CXX)), *flags])
    options = {**os.environ, "TSAN_OPTIONS": "halt_on_error=1", "OMP_DYNAMIC": "false", "OMP_THREAD_LIMIT": "8"}
    ended = subprocess.run([str(made), "1", "2", "3", "4"], env=options, capture_output=True, text=True, timeout=100)
    assert (ended.returncode, ended.stderr) == (0, "")


def test_the_barrier_orders_memory(tmp_path: Path) -> None:
    ended = meet(tmp_path, 2, 3, 4)
    assert (ended.returncode, ended.stderr) == (0, "")


@pytest.mark.parametrize("order", ["acquire", "release", "acq_rel"])
def test_a_barrier_that_ordered_less_would_be_seen(order: str, tmp_path: Path) -> None:
    # Without this the test above could pass because it sees nothing.
    text = (ENGINE / "team.hpp").read_text()
    weak = text.replace(f"std::memory_order_{order}", "std::memory_order_relaxed")
    assert weak != text
    (tmp_path / "team.hpp").write_text(weak)
    assert "data race" in meet(tmp_path, 3).stderr
