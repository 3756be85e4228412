"""What tests of cells compiled on first use share: a compiler that counts, and a cell that is quickly compiled."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
import torch

import recurra
from recurra.cells import Cell
from recurra.cells.algebra import State, relu
from recurra.kernels import record_backends
from recurra.kernels.cpu import compiled, own, own_cache

__all__ = ["CXX", "MARKS", "Compiler", "Small", "backends_of", "forget", "libraries"]

CXX = os.environ.get("CXX") or next(filter(None, map(shutil.which, ("c++", "g++", "clang++"))), None)

# Of a file of tests that compile cells.
MARKS = [
    pytest.mark.usefixtures("compiler"),
    pytest.mark.skipif(compiled.engine() is None, reason="this installation was built without the engine"),
    pytest.mark.skipif(CXX is None, reason="this machine has no C++ compiler"),
]


class Small(Cell):
    """Quick to compile."""

    gates = ("n",)

    def step(self, gate, state, weight):
        return State(h=0.75 * relu(gate.n))

    def __repr__(self) -> str:
        return 'Small,\n#error "in two lines"\\'


def forget() -> None:
    """As a process that has just been started."""
    compiled.instruction_set.cache_clear()
    compiled.compiled.cache_clear()
    own._version.cache_clear()
    own._processor.cache_clear()
    own_cache._warn.cache_clear()


class Compiler:
    """Stands for the machine's compiler and counts what it is asked to compile."""

    real = CXX

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


def backends_of(cell: Cell | str) -> list[str]:
    with record_backends() as ran:
        recurra.Recurrent(cell, 3, 5)(torch.randn(4, 2, 3))
    return ran


def libraries(cache: Path) -> list[Path]:
    return sorted(cache.iterdir())
