"""Run the engine of all instruction sets on an emulated machine without AVX: python -m tests.kernels.no_avx."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from .native import layers, program, results

EMULATORS = ("qemu-x86_64-static", "qemu-x86_64")
# Of 2008, with SSE4.2 and nothing later.
CPU = "Nehalem"
# OpenMP, for the standard library's threads would bring functions of their own, compiled for each instruction set.
COMMAND = ("g++", "-O3", "-fopenmp", "-Wno-psabi")


def main() -> None:
    emulator = next(filter(None, map(shutil.which, EMULATORS)), None)
    if shutil.which("g++") is None or emulator is None:
        sys.exit("This needs a compiler and an emulator: apt-get install g++ qemu-user-static")
    emulated = [emulator, "-cpu", CPU]
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "wide.cpp"
        source.write_text('int main() { asm volatile("vpxor %ymm0, %ymm0, %ymm0"); }\n')
        wide = program(Path(folder), [source], ["g++", "-mavx2"])
        if subprocess.run([*emulated, str(wide)], capture_output=True).returncode == 0:
            sys.exit(f"The emulated {CPU} runs AVX2, so that it shows nothing.")
        made = layers(Path(folder) / "layers", COMMAND, beside=("avx512", "avx2"))
        found = subprocess.run([*emulated, str(made), "1", "2"], stdout=subprocess.PIPE)
        if found.returncode:
            sys.exit(f"Without AVX the portable engine ended with {found.returncode}.")
        here = subprocess.run([str(made), "1"], stdout=subprocess.PIPE, check=True)
        numbers = results(found.stdout)
        print(f"{len(numbers)} tensors of {sum(map(len, numbers.values()))} numbers on a machine without AVX.")
        if found.stdout != here.stdout:
            sys.exit("They differ from this machine's.")


if __name__ == "__main__":
    main()
