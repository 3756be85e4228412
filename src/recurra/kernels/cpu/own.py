"""Cells of the user's own: their arithmetic compiled on first use by the machine's C++ compiler, and kept."""

from __future__ import annotations

import atexit
import ctypes
import hashlib
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import threading
import warnings
from collections.abc import Iterator
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

from .generator.emit import fingerprint, unit_source
from .generator.plan import Plan

__all__ = ["cache_folder", "compile_cell", "entry"]

# Those of CMakeLists.txt, so that a cell's numbers do not depend on where it was compiled.
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

_lock = threading.Lock()
# Code that the engine has addresses of must never be unloaded.
_loaded: dict[Path, ctypes.CDLL] = {}


class _Failure(Exception):
    """Why a cell could not be compiled, and what to do about it."""

    def __init__(self, reason: str, remedy: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self.remedy = remedy


def entry(plan: Plan, isa: str) -> int | None:
    """The address of a cell's compiled arithmetic in this process, for the engine's `Cell`.

    None if there is none: with RECURRA_NO_COMPILE=1 silently, else with a UserWarning that says why.
    """
    with _lock:
        path = compile_cell(plan, isa)
        if path is None:
            return None
        try:
            return _load(path, plan)
        except (OSError, AttributeError):
            # Whole, yet of no use here: a cache that came from elsewhere. Left there it would be tried each time.
            with suppress(OSError):
                path.unlink()
            path = compile_cell(plan, isa, afresh=True)
        try:
            return None if path is None else _load(path, plan)
        except (OSError, AttributeError) as error:
            remedy = "name in RECURRA_CACHE a folder that programs may be run from"
            _warn(plan, _Failure(f"what was compiled for it cannot be loaded ({error})", remedy))
            return None


def compile_cell(plan: Plan, isa: str, *, afresh: bool = False) -> Path | None:
    """The shared library of a cell for an instruction set, from the cache or compiled now.

    Its `recurra_cell()` returns the address of the cell's `CellEntry`. None if it cannot be made, with a UserWarning
    that says why, or if RECURRA_NO_COMPILE=1 forbids it.

    Args:
        plan: the cell's plan.
        isa: "portable", "avx2" or "avx512".
        afresh: compile it even if the cache has it.
    """
    if os.environ.get("RECURRA_NO_COMPILE", "") not in ("", "0"):
        return None
    try:
        command = _compiler()
        flags = [*_FLAGS, *_INSTRUCTIONS[isa]]
        source = unit_source(plan, isa).encode()
        key = _key(source, [*command, *flags], _version(tuple(command)))
        folder = cache_folder()
        kept = None if afresh else _kept(folder, key)
        return kept or _compile([*command, *flags], source, folder, key)
    except _Failure as failure:
        _warn(plan, failure)
        return None


def cache_folder() -> Path | None:
    """Where compiled cells are kept: $RECURRA_CACHE, else the user's folder for caches; None if there is no such."""
    if chosen := os.environ.get("RECURRA_CACHE"):
        return Path(os.path.expanduser(chosen)).absolute()  # noqa: PTH111 - it leaves alone what it does not know
    # The XDG specification has relative paths ignored.
    if Path(shared := os.environ.get("XDG_CACHE_HOME", "")).is_absolute():
        return Path(shared) / "recurra"
    try:
        home = Path.home()
    except RuntimeError:
        return None
    return home / ("Library/Caches" if sys.platform == "darwin" else ".cache") / "recurra"


def _warn(plan: Plan, failure: _Failure) -> None:
    warnings.warn(
        f"{plan.cell!r} runs on the slow reference loop, for {failure.reason}: {failure.remedy}, "
        "or set RECURRA_NO_COMPILE=1 to leave it at that.",
        stacklevel=2,
    )


def _compiler() -> list[str]:
    """The command that starts the compiler, its program with its whole path."""
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
        # What the compiler says is part of a key and of a message, and both are to be the same for everyone.
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
    """What the library's machine code depends on."""
    machine = f"{sys.platform} {platform.machine()}"
    parts = [source, *_included(source), *(word.encode() for word in command), version, machine.encode()]
    return hashlib.sha256(b"".join(b"%d:%b" % (len(part), part) for part in parts)).hexdigest()


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


def _digest(library: bytes) -> str:
    return hashlib.sha256(library).hexdigest()[:32]


def _kept(folder: Path | None, key: str) -> Path | None:
    """A library of this key in the cache whose bytes are those that were written."""
    if folder is None:
        return None
    # The name ends in the contents' own digest: to load a library that was cut short can kill the process.
    for path in sorted(folder.glob(f"{key}-*.so")):
        try:
            if path.stem == f"{key}-{_digest(path.read_bytes())}":
                return path
        except OSError:
            continue
    return None


def _compile(command: list[str], source: bytes, folder: Path | None, key: str) -> Path:
    try:
        with _workplace(folder) as work:
            made = Path(work) / "cell.so"
            _run([*command, "-I", str(_HEADERS), "-x", "c++", "-", "-o", str(made)], source)
            target = Path(work).parent / f"{key}-{_digest(made.read_bytes())}.so"
            # In one go, so that no other process ever sees half of it.
            made.replace(target)
            return target
    except OSError as error:
        remedy = "name a folder that can be written to in RECURRA_CACHE"
        raise _Failure(f"what would be compiled for it cannot be kept ({error})", remedy) from error


def _workplace(folder: Path | None) -> tempfile.TemporaryDirectory[str]:
    """A folder to compile in, within the cache, or if that cannot be written to within one for this process."""
    if folder is not None:
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            return tempfile.TemporaryDirectory(dir=folder, prefix=".making-")
        except OSError:
            pass
    return tempfile.TemporaryDirectory(dir=_own_folder(), prefix=".making-")


@lru_cache(maxsize=1)
def _own_folder() -> str:
    folder = tempfile.mkdtemp(prefix="recurra-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _load(path: Path, plan: Plan) -> int:
    """The address of the library's entry.

    Raises:
        OSError: if it cannot be loaded, or is that of another cell.
        AttributeError: if it is no library of a cell.
    """
    library = ctypes.CDLL(str(path))
    library.recurra_cell.restype = ctypes.c_void_p
    address = library.recurra_cell()
    # A CellEntry begins with its fingerprint.
    if ctypes.cast(address, ctypes.POINTER(ctypes.c_char_p))[0] != fingerprint(plan).encode():
        raise OSError(f"{path} is of another cell")
    _loaded[path] = library
    return int(address)
