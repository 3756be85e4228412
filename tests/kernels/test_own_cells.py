"""A cell of the user's own is compiled on first use, kept, and never in the way when it cannot be."""

from __future__ import annotations

import hashlib
import math
import os
import platform
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from recurra.cells import CELLS, Cell
from recurra.cells.algebra import State, clamp, exp, relu, sigmoid, tanh
from recurra.kernels.cpu import compiled, own, own_cache
from recurra.kernels.cpu import run as engine
from recurra.kernels.cpu.generator.plan import Plan, plan

from .engine_calls import assert_agrees, make
from .own_compiler import CXX, MARKS, Compiler, Small, backends_of, forget, libraries

pytestmark = MARKS


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
    first = path_of(the_plan)
    assert path_of(the_plan) == first and compiler.calls == 1
    compiler.path.write_text(compiler.path.read_text().replace("1.0", "1.1"))
    forget()
    assert path_of(the_plan) != first and compiler.calls == 2


def test_another_processor_compiles_again(tmp_path: Path, compiler: Compiler, monkeypatch: pytest.MonkeyPatch) -> None:
    # There -march=native in CXX means instructions that would end this process.
    told = tmp_path / "cpuinfo"
    monkeypatch.setattr(own, "_CPU_INFO", told)
    paths = []
    for flags, clock in (("fpu sse2", 1), ("fpu sse2", 2), ("fpu sse2 avx512f", 2)):
        told.write_text(f"processor\t: 0\nflags\t\t: {flags}\ncpu MHz\t\t: {clock}\n" * clock)
        forget()
        paths.append(path_of(plan(Small())))
    assert paths[0] == paths[1] != paths[2] and compiler.calls == 2
    told.unlink()
    forget()
    monkeypatch.setattr(platform, "processor", lambda: "another")
    assert path_of(plan(Small())) not in paths


def path_of(the_plan: Plan) -> Path:
    library = own.compile_cell(the_plan, "portable")
    assert library is not None
    library.close()
    return library.path


NO_CELL = 'extern "C" const void* recurra_cell() { return nullptr; }'


def without_a_cell(path: Path) -> None:
    made = path.with_suffix(".made")
    subprocess.run(
        [*shlex.split(str(CXX)), "-shared", "-fPIC", "-x", "c++", "-", "-o", str(made)],
        input=NO_CELL.encode(),
        check=True,
    )
    named_whole(path, made.read_bytes())
    made.unlink()


def named_whole(path: Path, contents: bytes) -> None:
    """Contents under a name that says they are all there."""
    key = path.stem.split("-")[0]
    path.unlink()
    whole = path.with_name(f"{key}-{hashlib.sha256(contents).hexdigest()[:32]}.so")
    whole.write_bytes(contents)
    whole.chmod(0o700)


def another_cell(path: Path) -> None:
    named_whole(path, path_of(plan(TwoPhases())).read_bytes())


SPOILT: dict[str, Callable[[Path], object]] = {
    "cut short": lambda path: os.truncate(path, path.stat().st_size // 2),
    "empty": lambda path: os.truncate(path, 0),
    "a byte changed": lambda path: path.write_bytes(path.read_bytes()[:-1] + b"?"),
    "no library": lambda path: named_whole(path, b"no library"),
    "another cell's": another_cell,
    "without a cell": without_a_cell,
}


@pytest.mark.parametrize("how", list(SPOILT))
def test_a_spoilt_library_is_compiled_again(how: str, cache: Path, compiler: Compiler) -> None:
    SPOILT[how](path_of(plan(Small())))
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


def test_a_compiler_whose_libraries_hold_no_cell_is_said_once(tmp_path: Path, compiler: Compiler) -> None:
    source = tmp_path / "empty.cpp"
    source.write_text(NO_CELL)
    compiler.write(f"for out; do :; done; exec {CXX} -shared -fPIC '{source}' -o \"$out\"")
    assert_said_once(Small(), "cannot be loaded .*holds no cell")


def test_nowhere_to_write_is_said_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("RECURRA_CACHE", str(tmp_path / "file" / "cache"))
    monkeypatch.setattr(own_cache, "_private_folder", lambda process: str(tmp_path / "missing"))
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
