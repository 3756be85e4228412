"""A cell of the user's own is compiled on first use, kept, and never in the way when it cannot be."""

from __future__ import annotations

import hashlib
import math
import os
import re
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

import recurra
from recurra.cells import CELLS, Cell
from recurra.cells.algebra import State, clamp, exp, relu, sigmoid, tanh
from recurra.kernels import record_backends
from recurra.kernels.cpu import compiled, own
from recurra.kernels.cpu import run as engine
from recurra.kernels.cpu.generator.plan import plan

from .engine_calls import assert_agrees, make

CXX = os.environ.get("CXX") or next(filter(None, map(shutil.which, ("c++", "g++", "clang++"))), None)

pytestmark = [
    pytest.mark.skipif(compiled.engine() is None, reason="this installation was built without the engine"),
    pytest.mark.skipif(CXX is None, reason="this machine has no C++ compiler"),
]


class Peephole(Cell):
    """No cell of recurra's: its output gate looks at the candidate."""

    states = ("h", "c")
    gates = tuple("ifgo")
    vectors = ("pi", "po")

    def step(self, gate, state, weight):
        i, f, g = sigmoid(gate.i + weight.pi * state.c), sigmoid(gate.f), tanh(gate.g)
        c = f * state.c + i * g
        return State(h=sigmoid(gate.o + weight.po * g) * tanh(c), c=c)


class EveryFunction(Cell):
    states = ("h", "n")
    gates = ("a", "b")

    def step(self, gate, state, weight):
        e = exp(clamp(gate.a, -1, np.float64(0.5)))
        positive = clamp(gate.b, 0, math.inf)
        n = state.n / (1 + e) - relu(gate.b - 0.25)
        return State(h=(e * tanh(n) + state.h) / (2 + positive), n=-n)


class TwoPhases(Cell):
    states = ("h", "c")
    gates = ("r", "n")
    matrices = ("m",)

    def step(self, gate, state, weight):
        r = sigmoid(gate.r + weight.m @ state.c)
        n = tanh(gate.n.x + weight.m @ (r * state.h))
        return State(h=0.5 * (state.h + n), c=r * n)


class ProductOnAnotherState(Cell):
    states = ("h", "c")
    gates = ("n",)

    def step(self, gate, state, weight):
        n = tanh(gate.n.on(state.c))
        return State(h=0.5 * (state.h + n), c=n)


class Small(Cell):
    """Quick to compile."""

    gates = ("n",)

    def step(self, gate, state, weight):
        return State(h=0.75 * relu(gate.n))

    def __repr__(self) -> str:
        return 'Small,\n#error "in two lines"\\'


class SmallToo(Small):
    pass


class Untraceable(Cell):
    gates = ("n",)

    def step(self, gate, state, weight):
        return State(h=torch.sin(gate.n.x))


class TooLarge(Cell):
    gates = ("n",)
    vectors = tuple(f"v{i}" for i in range(9))

    def step(self, gate, state, weight):
        return State(h=tanh(gate.n + weight.v0 * weight.v8))


def forget() -> None:
    """As a process that has just been started."""
    compiled.instruction_set.cache_clear()
    compiled.compiled.cache_clear()
    own._version.cache_clear()


class Compiler:
    """Stands for the machine's compiler and counts what it is asked to compile."""

    def __init__(self, folder: Path) -> None:
        self.log = folder / "compiled.log"
        self.path = folder / "counting c++"
        self.write(f"echo once >> '{self.log}'\nexec {CXX} \"$@\"")

    def write(self, when_compiling: str) -> None:
        self.path.write_text(
            f'#!/bin/sh\nif [ "$1" = --version ]; then echo "a compiler 1.0"; exit; fi\n{when_compiling}\n'
        )
        self.path.chmod(0o755)

    @property
    def calls(self) -> int:
        return len(self.log.read_text().splitlines()) if self.log.exists() else 0


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "not made yet" / "cache"


@pytest.fixture(autouse=True)
def compiler(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Compiler]:
    compiler = Compiler(tmp_path)
    monkeypatch.setenv("RECURRA_CACHE", str(cache))
    monkeypatch.setenv("CXX", f"'{compiler.path}'")
    monkeypatch.delenv("RECURRA_NO_COMPILE", raising=False)
    # The quickest to compile for; one test takes each.
    monkeypatch.setenv("RECURRA_ISA", "portable")
    forget()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield compiler
    monkeypatch.undo()
    forget()


def backends_of(cell: Cell | str) -> list[str]:
    with record_backends() as ran:
        recurra.Recurrent(cell, 3, 5)(torch.randn(4, 2, 3))
    return ran


def libraries(cache: Path) -> list[Path]:
    return sorted(cache.iterdir())


# ---- what is compiled is right


@pytest.mark.parametrize("cell", [Peephole(), EveryFunction(), TwoPhases()], ids=repr)
def test_it_runs_on_the_engine_and_agrees_with_the_reference(
    cell: Cell, compiler: Compiler, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RECURRA_ISA")
    forget()
    assert backends_of(cell) == ["cpu"]
    for hidden in (5, 37):
        assert_agrees(make(cell, 4, 7, 3, hidden, 2, lengths=[4, 0, 2, 4, 1, 3, 0], all_states=True), 1e-12)
        assert_agrees(make(cell, 6, 3, 9, hidden, bias=False), 1e-12)
    assert compiler.calls == 1


@pytest.mark.parametrize("cell", [Peephole(), TwoPhases(), ProductOnAnotherState()], ids=repr)
def test_recurrent_dropout_of_it_is_refused_or_right(cell: Cell) -> None:
    call = make(cell, 4, 3, 3, 37, 2)
    call = replace(call, recurrent_mask=2 * torch.bernoulli(torch.full_like(call.states[0], 0.5)))
    if engine.refusal(call) is None:
        assert_agrees(call, 1e-12)


@pytest.mark.parametrize("isa", ["avx512", "avx2", "portable"])
def test_it_is_compiled_for_every_instruction_set(isa: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if isa not in compiled.engine().instruction_sets():
        pytest.skip(f"this machine has no {isa}")
    monkeypatch.setenv("RECURRA_ISA", isa)
    forget()
    for dtype in (torch.float32, torch.float64):
        assert_agrees(make(Small(), 4, 7, 3, 37, 2, dtype), 200 * torch.finfo(dtype).eps)


def test_flags_are_those_of_the_build() -> None:
    build = Path(__file__).parents[2] / "CMakeLists.txt"
    text = build.read_text()
    sets = re.findall(r"^ *add_instruction_set\((\w+) ?(.*)\)$", text, re.MULTILINE)
    assert {name: tuple(flags.split()) for name, flags in sets} == own._INSTRUCTIONS
    (options,) = re.findall(r"target_compile_options\(engine_\S+ PRIVATE (.*) \$\{ARGN\}\)", text)
    assert set(options.split()) - {"-Wall", "-Wextra"} <= set(own._FLAGS)


def test_a_compiler_that_makes_another_instruction_set_is_not_trusted(
    compiler: Compiler, monkeypatch: pytest.MonkeyPatch
) -> None:
    if "avx2" not in compiled.engine().instruction_sets():
        pytest.skip("this machine has one instruction set")
    monkeypatch.setenv("CXX", f"'{compiler.path}' -mavx2 -mfma")
    with pytest.warns(UserWarning, match="cannot compile it"):
        assert backends_of(Small()) == ["reference"]


# ---- what is compiled is kept


SCRIPT = """
import sys, torch, recurra
from recurra.kernels import record_backends
with record_backends() as ran:
    recurra.Recurrent(sys.argv[1], 3, 5)(torch.ones(4, 2, 3))[0].sum().backward()
print(*ran)
"""


def test_processes_may_compile_at_once_and_others_use_it(tmp_path: Path, cache: Path, compiler: Compiler) -> None:
    (tmp_path / "mine.py").write_text(
        "import recurra\nfrom recurra.cells.algebra import tanh\n\n"
        "class Mine(recurra.Cell):\n    gates = ('a',)\n\n    def step(self, gate, state, weight):\n"
        "        return recurra.State(h=0.3 * state.h + tanh(gate.a))\n"
    )
    # The first to compile waits for a second, so that neither finds the other's work.
    compiler.write(
        f"echo once >> '{compiler.log}'\n"
        f"for i in $(seq 500); do [ $(wc -l < '{compiler.log}') -ge 2 ] && break; sleep 0.02; done\n"
        f'exec {CXX} "$@"'
    )
    command = [sys.executable, "-W", "error", "-c", SCRIPT, f"{tmp_path / 'mine.py'}:Mine"]

    def start() -> subprocess.Popen[str]:
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def end(process: subprocess.Popen[str]) -> tuple[str, str, int]:
        return (*process.communicate(timeout=120), process.returncode)

    assert [end(process) for process in [start(), start()]] == [("cpu\n", "", 0)] * 2
    assert compiler.calls == 2
    made = {path: path.stat().st_mtime_ns for path in libraries(cache)}
    assert made and all(path.suffix == ".so" for path in made)
    assert end(start()) == ("cpu\n", "", 0)
    assert compiler.calls == 2
    assert {path: path.stat().st_mtime_ns for path in libraries(cache)} == made


def test_cells_of_the_same_arithmetic_share_a_library(cache: Path, compiler: Compiler) -> None:
    assert backends_of(Small()) == backends_of(SmallToo()) == ["cpu"]
    assert compiler.calls == len(libraries(cache)) == 1


def test_another_compiler_or_version_compiles_again(compiler: Compiler) -> None:
    the_plan = plan(Small())
    first = own.compile_cell(the_plan, "portable")
    assert own.compile_cell(the_plan, "portable") == first and compiler.calls == 1
    compiler.path.write_text(compiler.path.read_text().replace("1.0", "1.1"))
    forget()
    assert own.compile_cell(the_plan, "portable") != first and compiler.calls == 2


def named_whole(path: Path, contents: bytes) -> None:
    """Contents under a name that says they are all there."""
    key = path.stem.split("-")[0]
    path.unlink()
    path.with_name(f"{key}-{hashlib.sha256(contents).hexdigest()[:32]}.so").write_bytes(contents)


def another_cell(path: Path) -> None:
    other = own.compile_cell(plan(TwoPhases()), "portable")
    assert other is not None
    named_whole(path, other.read_bytes())


SPOILT: dict[str, Callable[[Path], object]] = {
    "cut short": lambda path: os.truncate(path, path.stat().st_size // 2),
    "empty": lambda path: os.truncate(path, 0),
    "a byte changed": lambda path: path.write_bytes(path.read_bytes()[:-1] + b"?"),
    "no library": lambda path: named_whole(path, b"no library"),
    "another cell's": another_cell,
}


@pytest.mark.parametrize("how", list(SPOILT))
def test_a_spoilt_library_is_compiled_again(how: str, cache: Path, compiler: Compiler) -> None:
    path = own.compile_cell(plan(Small()), "portable")
    assert path is not None
    SPOILT[how](path)
    before = compiler.calls
    assert_agrees(make(Small()), 1e-12)
    assert compiler.calls == before + 1
    forget()
    assert_agrees(make(Small()), 1e-12)
    assert compiler.calls == before + 1


def test_a_cache_that_cannot_be_written_to_does_without(
    tmp_path: Path, compiler: Compiler, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("RECURRA_CACHE", str(tmp_path / "file" / "cache"))
    assert backends_of(Small()) == ["cpu"]
    assert compiler.calls == 1


def test_where_the_cache_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "home"
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.setenv("RECURRA_CACHE", "~/cells")
    assert own.cache_folder() == home / "cells"
    monkeypatch.delenv("RECURRA_CACHE")
    assert own.cache_folder() == tmp_path / "xdg" / "recurra"
    for ignored in ("", "relative"):
        monkeypatch.setenv("XDG_CACHE_HOME", ignored)
        monkeypatch.setattr(sys, "platform", "linux")
        assert own.cache_folder() == home / ".cache" / "recurra"
        monkeypatch.setattr(sys, "platform", "darwin")
        assert own.cache_folder() == home / "Library" / "Caches" / "recurra"


# ---- what cannot be compiled runs on the reference


def assert_said_once(cell: Cell, match: str) -> None:
    with pytest.warns(UserWarning, match=match) as said:
        assert backends_of(cell) == ["reference"]
    assert len(said) == 1 and str(said[0].message).startswith(f"{cell!r} runs on the slow reference loop")
    assert backends_of(cell) == ["reference"]


def test_no_compiler_is_said_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CXX")
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    assert_said_once(Small(), "no C.. compiler .* install g")
    assert_said_once(TwoPhases(), "no C.. compiler .* CXX")


@pytest.mark.parametrize(
    ("named", "said"), [("g+++", "no compiler g"), ("'", "not a command"), ("/dev/null", "dev/null")]
)
def test_a_wrong_name_of_a_compiler_is_said_once(named: str, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", named)
    assert_said_once(Small(), said)


def test_a_compiler_that_fails_is_quoted(cache: Path, compiler: Compiler) -> None:
    compiler.write("echo 'In file' >&2; echo '<stdin>:1: error: too old' >&2; echo '1 note' >&2; exit 1")
    assert_said_once(Small(), re.escape("cannot compile it (<stdin>:1: error: too old)"))
    assert libraries(cache) == []


def test_a_compiler_that_makes_nothing_is_said_once(compiler: Compiler) -> None:
    compiler.write("exit 0")
    assert_said_once(Small(), "cannot be kept")


def test_a_library_that_cannot_be_loaded_is_said_once(compiler: Compiler) -> None:
    compiler.write(f"echo once >> '{compiler.log}'\nfor out; do :; done; echo no library > \"$out\"")
    assert_said_once(Small(), "cannot be loaded .* RECURRA_CACHE")
    assert compiler.calls == 2


def test_nowhere_to_write_is_said_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("RECURRA_CACHE", str(tmp_path / "file" / "cache"))
    monkeypatch.setattr(own, "_own_folder", lambda: str(tmp_path / "missing"))
    assert_said_once(Small(), "cannot be kept .* RECURRA_CACHE")


# ---- what is not compiled


def test_it_can_be_turned_off_without_a_word(compiler: Compiler, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECURRA_NO_COMPILE", "1")
    assert backends_of(Small()) == ["reference"]
    assert compiler.calls == 0


@pytest.mark.parametrize("cell", [TooLarge(), Untraceable()], ids=repr)
def test_what_the_engine_could_not_run_is_left_alone(cell: Cell, compiler: Compiler) -> None:
    assert engine.refusal(make(cell)) is not None
    assert compiler.calls == 0


def test_cells_of_the_build_are_not_compiled_again(compiler: Compiler) -> None:
    for cell in CELLS.values():
        assert engine.refusal(make(cell)) is None
    assert compiler.calls == 0


def test_without_the_engine_nothing_is_compiled(compiler: Compiler, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled, "engine", lambda: None)
    forget()
    assert compiled.compiled(Small()) is None and compiled.compiled(CELLS["mgu"]) is None
    assert compiler.calls == 0


def test_nothing_is_compiled_for_numbers_that_are_not_there(compiler: Compiler) -> None:
    with FakeTensorMode():
        assert engine.available(Small(), torch.zeros(4, 2, 3)) is not None
    assert engine.available(Small(), torch.zeros(4, 2, 3, device="meta")) is not None
    assert engine.available(Small(), torch.zeros(4, 2, 3, dtype=torch.float16)) is not None
    assert compiler.calls == 0
