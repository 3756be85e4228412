"""One training of a study, from its place in the list to its result in the study's folder."""

from __future__ import annotations

import inspect
import math
import os
import shutil
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from .. import registry
from ..errors import ConfigError, DataError, RunError
from ..registry import System
from ..run.directory import CONFIG, WEIGHTS
from .shared_results import claimed, keep, read_result
from .study import Study, Training

__all__ = ["evaluated", "find_training", "outcomes_on", "train_one"]


def find_training(study: Study, folder: Path, number: int, *, final: bool) -> Training:
    """The training of a number, as `recurra compare --list` shows it.

    Raises:
        ConfigError: if there is none of this number.
        RunError: if it is a final training, and the search has not ended.
    """
    trainings = study.final_trainings(folder) if final else study.search_trainings()
    found = next((each for each in trainings if each.number == number), None)
    if found is None:
        kind = "final training" if final else "trial"
        raise ConfigError(f"{folder}: there is no {kind} {number} in this study, which has {len(trainings):,} of them.")
    return found


def train_one(study: Study, folder: Path, training: Training) -> dict[str, Any]:
    """Train, evaluate and keep the result; a training that was begun goes on, and one that has a result is left alone.

    A training that fails, for example because its loss is no longer finite, has a result too: the reason under
    `failed`.

    Args:
        study: of the training.
        folder: of the study.
        training: of `search_trainings` or `final_trainings`.

    Returns:
        The result: `valid`, the measures of the best weights on the validation data; `test`, those on the test data,
        if there are any; `settings`, `seed`, `weights`, `steps` and `seconds`; or `failed`.

    Raises:
        shared_results.Claimed: if another process is at this training.
        ConfigError, DataError: if the data or the configuration cannot be used, which is no fault of the trial.
        KeyboardInterrupt: if it was interrupted; it has saved, and the next call goes on.
    """
    results = folder / ("finals" if training.final else "trials")
    with claimed(folder, training.name):
        kept = read_result(results, training.name)
        if kept is not None:
            return kept
        run = folder.absolute() / "runs" / training.name
        contestant = study.contestants[training.index]
        values: dict[str, Any] = {
            "contestant": contestant.name,
            "trial": training.trial + 1,
            "seed": training.seed,
            "settings": study.settings(training),
            "width": contestant.width,
            "weights": contestant.weights,
        }
        outcomes: Mapping[str, npt.NDArray[Any]] = {}
        try:
            measured, outcomes = _measured(study, run, training)
            values |= measured
        except (ConfigError, DataError, OSError):
            raise
        except RunError as error:
            values["failed"] = str(error).removeprefix(f"{run}: ")
        except Exception as error:
            if os.environ.get("RECURRA_TRACEBACK") == "1":
                traceback.print_exc()
            values["failed"] = f"{type(error).__name__}: {error}".splitlines()[0]
        keep(results, training.name, values, outcomes)
        _tidy(run, training.final and "failed" not in values)
        return values


def outcomes_on(system: System, predictor: Any, files: Sequence[str]) -> dict[str, npt.NDArray[Any]]:
    """What measures are counted of, for each example of the files, by the measure's name; {} if the system has none.

    Raises:
        DataError: if the files cannot be used.
    """
    if not system.outcomes:
        return {}
    found = registry.resolve(system.outcomes)(predictor, list(files))
    return {name: np.asarray(rows, dtype=np.float64) for name, rows in found.items()}


def evaluated(system: System, predictor: Any, files: Sequence[str]) -> dict[str, float]:
    """The measures that the system's own `evaluate` finds on files; none if it has no such verb, or takes no --data."""
    verb = next((verb for verb in system.verbs if verb.name == "evaluate"), None)
    data = None if verb is None else next((option for option in verb.options if option.name == "data"), None)
    if verb is None or data is None or (not data.many and len(files) > 1):
        return {}
    given: dict[str, Any] = {option.name: option.default for option in verb.options if not option.loads}
    given["data"] = list(files) if data.many else files[0]
    function = registry.resolve(verb.function)
    wanted = inspect.signature(function).parameters
    # Options that say how the run is loaded are no parameters of the function.
    given = {name: value for name, value in given.items() if name in wanted or _takes_any(wanted)}
    given |= {"progress": lambda done, total: None} if "progress" in wanted else {}
    given |= {"as_json": True} if "as_json" in wanted else {}
    for output in function(predictor, **given):
        values = getattr(output, "json", None)
        if isinstance(values, Mapping):
            numbers = {measure.name: values.get(measure.name) for measure in system.measures}
            return {name: float(value) for name, value in numbers.items() if isinstance(value, int | float)}
    return {}


def _measured(study: Study, run: Path, training: Training) -> tuple[dict[str, Any], dict[str, npt.NDArray[Any]]]:
    """Train and evaluate."""
    from ..training.training_run import train

    config = study.configuration(training)
    result = train(config, run, resume=(run / CONFIG).exists())
    if result.stopped_because == "interrupted":
        raise KeyboardInterrupt
    measures = {"loss": result.best_loss, **result.measures}
    chosen = measures.get(study.measure.name)
    if chosen is None or not math.isfinite(chosen):
        raise RunError(f"{run}: the validation data give no {study.measure.label}.")
    values: dict[str, Any] = {
        "valid": {name: value for name, value in measures.items() if math.isfinite(value)},
        "steps": result.steps,
        "seconds": result.seconds,
        "stopped_because": result.stopped_because,
    }
    outcomes: dict[str, npt.NDArray[Any]] = {}
    if training.final and study.test:
        system = study.system
        predictor = registry.resolve(system.predictor).from_runs([run], device=config.training.device)
        outcomes = outcomes_on(system, predictor, study.test)
        # The system's own evaluation is asked only for what the outcomes do not give.
        if study.measure.name not in outcomes:
            values["test"] = evaluated(system, predictor, study.test)
    return values, outcomes


def _tidy(run: Path, keep_weights: bool) -> None:
    """Remove what a training needs no more when its result is kept; of a search's runs the log and settings stay."""
    for name in ("checkpoints", "data"):
        shutil.rmtree(run / name, ignore_errors=True)
    if not keep_weights:
        (run / WEIGHTS).unlink(missing_ok=True)


def _takes_any(parameters: Mapping[str, inspect.Parameter]) -> bool:
    return any(each.kind is inspect.Parameter.VAR_KEYWORD for each in parameters.values())
