"""Checks in a process of their own, which forks for each group of them; a fork that ends takes one check with it.

    python -m tests.layers.transforms.isolated < CHECKS > VERDICTS

with a line of JSON for each check: there [way, entry, cell] of the matrix or [name] of a report, and here
{"check": ..., "verdict": ...}.
"""

from __future__ import annotations

import faulthandler
import importlib
import itertools
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils.flop_counter import FlopCounterMode

from .matrix import Case, judge
from .reports import REPORTS, judge_report

__all__ = ["verdicts"]

Check = tuple[str, ...]

ROOT = Path(__file__).parents[3]
A_CHECK_MAY_TAKE = 100  # seconds; the longest takes less than ten


def verdicts(checks: Sequence[Check]) -> dict[Check, str]:
    """ "right", "refused" or what is wrong with each; of one that ended its process how it ended."""
    result = subprocess.run(
        [sys.executable, "-m", "tests.layers.transforms.isolated"],
        cwd=ROOT,
        env=os.environ | {"PYTHONWARNINGS": "ignore"},
        input="".join(json.dumps(check) + "\n" for check in checks),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    return {tuple(line["check"]): line["verdict"] for line in lines}


def verdict_on(check: Check) -> str:
    return judge_report(REPORTS[check[0]]) if len(check) == 1 else judge(Case(*check))


def run_group(checks: Sequence[Check], output: int) -> None:
    """Checks in a fork, and in another after each that ended it."""

    def report(check: Check, verdict: str) -> None:
        os.write(output, (json.dumps({"check": check, "verdict": verdict}) + "\n").encode())

    left = list(checks)
    while left:
        with tempfile.TemporaryFile("w+") as words, tempfile.TemporaryFile("w+b") as done:
            child = os.fork()
            if not child:
                faulthandler.enable(words)
                for check in left:
                    faulthandler.dump_traceback_later(A_CHECK_MAY_TAKE, exit=True, file=words)
                    report(check, verdict_on(check))
                    os.write(done.fileno(), b".")
                # Without the interpreter's end, at which a thread that hangs would hold the process.
                os._exit(0)
            status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            left = left[os.fstat(done.fileno()).st_size :]
            if left:
                words.seek(0)
                report(left.pop(0), f"the process ended with {status}: " + "".join(words.readlines()[:12]))


def warm_up() -> None:
    """Load here once what torch loads at first use, which takes seconds, so that no fork has to."""
    for name in ("torch._dynamo.variables", "torch._dispatch.python", "torch._functorch.aot_autograd"):
        importlib.import_module(name)
    for mode in ("real", "fake"):
        make_fx(lambda x: (x @ x).detach().sin(), tracing_mode=mode)(torch.ones(2, 2))
    with FlopCounterMode(display=False):
        torch.ones(2, 2) @ torch.ones(2, 2)


def main() -> None:
    # Nothing but verdicts goes to the real output.
    output = os.dup(1)
    os.dup2(2, 1)
    given = [tuple(json.loads(line)) for line in sys.stdin]
    warm_up()
    # A way of the matrix is a group, and each report is one.
    for _, group in itertools.groupby(given, lambda check: check[0]):
        run_group(list(group), output)


if __name__ == "__main__":
    main()
