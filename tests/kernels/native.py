"""The engine without Python: programs of its sources and a few cells, compiled with any flags, for any machine."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from recurra.cells import CELLS
from recurra.cells.trace import trace
from recurra.kernels.cpu.generator.emit import fingerprint, table_source
from recurra.kernels.cpu.generator.plan import Plan, plan
from recurra.kernels.cpu.own import _INSTRUCTIONS

__all__ = [
    "BARRIER",
    "CXX",
    "ENGINE",
    "FAILURES",
    "FLAGS",
    "INSTRUCTIONS",
    "SIZES",
    "STANDARD_THREADS",
    "layers",
    "program",
    "results",
    "works",
]

ENGINE = Path(__file__).parents[2] / "src" / "recurra" / "kernels" / "cpu" / "csrc"
BARRIER = Path(__file__).parent / "csrc" / "barrier.cpp"
FAILURES = Path(__file__).parent / "csrc" / "failures.cpp"
SIZES = Path(__file__).parent / "csrc" / "sizes.cpp"
LAYERS = Path(__file__).parent / "csrc" / "layers.cpp"

# The machine's C++ compiler, if it has one.
CXX = os.environ.get("CXX") or next(filter(None, map(shutil.which, ("c++", "g++", "clang++"))), None)
# Flags of each instruction set.
INSTRUCTIONS = _INSTRUCTIONS
# Those of CMakeLists.txt.
FLAGS = ("-std=gnu++17", "-fno-math-errno", "-ffp-contract=off", "-pthread")
# For teams of the standard library's threads in place of OpenMP's.
STANDARD_THREADS = "-DRECURRA_STANDARD_THREADS"
# One or two phases, states with and without weights of their own, and one gate.
NAMES = ("lstm", "lstm_peephole", "gru", "gru_cho", "rnn_tanh")

_SOURCES = {"input": "kInput", "state": "kState", "operand": "kOperand"}


def program(folder: Path, sources: Iterable[Path], command: Sequence[str], include: Sequence[Path] = ()) -> Path:
    """Compile sources to a program within a folder; `include` is looked through before the engine's headers.

    Raises:
        subprocess.CalledProcessError: if the compiler fails.
    """
    made = folder / "program"
    folders = [f"-I{path}" for path in (*include, folder, ENGINE)]
    subprocess.run([*command, *FLAGS, *folders, *map(str, sources), "-o", str(made)], check=True)
    return made


def layers(folder: Path, command: Sequence[str], beside: Sequence[str] = ()) -> Path:
    """Compile csrc/layers.cpp, the whole engine and the cells of NAMES to a program within a folder.

    `beside`: instruction sets for which the engine is compiled too, as in the module, and linked before the other.
    """
    folder.mkdir(parents=True, exist_ok=True)
    plans = [plan(CELLS[name]) for name in NAMES]
    (folder / "cells.inc").write_text(table_source(plans))
    (folder / "plans.inc").write_text(
        "".join(f"{_described(name, p)},\n" for name, p in zip(NAMES, plans, strict=True))
    )
    objects = [folder / f"{isa}.o" for isa in beside]
    for isa, made in zip(beside, objects, strict=True):
        flags = [*FLAGS, *INSTRUCTIONS[isa], f"-I{folder}", f"-I{ENGINE}"]
        subprocess.run([*command, *flags, "-c", str(ENGINE / "isa.cpp"), "-o", str(made)], check=True)
    return program(folder, [*objects, ENGINE / "isa.cpp", LAYERS], command)


def _described(name: str, the_plan: Plan) -> str:
    """A cell as csrc/layers.cpp has it."""
    cell = the_plan.cell
    matrices = ["ih", "hh", *cell.matrices]
    products = ", ".join(
        f"{{{p.slot}, {matrices.index(p.matrix)}, {p.gate}, {_SOURCES[p.source]}, {p.index}, {p.phase}}}"
        for p in the_plan.products
    )
    sizes = f"{len(cell.states)}, {the_plan.slots}, {the_plan.kept}, {the_plan.phases}, {len(cell.vectors)}"
    phases = ", ".join(map(str, the_plan.operand_phase))
    numbers = f"{len(cell.gates)}, {len(cell.matrices)}, {json.dumps(trace(cell).h_only_in_products)}"
    lists = f"{{{{{phases}}}, {len(the_plan.operand_phase)}}}, {{{{{products}}}, {len(the_plan.products)}}}"
    return f'{{"{name}", "{fingerprint(the_plan)}", {numbers}, {{nullptr, {sizes}, {lists}}}}}'


def results(output: bytes) -> dict[str, np.ndarray]:
    """What csrc/layers.cpp has written: each tensor by its name."""
    found = {}
    while output:
        line, _, output = output.partition(b"\n")
        case, name, element, size = line.decode().split("\t")
        found[f"{case}, {name}"] = np.frombuffer(output[: int(size)], f"f{element}")
        output = output[int(size) :]
    return found


def works(command: str, flags: Sequence[str]) -> bool:
    """Whether a compiler makes a program with such flags, and the program runs here."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "threads.cpp"
        source.write_text("#include <thread>\nint main() { std::thread([] {}).join(); }\n")
        try:
            made = program(Path(folder), [source], [*shlex.split(command), *flags])
            # Sanitizers have opinions of their own on where a system may place memory.
            return subprocess.run([str(made)], capture_output=True).returncode == 0
        except (OSError, subprocess.CalledProcessError):
            return False
