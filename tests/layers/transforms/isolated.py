"""Cells of the matrix in a process of their own, which forks for each way; a fork that ends takes one case with it.

    python -m tests.layers.transforms.isolated < CASES > VERDICTS

with a line of JSON for each case: [way, entry, cell] there and {"case": ..., "verdict": ...} here.
"""

from __future__ import annotations

import faulthandler
import itertools
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from .matrix import Case, judge

__all__ = ["verdicts"]

ROOT = Path(__file__).parents[3]
A_CASE_MAY_TAKE = 60  # seconds; the longest takes less than five


def verdicts(cases: Sequence[Case]) -> dict[Case, str]:
    """What `judge` says of each, and of a case that ended its process how it ended."""
    result = subprocess.run(
        [sys.executable, "-m", "tests.layers.transforms.isolated"],
        cwd=ROOT,
        env=os.environ | {"PYTHONWARNINGS": "ignore"},
        input="".join(json.dumps([case.way, case.entry, case.cell]) + "\n" for case in cases),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    return {Case(*line["case"]): line["verdict"] for line in lines}


def report(case: Case, verdict: str) -> None:
    line = json.dumps({"case": [case.way, case.entry, case.cell], "verdict": verdict}) + "\n"
    os.write(VERDICTS, line.encode())


def run_group(cases: Sequence[Case]) -> None:
    """Cases in a fork, and in another after each that ended it."""
    left = list(cases)
    while left:
        with tempfile.TemporaryFile("w+") as words, tempfile.TemporaryFile("w+b") as done:
            child = os.fork()
            if not child:
                faulthandler.enable(words)
                for case in left:
                    faulthandler.dump_traceback_later(A_CASE_MAY_TAKE, exit=True, file=words)
                    report(case, judge(case))
                    os.write(done.fileno(), b".")
                # Without the interpreter's end, at which a thread that hangs would hold the process.
                os._exit(0)
            status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            left = left[os.fstat(done.fileno()).st_size :]
            if left:
                words.seek(0)
                report(left.pop(0), f"the process ended with {status}: " + "".join(words.readlines()[:12]))


if __name__ == "__main__":
    given = [Case(*json.loads(line)) for line in sys.stdin]
    # Nothing but verdicts goes to the real output.
    VERDICTS = os.dup(1)
    os.dup2(2, 1)
    for _, group in itertools.groupby(given, lambda case: case.way):
        run_group(list(group))
