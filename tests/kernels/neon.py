"""Compile the engine for 64-bit Arm, run it in an emulator and compare it with this machine's: make neon."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from recurra.kernels.cpu import compiled

from .native import INSTRUCTIONS, STANDARD_THREADS, layers, results

TOOLS = "aarch64-linux-gnu-"
EMULATORS = ("qemu-aarch64-static", "qemu-aarch64")
# Those of CMakeLists.txt for the machine.
FLAGS = ("-O3", "-fno-schedule-insns", "-static", STANDARD_THREADS)
# The tile that nearly all of a large layer's arithmetic is in.
HOT = re.compile(r"^[0-9a-f]+ <void recurra::portable::(micro(?:_packed)?<\w+, 6, 4>)\(")
INSTRUCTION = re.compile(r"^ *([0-9a-f]+):\s+(.*)$", re.MULTILINE)


def inner_loop(function: str) -> list[str]:
    """The instructions of the loop with the most multiply-adds, without another in it."""
    lines = [(int(at, 16), text) for at, text in INSTRUCTION.findall(function)]
    places = {at: place for place, (at, _) in enumerate(lines)}
    loops = []
    for place, (_, text) in enumerate(lines):
        to = re.match(r"(?:b\.\w+|cbn?z|tbn?z).*\b([0-9a-f]+) <", text)
        begin = places.get(int(to[1], 16), place) if to else place
        if begin < place:
            loops.append([text for _, text in lines[begin : place + 1]])
    return max(loops, key=lambda loop: sum("fmla" in text for text in loop), default=[])


def spills(program: Path) -> list[str]:
    """The hot kernels whose sums do not stay in registers."""
    command = [f"{TOOLS}objdump", "--disassemble", "--demangle", "--no-show-raw-insn", str(program)]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    hot = {found[1]: function for function in text.split("\n\n") if (found := HOT.match(function))}
    if len(hot) != 4:
        sys.exit(f"Of the four hot kernels {len(hot)} were found.")
    loops = {name: inner_loop(function) for name, function in hot.items()}
    return [name for name, loop in loops.items() if len(loop) < 24 or any("[sp" in text for text in loop)]


def main() -> None:
    emulator = next(filter(None, map(shutil.which, EMULATORS)), None)
    if shutil.which(f"{TOOLS}g++") is None or emulator is None:
        sys.exit(
            "make neon needs a cross compiler and an emulator: apt-get install g++-aarch64-linux-gnu qemu-user-static"
        )
    # Not x86's portable path, which has no fused multiply-add.
    peers = [isa for isa in ("avx512", "avx2") if isa in compiled.engine().instruction_sets()]
    if not peers:
        sys.exit("make neon compares with x86's AVX2, which this machine does not have.")
    failed = False
    with tempfile.TemporaryDirectory() as folder:
        program = layers(Path(folder) / "neon", [f"{TOOLS}g++", *FLAGS])
        if spilt := spills(program):
            print(f"Sums are spilt to memory within the loops of {', '.join(spilt)}.")
            failed = True
        neon = results(subprocess.run([emulator, str(program), "1", "2"], stdout=subprocess.PIPE, check=True).stdout)
        for isa in peers:
            program = layers(Path(folder) / isa, ["g++", "-O3", STANDARD_THREADS, *INSTRUCTIONS[isa]])
            peer = results(subprocess.run([str(program), "1"], stdout=subprocess.PIPE, check=True).stdout)
            other = [name for name in neon.keys() | peer if neon[name].tobytes() != peer[name].tobytes()]
            print(
                f"Of {len(neon)} tensors of {sum(map(len, neon.values()))} numbers, {len(other)} differ from {isa}'s."
            )
            for name in sorted(other)[:10]:
                print(f"  {name}: by at most {abs(neon[name] - peer[name]).max()}")
            failed = failed or bool(other)
    sys.exit(failed)


if __name__ == "__main__":
    main()
