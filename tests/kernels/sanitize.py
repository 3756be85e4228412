"""Run the engine's tests under the address, undefined-behaviour and thread sanitizers: make sanitize."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import sysconfig
import tempfile
import venv
from pathlib import Path

from recurra.kernels.cpu import compiled

from .native import BARRIER, FAILURES, STANDARD_THREADS, layers, program, works

ROOT = Path(__file__).parents[2]
# An environment of its own, so that the one at hand keeps its engine.
VENV = ROOT / "build" / "sanitize"
COMPILER = os.environ.get("CXX") or "g++"
ADDRESS = ("-fsanitize=address,undefined", "-fno-sanitize-recover=undefined", "-fno-omit-frame-pointer", "-g1")
THREAD = ("-O1", "-g1", "-fsanitize=thread", STANDARD_THREADS)
# What Python must have loaded before anything else; the last because it throws through the first.
LIBRARIES = ("libasan.so", "libubsan.so", "libstdc++.so")
TESTS = (
    *sorted(map(str, Path(__file__).parent.glob("test_cpu_engine*.py"))),
    str(Path(__file__).parent / "test_own_cells.py"),
    str(ROOT / "tests" / "layers" / "test_stream.py"),
)


def libraries() -> list[str]:
    needed = "make sanitize needs g++ with its libasan, libubsan and libtsan: install it, or name it in CXX."
    if not all(works(COMPILER, flags) for flags in (ADDRESS, THREAD)):
        sys.exit(needed)

    def said(option: str) -> str:
        return subprocess.run([*shlex.split(COMPILER), option], capture_output=True, text=True, check=True).stdout

    # clang's libraries have other names, but it would give the places of g++'s.
    if "clang" in said("--version"):
        sys.exit(needed)
    return [said(f"-print-file-name={name}").strip() for name in LIBRARIES]


def install() -> Path:
    """Build the engine with sanitizers into its own environment, whose Python is returned."""
    venv.create(VENV, clear=True)
    python = VENV / "bin" / "python"
    folder = sysconfig.get_path("purelib", vars={"base": str(VENV), "platbase": str(VENV)})
    # Everything else comes from the environment at hand, of whose own .pth files, such as recurra's, nothing is read.
    (Path(folder) / "others.pth").write_text(sysconfig.get_path("purelib") + "\n")
    settings = {
        "cmake.build-type": "RelWithDebInfo",
        "install.strip": "false",
        # It takes a third of the time that -O3 takes to compile.
        "cmake.define.RECURRA_LAST_FLAGS": "-O1;-DRECURRA_FENCED",
    }
    subprocess.run(
        [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--no-deps", "--ignore-installed"]
        + [f"--config-settings={key}={value}" for key, value in settings.items()]
        + [str(ROOT)],
        env={**os.environ, "CXX": COMPILER, "CXXFLAGS": " ".join(ADDRESS)},
        check=True,
    )
    return python


def main() -> None:
    preloaded = libraries()
    print("Threads under the thread sanitizer:", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        command = [*shlex.split(COMPILER), *THREAD]
        options = {**os.environ, "TSAN_OPTIONS": "halt_on_error=1"}
        # For vectors of 16 bytes, the largest whose loads and stores every compiler's sanitizer sees.
        for source in (BARRIER, FAILURES, None):
            made = (
                layers(Path(folder) / "layers", command) if source is None else program(Path(folder), [source], command)
            )
            subprocess.run([str(made), "2", "3", "4"], env=options, stdout=subprocess.DEVNULL, check=True)
    python = install()
    environment = {
        **os.environ,
        "LD_PRELOAD": " ".join(preloaded),
        # Python does not free all that it has at its end, nor do compilers, which some tests start.
        "ASAN_OPTIONS": "detect_leaks=0",
        "UBSAN_OPTIONS": "print_stacktrace=1",
        # For cells that the tests have compiled.
        "CXX": shlex.join([*shlex.split(COMPILER), *ADDRESS]),
        "OMP_NUM_THREADS": "2",
    }
    for isa in compiled.engine().instruction_sets():
        print(f"Memory and undefined behaviour on {isa}:", flush=True)
        subprocess.run(
            [str(python), "-m", "pytest", "-p", "no:cacheprovider", *TESTS],
            env={**environment, "RECURRA_ISA": isa},
            cwd=ROOT,
            check=True,
        )


if __name__ == "__main__":
    try:
        main()
    except subprocess.CalledProcessError as error:
        sys.exit(f"{error.cmd[0]} ended with {error.returncode}; what it found stands above.")
