"""From the results in a study's folder to its findings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .. import registry
from ..registry import Measure, System
from ..shown import counted
from .findings import Findings, Searched, findings
from .resampling import ratio
from .runs import outcomes_of
from .shared_results import keep, read_result
from .study import Study, best_trial
from .table import Column, Row

__all__ = ["study_findings"]

BASELINE = "baseline"


def study_findings(study: Study, folder: Path, *, with_baseline: bool = True) -> Findings:
    """What a study found, from its results alone; a baseline is trained if the system has one.

    Args:
        study: all of whose trainings have results.
        folder: of the study.
        with_baseline: False leaves it out, so that all differences are to the first contestant.

    Raises:
        RunError: if a trial has no result.
        ConfigError: if no contestant has a training that succeeded.
    """
    finals = folder / "finals"
    by_index: dict[int, list[dict[str, Any]]] = {index: [] for index in range(len(study.contestants))}
    names: dict[int, str] = {}
    for training in study.final_trainings(folder):
        result = read_result(finals, training.name)
        if result is not None:
            by_index[training.index].append(result)
            names.setdefault(training.index, training.name)
    searched = []
    measure = study.measure
    for index, contestant in enumerate(study.contestants):
        trials = study.results_of(folder, index)
        best = best_trial(trials, measure)
        succeeded = [result for result in by_index[index] if "failed" not in result]
        failures = [
            f"{contestant.name}, trial {result['trial']}, seed {result['seed']}: {result['failed']}"
            for result in [*trials, *by_index[index]]
            if "failed" in result
        ]
        searched.append(
            Searched(
                contestant.name,
                [None if "failed" in result else result["valid"][measure.name] for result in trials],
                [result["valid"][measure.name] for result in succeeded],
                _row(study, contestant.name, finals, succeeded),
                {} if best is None else trials[best]["settings"],
                contestant.width,
                contestant.weights,
                failures,
            )
        )
    baseline = _baseline(study, folder, [names[index] for index in sorted(names)]) if with_baseline else None
    columns = [_column(each) for each in _in_order(study.system, measure) if each.best in ("lowest", "highest")]
    having = {name for each in searched if each.row is not None for name in {**each.row.outcomes, **each.row.values}}
    return findings(
        searched,
        _column(measure),
        [column for column in columns if column.name in having],
        baseline=baseline,
        block=study.block,
        notes=_notes(study, [each.row for each in searched if each.row is not None]),
    )


def _row(study: Study, name: str, finals: Path, results: Sequence[Mapping[str, Any]]) -> Row | None:
    if not results:
        return None
    options: dict[str, Any] = {
        "weights": results[0]["weights"],
        "seconds": [result["seconds"] for result in results],
    }
    if not study.test:
        shown = [study.measure.name, *(["loss"] if study.measure.name != "loss" else [])]
        return Row(name, {}, {each: [result["valid"][each] for result in results] for each in shown}, **options)
    outcomes: dict[str, Any] = {}
    if all("outcomes" in result for result in results):
        with np.load(finals / results[0]["outcomes"], allow_pickle=False) as arrays:
            measures = list(arrays)
        # The file of results stands for its folder.
        outcomes = {each: outcomes_of(finals / "results", map(dict, results), each) for each in measures}
    values = {
        each: [result["test"][each] for result in results]
        for each in results[0].get("test", {})
        if each not in outcomes and all(each in result.get("test", {}) for result in results)
    }
    return Row(name, outcomes, values, **options)


def _baseline(study: Study, folder: Path, names: Sequence[str]) -> Row | None:
    """The system's simple baseline on the test data, with the tokens of the first run that there is."""
    system = study.system
    if not (study.test and system.baseline and names):
        return None
    kept = read_result(folder / "finals", BASELINE)
    if kept is None:
        predictor = registry.resolve(system.predictor).from_runs([folder / "runs" / names[0]], device="cpu")
        found = registry.resolve(system.baseline)(predictor, list(study.test))
        name, outcomes = found if found is not None else ("", {})
        keep(folder / "finals", BASELINE, {"name": name}, outcomes)
        kept = read_result(folder / "finals", BASELINE) or {}
    if not kept.get("name"):
        return None
    with np.load(folder / "finals" / kept["outcomes"], allow_pickle=False) as arrays:
        return Row(kept["name"], {name: arrays[name] for name in arrays}, baseline=True, deterministic=True)


def _column(measure: Measure) -> Column:
    return Column.showing(measure, registry.resolve(measure.of_sums) if measure.of_sums else ratio)


def _in_order(system: System, first: Measure) -> list[Measure]:
    return [first, *(measure for measure in system.measures if measure.name != first.name)]


def _notes(study: Study, rows: Sequence[Row]) -> list[str]:
    """What the figures were measured on, and what the tests are over."""
    measure = study.measure
    equal = "about as many weights" if study.equal == "weights" else "the same width"
    budget = f"{counted(study.trials, 'trial')} of the search, with the same settings for all contestants"
    seeds = counted(study.seeds, "seed")
    notes = [f"All contestants have {equal}, and {budget}; then the best trial was trained with {seeds}."]
    if not study.test:
        notes.append(
            f"The figures are those of the validation data, by whose {measure.label} weights and trials were chosen: "
            "they are too good, and no figures of a test."
        )
    elif not any(row.outcomes for row in rows):
        notes.append(
            f"The figures are those of the test data. {study.system.name} gives no outcomes of single examples, so the "
            "tests are over seeds alone."
        )
    else:
        notes.append("The figures are those of the test data, which were read once, after all choices.")
    return notes
