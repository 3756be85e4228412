"""Code for one instruction set never runs on a machine without it: it has names of its own, which no linker merges."""

from __future__ import annotations

import platform
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from recurra.cells import CELLS
from recurra.kernels.cpu import compiled
from recurra.kernels.cpu.generator.emit import table_source
from recurra.kernels.cpu.generator.plan import plan

from .native import CXX, ENGINE, FLAGS, INSTRUCTIONS

pytestmark = pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="it has one instruction set only")

FUNCTION = re.compile(r"^[0-9a-f]+ <(.*)>:$", re.MULTILINE)
# Registers and encodings that came with AVX; no older instruction's name begins with v but those of system programs.
WIDE = re.compile(
    r"^\s*[0-9a-f]+:\s+(?:v(?!err|erw|mcall)\w+|k(?:mov|or|and|test|shift|xor|add|not|unpck)\w*|.*%[yz]mm).*$",
    re.MULTILINE,
)
OWN = ("recurra::avx2::", "recurra::avx512::")
needs = {
    tool: pytest.mark.skipif(shutil.which(tool) is None, reason=f"this machine has no {tool}: install binutils")
    for tool in ("objdump", "nm")
}


def disassembled(binary: Path) -> dict[str, str]:
    """The instructions of each function."""
    command = ["objdump", "--disassemble", "--demangle", "--no-show-raw-insn", str(binary)]
    parts = FUNCTION.split(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


@needs["objdump"]
@pytest.mark.skipif(compiled.engine() is None, reason="this installation was built without the engine")
def test_only_their_own_functions_use_wide_registers() -> None:
    functions = disassembled(Path(compiled.engine().__file__))
    own = [name for name in functions if any(namespace in name for namespace in OWN)]
    # Without names there is nothing to tell them apart by.
    assert len(own) > 100 and any("recurra::portable::" in name for name in functions)
    others = functions.keys() - set(own)
    assert [name for name in others if WIDE.search(functions[name])] == []
    assert any(WIDE.search(functions[name]) for name in own)


@needs["nm"]
@pytest.mark.check
@pytest.mark.skipif(CXX is None, reason="this machine has no C++ compiler")
def test_what_is_compiled_for_an_instruction_set_is_named_after_it(tmp_path: Path) -> None:
    # Of two functions of one name the linker keeps that of the object before; the test above sees the module only as
    # it happens to be linked.
    (tmp_path / "cells.inc").write_text(table_source([plan(CELLS["gru_cho"])]))
    made = tmp_path / "isa.o"
    command = [*shlex.split(str(CXX)), *FLAGS, "-O1", *INSTRUCTIONS["avx2"]]
    subprocess.run([*command, "-c", f"-I{tmp_path}", str(ENGINE / "isa.cpp"), "-o", str(made)], check=True)
    listed = subprocess.run(
        ["nm", "--demangle", "--defined-only", str(made)], capture_output=True, text=True, check=True
    )
    code = re.findall(r"^[0-9a-f]+ ([TtWi]) (.*)$", listed.stdout, re.MULTILINE)
    assert len(code) > 100
    # Lower case is local to the object; clang's call of std::terminate is the same on every machine.
    shared = [name for kind, name in code if kind in "TWi" and name != "__clang_call_terminate"]
    assert [name for name in shared if "recurra::avx2::" not in name] == []
