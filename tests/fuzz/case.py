"""One case: damage a copy of a run, run the command in this process, and look at how it ended and what it touched."""

from __future__ import annotations

import copy
import os
import resource
import shutil
import sys
import traceback
from collections.abc import Sequence
from functools import lru_cache
from multiprocessing.connection import Connection
from pathlib import Path
from random import Random
from typing import Any

from .targets import TARGETS, Target, train_runs

__all__ = ["serve", "train"]

MEMORY = 8 << 30
"""Bytes of address space for a case: a file that asks for more meets an error, as on a small machine."""


def serve(pipe: Connection, runs: Path, folder: Path, keep: Path | None) -> None:
    """Answer cases, by kind and number, with what went wrong or None, until the process is killed."""
    # Errors then come with tracebacks, for the report of a failed case.
    os.environ["RECURRA_TRACEBACK"] = "1"
    for name in ("HOME", "TMPDIR", "RECURRA_CACHE", "XDG_CACHE_HOME"):
        os.environ[name] = str(folder)
    sys.dont_write_bytecode = True
    import torch

    torch.set_num_threads(1)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    _remember()
    # What is imported late is imported now, so that no case pays for it.
    for target in (each for several in TARGETS.values() for each in several):
        run = _prepare(target, Random(0), runs, folder / "case", damaged=False)
        invoke(_words(target.command, run, folder / "case"))
    # It asks the system for its fonts once.
    import matplotlib.font_manager  # noqa: F401

    touched = _Touched(folder)
    sys.addaudithook(touched)
    pipe.send(None)
    while True:
        kind, number = pipe.recv()
        random = Random(f"{kind} {number}")
        target = random.choice(TARGETS[kind])
        run = _prepare(target, random, runs, folder / "case")
        if keep is not None:
            kept = keep / f"{kind} {number}"
            shutil.copytree(folder / "case", kept, dirs_exist_ok=True)
        touched.outside = []
        problem = _problem(_words(target.command, run, folder / "case"))
        if problem is None and touched.outside:
            problem = f"touched what is outside: {touched.outside[:5]}"
        if keep is not None and problem is None:
            shutil.rmtree(kept)
        pipe.send(problem)


def _prepare(target: Target, random: Random, runs: Path, case: Path, damaged: bool = True) -> Path:
    shutil.rmtree(case, ignore_errors=True)
    case.mkdir()
    for path in runs.iterdir():
        if path.is_file():
            shutil.copyfile(path, case / path.name)
    run = case
    if target.runs:
        run = case / random.choice(target.runs)
        shutil.copytree(runs / run.name, run)
    if damaged:
        target.damage(random, (run if (run / target.file).exists() else case) / target.file)
    return run


def _remember() -> None:
    """Read each configuration and version once: most cases damage something else, and half their time would be that."""
    from recurra.cli import about
    from recurra.config import load as config

    read = lru_cache(64)(config.read_yaml)
    config.read_yaml = lambda *arguments: copy.deepcopy(read(*arguments))
    about._version = lru_cache(64)(about._version)


def _words(command: str, run: Path, case: Path) -> list[str]:
    return [word.format(run=run, folder=case) for word in command.split()]


def _problem(command: Sequence[str]) -> str | None:
    try:
        result = invoke(command)
    except BaseException:
        return traceback.format_exc()
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        return "".join(traceback.format_exception(result.exception))
    said = result.stderr
    if "internal error" in said:
        return said
    if result.exit_code not in (0, 1, 2):
        return f"exit code {result.exit_code}: {said}"
    if result.exit_code and not any(line.startswith("recurra: ") for line in said.splitlines()):
        return f"exit code {result.exit_code} without a word of ours: {said}"
    shown = result.stdout + "".join(line for line in said.splitlines() if line.startswith("recurra: "))
    if any((ord(c) < 32 and c not in "\n\t") or 127 <= ord(c) < 160 for c in shown):
        return f"control characters: {shown!r}"
    return None


def train(runs: Path) -> None:
    """Train the runs that are damaged, in a process of its own: the one that watches has no use for torch."""

    def run(*arguments: str) -> None:
        result = invoke(arguments)
        if result.exit_code:
            raise SystemExit(result.output)

    train_runs(runs, run)


def invoke(arguments: Sequence[str]) -> Any:
    """Run a command in this process; after a last `<` stands the file that is its standard input."""
    from typer.testing import CliRunner

    from recurra.cli.main import app

    words, given = list(arguments), None
    if "<" in words:
        given = Path(words[-1]).read_bytes()
        words = words[:-2]
    return CliRunner().invoke(app, words, input=given)


class _Touched:
    """An audit hook: the paths outside of a folder that something tried to write, make, rename or remove."""

    def __init__(self, folder: Path) -> None:
        self.folder = os.path.realpath(folder)
        self.outside: list[str] = []

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            path, mode, flags = arguments
            changing = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
            paths = [path] if (flags & changing if isinstance(flags, int) else mode != "r") else []
        elif event in ("os.rename", "os.link", "os.symlink"):
            paths = list(arguments[:2])
        elif event in ("os.remove", "os.mkdir", "os.rmdir", "os.truncate", "os.chmod", "shutil.rmtree"):
            # Within a folder that is open, whose removal itself was told by its whole path.
            within = event in ("os.remove", "os.rmdir") and arguments[1] != -1
            paths = [] if within else [arguments[0]]
        elif event in ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "socket.connect"):
            self.outside.append(f"{event} {arguments[:2]}")
            return
        else:
            return
        for path in paths:
            if isinstance(path, str | bytes | os.PathLike) and os.fsdecode(path) != os.devnull:
                real = os.path.realpath(os.fsdecode(path))
                if not real.startswith(self.folder + os.sep) and not isinstance(path, int):
                    self.outside.append(f"{event} {real}")
