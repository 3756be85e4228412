"""Compiles the arithmetic of a user's own cell, with the machine's C++ compiler, when the cell is first run."""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import threading
import warnings
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

from .generator.emit import fingerprint, unit_source
from .generator.plan import Plan
from .own_cache import Library, cache_folder, find, keep, usable_folder, workplace

__all__ = ["cache_folder", "compile_cell", "entry"]

# The flags of CMakeLists.txt, so that a cell computes the same numbers wherever it was compiled.
_FLAGS = (
    *("-std=gnu++17", "-O3", "-fno-math-errno", "-ffp-contract=off"),
    *("-fPIC", "-shared", "-fvisibility=hidden"),
)
_INSTRUCTIONS = {
    "portable": (),
    "avx2": ("-mavx2", "-mfma"),
    "avx512": ("-mavx512f", "-mavx512dq", "-mavx512bw", "-mavx512vl", "-mavx2", "-mfma"),
}
_HEADERS = Path(__file__).resolve().parent / "csrc"
_COMPILERS = ("c++", "g++", "clang++")
_PATIENCE = 300  # seconds; a cell takes one or two

_CPU_INFO = Path("/proc/cpuinfo")
# The lines of that file that tell the processor's kind and its instructions, on x86, Arm, RISC-V, POWER and s390.
_CPU_KIND = re.compile(
    rb"^(vendor_id|cpu family|model|flags|CPU (?:implementer|architecture|variant|part)|Features|isa|uarch|cpu"
    rb"|features)\s*:.*$",
    re.MULTILINE,
)

_lock = threading.Lock()


def _unlock() -> None:
    """Give a forked process a free lock: the thread that held the old one does not exist in it."""
    global _lock
    _lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_unlock)


class _Failure(Exception):
    """Why a cell could not be compiled, and what to do about it."""

    def __init__(self, reason: str, remedy: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self.remedy = remedy


def entry(plan: Plan, isa: str) -> int | None:
    """The address of a cell's compiled arithmetic in this process, for the engine's `Cell`.

    Returns:
        None if the cell cannot be compiled, with a UserWarning that says why; or if RECURRA_NO_COMPILE=1 forbids to
        compile it, without a warning.
    """
    with _lock:
        library = compile_cell(plan, isa)
        if library is None:
            return None
        try:
            return _address(library, plan)
        except (OSError, AttributeError):
            # The file is whole but does not work on this machine: the cache was copied from another one. If the file
            # stayed, every process would try it again.
            library.discard()
            library = compile_cell(plan, isa, afresh=True)
        try:
            return None if library is None else _address(library, plan)
        except (OSError, AttributeError) as error:
            remedy = "name in RECURRA_CACHE a folder that programs may be run from"
            _warn(plan, _Failure(f"what was compiled for it cannot be loaded ({error})", remedy))
            return None


def compile_cell(plan: Plan, isa: str, *, afresh: bool = False) -> Library | None:
    """The shared library of a cell for an instruction set, from the cache or compiled now.

    The library's function `recurra_cell()` returns the address of the cell's `CellEntry`.

    Args:
        plan: the cell's plan.
        isa: "portable", "avx2" or "avx512".
        afresh: compile it even if the cache has it.

    Returns:
        None if it cannot be made, with a UserWarning that says why, or if RECURRA_NO_COMPILE=1 forbids it.
    """
    if os.environ.get("RECURRA_NO_COMPILE", "") not in ("", "0"):
        return None
    try:
        command = _compiler()
        flags = [*_FLAGS, *_INSTRUCTIONS[isa]]
        source = unit_source(plan, isa).encode()
        key = _key(source, [*command, *flags], _version(tuple(command)))
        folder = usable_folder()
        kept = None if afresh else find(folder, key)
        return kept or _compile([*command, *flags], source, folder, key)
    except _Failure as failure:
        _warn(plan, failure)
        return None


def _warn(plan: Plan, failure: _Failure) -> None:
    warnings.warn(
        f"{plan.cell!r} runs on the slow reference loop, for {failure.reason}: {failure.remedy}, "
        "or set RECURRA_NO_COMPILE=1 to leave it at that.",
        stacklevel=2,
    )


def _compiler() -> list[str]:
    """The command that starts the compiler; its first word is the absolute path of the program."""
    remedy = "install g++ or clang, or name yours in the environment variable CXX"
    if chosen := os.environ.get("CXX", "").strip():
        try:
            program, *options = shlex.split(chosen)
        except ValueError:
            raise _Failure(f"CXX={chosen} is not a command", remedy) from None
        found = shutil.which(program)
        if found is None:
            raise _Failure(f"there is no compiler {program}, which CXX names", remedy)
        return [str(Path(found).absolute()), *options]
    for program in _COMPILERS:
        if (found := shutil.which(program)) is not None:
            return [str(Path(found).absolute())]
    raise _Failure("there is no C++ compiler to make it fast", remedy)


@lru_cache(maxsize=8)
def _version(command: tuple[str, ...]) -> bytes:
    return _run([*command, "--version"]).stdout


def _run(command: list[str], source: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    remedy = "name a C++17 compiler that works in the environment variable CXX"
    try:
        # The compiler's words become part of a key and of a message, so they must not depend on the user's language.
        done = subprocess.run(
            command, input=source, capture_output=True, env={**os.environ, "LC_ALL": "C"}, timeout=_PATIENCE
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise _Failure(f"{command[0]} does not run ({error})", remedy) from error
    if done.returncode:
        said = [line for line in done.stderr.decode(errors="replace").splitlines() if line.strip()]
        told = next((line for line in said if "error" in line), said[-1] if said else f"exit code {done.returncode}")
        raise _Failure(f"{command[0]} cannot compile it ({told.strip()})", remedy)
    return done


def _key(source: bytes, command: list[str], version: bytes) -> str:
    """A hash of everything that the library's machine code depends on."""
    machine = f"{sys.platform} {platform.machine()}"
    parts = [source, *_included(source), *(word.encode() for word in command), version, machine.encode(), _processor()]
    return hashlib.sha256(b"".join(b"%d:%b" % (len(part), part) for part in parts)).hexdigest()


@lru_cache(maxsize=1)
def _processor() -> bytes:
    """The processor's kind and instructions.

    They belong to the key of a library because CXX may hold -march=native, and several machines may share one home
    folder and so one cache.
    """
    try:
        # The file repeats these lines for every core; each is needed once.
        kinds = {line[0] for line in _CPU_KIND.finditer(_CPU_INFO.read_bytes())}
    except OSError:
        kinds = set()
    return b"\n".join(sorted(kinds)) or platform.processor().encode()


def _included(source: bytes) -> Iterator[bytes]:
    """The contents of all headers of the package that a source includes."""
    seen: set[bytes] = set()
    waiting = [source]
    while waiting:
        for name in re.findall(rb'^#include "([^"]+)"', waiting.pop(), re.MULTILINE):
            if name not in seen:
                seen.add(name)
                waiting.append((_HEADERS / name.decode()).read_bytes())
                yield waiting[-1]


def _compile(command: list[str], source: bytes, folder: Path | None, key: str) -> Library:
    try:
        with workplace(folder) as work:
            made = work / "cell.so"
            _run([*command, "-I", str(_HEADERS), "-x", "c++", "-", "-o", str(made)], source)
            return keep(made, key)
    except OSError as error:
        remedy = "name a folder that can be written to in RECURRA_CACHE"
        raise _Failure(f"what would be compiled for it cannot be kept ({error})", remedy) from error


def _address(library: Library, plan: Plan) -> int:
    """The address of the library's entry.

    Raises:
        OSError: if it cannot be loaded, has no entry, or is that of another cell.
        AttributeError: if it is no library of a cell.
    """
    loaded = library.load()
    loaded.recurra_cell.restype = ctypes.c_void_p
    address = loaded.recurra_cell()
    if address is None:
        raise OSError(f"{library.path} holds no cell")
    # A CellEntry begins with its fingerprint.
    if ctypes.cast(address, ctypes.POINTER(ctypes.c_char_p))[0] != fingerprint(plan).encode():
        raise OSError(f"{library.path} is of another cell")
    return int(address)
