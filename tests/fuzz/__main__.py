"""Damaged files, thousands of each kind: every command says in a sentence what is wrong, and quickly, or does its work.

    python -m tests.fuzz [--only "tokenizer" ...] [--cases 10000] [--first 0] [--workers 2] [--keep FOLDER]

A case fails if the command ends by a traceback, an "internal error" or a crash, takes longer than five seconds, or
opens, makes, renames or removes anything outside of its own folder. Cases are numbered and each is made of its number
alone: what failed is shown with the command that repeats it, and --keep has the damaged files.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import tempfile
import time
from multiprocessing.connection import Connection, wait
from pathlib import Path

from .case import serve, train
from .targets import TARGETS

SECONDS = 5.0
"""A case may take so long; whoever takes longer is asked once more, for the machine may have been busy."""


# In memory where there is such a place: what a training forces to the disk takes most of the time else.
PLACE = "/dev/shm" if Path("/dev/shm").is_dir() else None


class Worker:
    """A process that runs cases one by one, so that a crash or a hang ends it alone."""

    def __init__(self, runs: Path, keep: Path | None) -> None:
        self.runs, self.keep = runs, keep
        self.start()

    def start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.folder = tempfile.TemporaryDirectory(prefix="recurra-fuzz-", dir=PLACE)
        self.process = context.Process(target=serve, args=(theirs, self.runs, Path(self.folder.name), self.keep))
        self.process.start()
        theirs.close()
        self.pipe.recv()

    def ask(self, case: tuple[str, int]) -> None:
        self.case, self.asked = case, time.monotonic()
        self.pipe.send(case)

    def stop(self) -> None:
        self.process.kill()
        self.process.join()
        self.pipe.close()
        self.folder.cleanup()


def fuzz(cases: list[tuple[str, int]], workers: int, runs: Path, keep: Path | None) -> list[tuple[str, int, str]]:
    """Run the cases; which of them failed, and how."""
    waiting = iter(cases)
    again: set[tuple[str, int]] = set()
    failed: list[tuple[str, int, str]] = []
    idle = [Worker(runs, keep) for _ in range(workers)]
    busy: dict[Connection, Worker] = {}
    done, shown = 0, time.monotonic()
    while True:
        while idle and (case := next(waiting, None)) is not None:
            worker = idle.pop()
            worker.ask(case)
            busy[worker.pipe] = worker
        if not busy:
            break
        wait(list(busy), timeout=0.5)
        for worker in [each for each in busy.values() if each.pipe.poll()]:
            del busy[worker.pipe]
            try:
                problem = worker.pipe.recv()
            except (EOFError, ConnectionResetError):
                worker.process.join()
                problem = f"the process died with {worker.process.exitcode}"
                worker.stop()
                worker.start()
            done += 1
            if problem is not None:
                failed.append((*worker.case, problem))
            idle.append(worker)
        for worker in [each for each in busy.values() if time.monotonic() - each.asked > SECONDS]:
            del busy[worker.pipe]
            case = worker.case
            worker.stop()
            worker.start()
            if case in again:
                done += 1
                failed.append((*case, f"took longer than {SECONDS:g} seconds, twice"))
                idle.append(worker)
            else:
                again.add(case)
                worker.ask(case)
                busy[worker.pipe] = worker
        if time.monotonic() - shown > 10:
            shown = time.monotonic()
            print(f"{done:,} of {len(cases):,}, {len(failed)} failed", file=sys.stderr, flush=True)
    for worker in idle:
        worker.stop()
    return failed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=TARGETS, default=list(TARGETS), metavar="KIND")
    parser.add_argument("--cases", type=int, default=10_000, help="of each kind")
    parser.add_argument("--first", type=int, default=0, help="number of the first")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--keep", type=Path, help="folder for the files of failed cases")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="recurra-fuzz-runs-", dir=PLACE) as made:
        runs = Path(made)
        make = multiprocessing.get_context("spawn").Process(target=train, args=(runs,))
        make.start()
        make.join()
        if make.exitcode:
            raise SystemExit("The runs to damage could not be trained.")
        cases = [
            (kind, number) for kind in options.only for number in range(options.first, options.first + options.cases)
        ]
        failures = fuzz(cases, min(options.workers, len(cases)), runs, options.keep)
    for kind in options.only:
        count = sum(failure[0] == kind for failure in failures)
        print(f"{kind}: {options.cases:,} cases, {count} failed")
    for kind, number, problem in failures[:50]:
        print(f'\npython -m tests.fuzz --only "{kind}" --first {number} --cases 1\n{problem}')
    raise SystemExit(1 if failures else 0)


if __name__ == "__main__":
    main()
