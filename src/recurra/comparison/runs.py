"""Several seeds of several configurations: trained one process each, kept as they end, gone on with after a break.

A *case* is a mapping of everything that a result depends on, such as {"cell": "gru", "width": 128, "seed": 1}: strings,
numbers, booleans, lists. A *result* is a line of JSON with the case and what was measured; outcomes of the single
examples, which paired tests need, lie beside it in files of their own.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import re
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ..errors import RunError
from ..strict_json import read_json
from ..strict_yaml import write_yaml

__all__ = [
    "Measurement",
    "Spread",
    "case_name",
    "command",
    "finish",
    "outcomes_of",
    "read_results",
    "spread",
    "train",
    "with_seeds",
]

Case = Mapping[str, Any]
Result = dict[str, Any]


@dataclass(frozen=True)
class Measurement:
    """What measuring one case gives.

    Attributes:
        values: numbers and strings by name, which go to the line of JSON.
        outcomes: by the name of a measure an array with one row for each example, for paired tests.
    """

    values: Mapping[str, Any]
    outcomes: Mapping[str, npt.NDArray[Any]] = field(default_factory=dict)


class Spread(NamedTuple):
    """Mean and standard deviation over seeds (divided by n - 1; None for a single one), and their number."""

    mean: float
    deviation: float | None
    runs: int


def spread(values: Iterable[float]) -> Spread:
    """Mean, standard deviation and number of values, of which there must be at least one."""
    found = np.fromiter(values, dtype=np.float64)
    return Spread(float(found.mean()), float(found.std(ddof=1)) if len(found) > 1 else None, len(found))


def with_seeds(cases: Iterable[Case], seeds: Iterable[int]) -> list[dict[str, Any]]:
    """Each case with each seed under the key `seed`; all cases with the first seed come first."""
    seeds, cases = list(seeds), list(cases)
    return [{**case, "seed": seed} for seed in seeds for case in cases]


def case_name(case: Case) -> str:
    """A name fit for a file, which differs between cases that differ: its values, and a checksum of keys and values."""
    text = json.dumps(case, sort_keys=True)
    words = re.sub(r"[^\w.]+", "_", "-".join(str(value) for value in case.values()))[:80]
    return f"{words}-{zlib.crc32(text.encode()):08x}"


def finish(
    kept: Path,
    cases: Sequence[Case],
    measure: Callable[[Case], Measurement],
    *,
    workers: int = 1,
    threads: int | None = 1,
    own_process: bool = True,
    report: Callable[[str], None] | None = None,
) -> list[Result]:
    """Measure the cases that have no result yet, some at a time; a result is kept as soon as it is there.

    After an interruption the same call goes on with the cases that are missing. If a case fails, the others are
    finished first.

    Args:
        kept: the file of results, a line of JSON each, to which the new ones are added; a last line that was cut off
            is dropped. Outcomes go to the folder of the same name without its ending.
        cases: what is to be measured; a result is that of a case if it has all of the case's keys and values.
        measure: trains and measures one case. To run in a process of its own it must be a function of a module, or a
            functools.partial of one.
        workers: cases at a time.
        threads: for each process, in OMP_NUM_THREADS; None: as it is set now.
        own_process: measure in a new process, so that random numbers and threads are those of this case alone, and a
            crash is that of this case alone. False: in a thread of this one.
        report: called with each new line.

    Returns:
        The results of the cases in their order.

    Raises:
        RunError: if the file holds something else, or cases failed; it names them.
    """
    kept.parent.mkdir(parents=True, exist_ok=True)
    results = read_results(kept)
    missing = [case for case in cases if _result_of(case, results) is None]
    run = _measure_apart if own_process else _measure_here
    failed: dict[str, BaseException] = {}
    with _threads(threads), kept.open("a", encoding="utf-8") as file, ThreadPoolExecutor(workers) as pool:
        pending: dict[Future[Measurement], Case] = {pool.submit(run, measure, case): case for case in missing}
        try:
            while pending:
                ended = wait(pending, return_when=FIRST_COMPLETED).done
                for future in [each for each in pending if each in ended]:
                    case = pending.pop(future)
                    error = future.exception()
                    if error is not None:
                        failed[case_name(case)] = error
                        continue
                    line = json.dumps(_keep(kept, case, future.result()))
                    results.append(json.loads(line))
                    file.write(line + "\n")
                    file.flush()
                    if report is not None:
                        report(line)
        except BaseException:
            # Those that run are waited for: each trains in a process that ends by the same Ctrl-C and saves.
            pool.shutdown(wait=True, cancel_futures=True)
            raise
    if failed:
        name, error = next(iter(failed.items()))
        raise RunError(
            f"{kept}: {len(failed)} of {len(missing)} cases failed, of which {name}: {error}; the others are kept, so "
            "mend this and run it again."
        ) from error
    return [found for case in cases if (found := _result_of(case, results)) is not None]


def read_results(kept: Path) -> list[Result]:
    """All results in a file, none if it does not exist yet; a last line that was cut off is removed from it.

    Raises:
        RunError: if a line holds something else.
    """
    if not kept.exists():
        return []
    text = kept.read_bytes()
    whole = text.rpartition(b"\n")[0]
    if len(whole) + 1 < len(text):
        # The process was ended while it wrote this line.
        os.truncate(kept, len(whole) + 1 if whole else 0)
    results = []
    for number, line in enumerate(whole.split(b"\n") if whole else [], 1):
        try:
            result = read_json(line)
        except ValueError as error:
            raise RunError(f"{kept}:{number}: is no line of JSON ({error}); remove the line.") from error
        if not isinstance(result, dict):
            raise RunError(f"{kept}:{number}: is no result; remove the line.")
        results.append(result)
    return results


def outcomes_of(kept: Path, results: Iterable[Result], measure: str) -> npt.NDArray[np.float64]:
    """Outcomes of several runs on the same examples, (R, N, K), as `resampling` takes them.

    Args:
        kept: the file of results.
        results: lines of it.
        measure: the name of the outcomes.

    Raises:
        RunError: if a result has no such outcomes, or they are not those of equally many examples.
    """
    found = []
    for result in results:
        path = kept.parent / result.get("outcomes", "")
        try:
            with np.load(path, allow_pickle=False) as arrays:
                rows = np.asarray(arrays[measure], dtype=np.float64)
        except (OSError, KeyError, ValueError) as error:
            raise RunError(
                f"{path}: holds no outcomes {measure} of the examples; remove its line in {kept} and run again."
            ) from error
        found.append(rows[:, None] if rows.ndim == 1 else rows)
    if len({rows.shape for rows in found}) != 1:
        shapes = ", ".join(sorted({str(rows.shape) for rows in found})) or "none"
        raise RunError(
            f"{kept}: outcomes {measure} have the shapes {shapes}; runs must be judged on the same examples."
        )
    return np.stack(found)


def command(*arguments: str) -> str:
    """What `recurra` with these arguments prints, run in a process of its own.

    Ctrl-C reaches that process too, which then saves; its end is waited for.

    Raises:
        RunError: if it fails; with its message.
    """
    call = [sys.executable, "-m", "recurra", *arguments]
    interrupted = False
    with subprocess.Popen(call, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        while True:
            try:
                printed, said = process.communicate()
                break
            except KeyboardInterrupt:
                interrupted = True
    if interrupted:
        raise KeyboardInterrupt
    if process.returncode:
        raise RunError(f"recurra {' '.join(arguments)}: {said.strip()}")
    return printed


def train(run: Path, config: Mapping[str, Any], *data: str) -> None:
    """Train in a run directory, or go on there if it was begun; the configuration is written beside it.

    Args:
        run: the directory.
        config: sections and keys as in a YAML file.
        data: what the command line is to be told besides, such as `--data text.txt`.

    Raises:
        RunError: if the training fails.
    """
    run.parent.mkdir(parents=True, exist_ok=True)
    settings = run.with_name(f"{run.name}.yaml")
    settings.write_text(write_yaml(dict(config)), encoding="utf-8")
    resume = ["--resume"] if (run / "config.yaml").exists() else []
    command("train", "--config", str(settings), "--run", str(run), *data, *resume)


def _result_of(case: Case, results: Iterable[Result]) -> Result | None:
    plain = json.loads(json.dumps(case))
    return next((result for result in results if plain.items() <= result.items()), None)


def _keep(kept: Path, case: Case, measured: Measurement) -> Result:
    """Write the outcomes aside and then in place, and give the line that tells of them."""
    result = {**case, **measured.values}
    if len(result) < len(case) + len(measured.values) or "outcomes" in result:
        raise RunError(f"{kept}: a measured value has the name of a key of the case, or `outcomes`; call it otherwise.")
    if measured.outcomes:
        path = kept.with_suffix("") / f"{case_name(case)}.npz"
        path.parent.mkdir(exist_ok=True)
        aside = path.with_name(f".{path.name}")
        np.savez_compressed(aside, **measured.outcomes)  # type: ignore[arg-type]
        aside.replace(path)
        result["outcomes"] = path.relative_to(kept.parent).as_posix()
    return result


@contextmanager
def _threads(threads: int | None) -> Iterator[None]:
    """Let the processes that are started in this context have so many threads each."""
    before = os.environ.get("OMP_NUM_THREADS")
    if threads is not None:
        os.environ["OMP_NUM_THREADS"] = str(threads)
    try:
        yield
    finally:
        if before is not None:
            os.environ["OMP_NUM_THREADS"] = before
        elif threads is not None:
            del os.environ["OMP_NUM_THREADS"]


def _measure_here(measure: Callable[[Case], Measurement], case: Case) -> Measurement:
    return measure(case)


def _measure_apart(measure: Callable[[Case], Measurement], case: Case) -> Measurement:
    # A fresh interpreter: a forked one would have this one's random numbers and threads.
    context = multiprocessing.get_context("spawn")
    receiving, sending = context.Pipe(duplex=False)
    process = context.Process(target=_child, args=(sending, measure, case))
    process.start()
    sending.close()
    try:
        found, message = receiving.recv()
    except EOFError:
        found, message = None, None
    process.join()
    if isinstance(found, Measurement):
        return found
    raise RunError(message or f"its process ended with exit code {process.exitcode}")


def _child(sending: Any, measure: Callable[[Case], Measurement], case: Case) -> None:
    try:
        answer: tuple[Measurement | None, str] = measure(case), ""
    except Exception as error:
        answer = None, f"{type(error).__name__}: {error}"
    sending.send(answer)
    sending.close()
