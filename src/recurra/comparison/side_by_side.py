"""The trainings of a study, some at a time, each a process of its own that keeps its own result."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ..errors import RunError
from ..shown import visible
from ..training.interrupts import ending_signals
from .shared_results import holder, keep, read_result
from .study import Study, Training

__all__ = ["arguments_of", "finish_trainings", "result_of"]

Report = Callable[[Training, dict[str, Any]], None]

# Between two looks at the processes, and at trainings of other machines.
_SECONDS = 0.1
_SECONDS_ELSEWHERE = 5.0
# By which people and systems end processes that did nothing wrong.
_FROM_OUTSIDE = {getattr(signal, name, None) for name in ("SIGINT", "SIGTERM", "SIGKILL", "SIGHUP")}


def arguments_of(folder: Path, training: Training) -> list[str]:
    """What stands after `recurra` in the command that does one training."""
    return ["compare", "--work", str(folder.absolute()), f"--{training.kind}", str(training.number)]


def finish_trainings(
    study: Study, folder: Path, trainings: Sequence[Training], *, workers: int = 1, report: Report | None = None
) -> list[dict[str, Any]]:
    """Do the trainings that have no result yet; trainings that other processes are at are waited for.

    Ctrl-C and SIGTERM reach the trainings too, which save; their ends are waited for, and the same call goes on later.

    Args:
        study: of the trainings.
        folder: of the study.
        trainings: what is wanted.
        workers: processes at a time.
        report: called with each training that ends, and its result.

    Returns:
        The results in the order of the trainings.

    Raises:
        RunError: if a training cannot be done, which is no fault of its settings; no further ones are begun.
    """
    results = {training.name: result_of(folder, training) for training in trainings}
    waiting = deque(training for training in trainings if results[training.name] is None)
    elsewhere: deque[Training] = deque()
    running: dict[subprocess.Popen[bytes], Training] = {}
    stopped: str | None = None
    with ending_signals():
        try:
            while running or ((waiting or elsewhere) and stopped is None):
                while waiting and len(running) < workers and stopped is None:
                    training = waiting.popleft()
                    if holder(folder, training.name) is not None:
                        elsewhere.append(training)
                    else:
                        running[_begun(study, folder, training)] = training
                ended = [process for process in running if process.poll() is not None]
                for process in ended:
                    training = running.pop(process)
                    result = result_of(folder, training)
                    if result is None and holder(folder, training.name) is not None:
                        elsewhere.append(training)
                        continue
                    if result is None and _crashed(process.returncode):
                        result = _keep_crash(study, folder, training, process.returncode)
                    if result is None:
                        stopped = stopped or _said(folder, training, process.returncode)
                        continue
                    results[training.name] = result
                    if report is not None:
                        report(training, result)
                if not ended:
                    only_elsewhere = elsewhere and not running and not waiting
                    time.sleep(_SECONDS_ELSEWHERE if only_elsewhere else _SECONDS)
                for _ in range(len(elsewhere)):
                    training = elsewhere.popleft()
                    result = result_of(folder, training)
                    if result is not None:
                        results[training.name] = result
                    elif holder(folder, training.name) is None:
                        waiting.append(training)
                    else:
                        elsewhere.append(training)
        except BaseException:
            for process in running:
                process.terminate()
            for process in running:
                process.wait()
            raise
    if stopped is not None:
        raise RunError(stopped)
    return [result for result in results.values() if result is not None]


def _begun(study: Study, folder: Path, training: Training) -> subprocess.Popen[bytes]:
    log = _log(folder, training)
    log.parent.mkdir(exist_ok=True)
    environment = {**os.environ, "OMP_NUM_THREADS": str(study.threads)}
    command = [sys.executable, "-m", "recurra", *arguments_of(folder, training)]
    with log.open("wb") as file:
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=file, stderr=file, env=environment)


def result_of(folder: Path, training: Training) -> dict[str, Any] | None:
    """The result of a training; None if there is none yet."""
    return read_result(folder / ("finals" if training.final else "trials"), training.name)


def _crashed(code: int) -> bool:
    """Whether a process was ended by a signal of its own making, such as one for a wrong address."""
    return code < 0 and -code not in _FROM_OUTSIDE


def _keep_crash(study: Study, folder: Path, training: Training, code: int) -> dict[str, Any]:
    values = {
        "contestant": study.contestants[training.index].name,
        "trial": training.trial + 1,
        "seed": training.seed,
        "settings": study.settings(training),
        "failed": f"its process was ended by {signal.Signals(-code).name}",
    }
    keep(folder / ("finals" if training.final else "trials"), training.name, values)
    return values


def _said(folder: Path, training: Training, code: int) -> str:
    """Why a training has no result, in a sentence."""
    what = f"{training.kind} {training.number}"
    if code < 0:
        return f"{folder}: {what} was ended by {signal.Signals(-code).name}; run the command again to go on."
    log = _log(folder, training)
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    said = next((line for line in reversed(lines) if line.startswith("recurra: ")), "")
    reason = visible(said.removeprefix("recurra: ")) or f"see {log}"
    return f"{folder}: {what} could not be done: {reason}"


def _log(folder: Path, training: Training) -> Path:
    return folder / "logs" / f"{training.name}.log"
