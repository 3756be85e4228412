"""A results table that begins with a baseline and says which differences are real."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt

from ..errors import ConfigError, RecurraError
from ..registry import Measure
from .resampling import Measured, paired_bootstrap, ratio, run_values
from .runs import Spread, outcomes_of, spread
from .significance import Difference, discordant, holm, including_seeds, mcnemar, welch_t_test

__all__ = ["Column", "Compared", "ResultsTable", "Row", "compare"]


@dataclass(frozen=True)
class Column:
    """A measure that systems are compared by, and how it is counted from outcomes of single examples.

    Attributes:
        name: its key in rows and in JSON.
        label: the head of its column, with the unit.
        form: how it is written, as str.format takes it, for example "{:.2f}" or "{:.1%}".
        higher: whether more is better.
        of: from sums of the examples' statistics to the measure (`recurra.comparison.resampling`).
    """

    name: str
    label: str
    form: str = "{:.3f}"
    higher: bool = True
    of: Measured = ratio

    @classmethod
    def showing(cls, measure: Measure, of: Measured = ratio) -> Self:
        """The column of a measure of a system."""
        label = f"{measure.label} ({measure.unit})" if measure.unit else measure.label
        return cls(measure.name, label, measure.form, measure.best == "highest", of)


@dataclass(frozen=True)
class Row:
    """One system, with one or several runs that differ in their seeds.

    Attributes:
        name: the system.
        outcomes: by measure the outcomes of the examples, in a shape that `recurra.comparison.resampling` knows.
        values: by measure one value for each run, where outcomes of the examples are not at hand.
        weights: number of weights.
        seconds: training time of each run.
        baseline: whether this is the simple system that the others have to beat.
        deterministic: whether every seed would give the same, so that one run says all.
    """

    name: str
    outcomes: Mapping[str, npt.ArrayLike] = field(default_factory=dict)
    values: Mapping[str, Sequence[float]] = field(default_factory=dict)
    weights: int | None = None
    seconds: Sequence[float] = ()
    baseline: bool = False
    deterministic: bool = False

    @classmethod
    def of_runs(
        cls,
        name: str,
        kept: Path,
        results: Sequence[Mapping[str, Any]],
        *,
        outcomes: Sequence[str] = (),
        values: Sequence[str] = (),
        **options: Any,
    ) -> Self:
        """The row of some lines of a file of results.

        Args:
            name: of the row.
            kept: the file, to which the lines' outcomes belong.
            results: lines of one configuration, one for each seed; `weights` and `seconds` are taken from them.
            outcomes, values: names of measures that the lines have in either way.
            options: other attributes of the row.
        """
        found = {each: outcomes_of(kept, map(dict, results), each) for each in outcomes}
        given: dict[str, Any] = {"seconds": [result["seconds"] for result in results if "seconds" in result]}
        if results and "weights" in results[0]:
            given["weights"] = results[0]["weights"]
        numbers = {each: [result[each] for result in results] for each in values}
        return cls(name, found, numbers, **(given | options))


@dataclass(frozen=True)
class Compared:
    """A row's entry for one measure.

    Attributes:
        spread: mean, deviation and number of its runs.
        difference: to the row that all are compared with; None for that row, or where nothing tells whether it is real.
        p: the difference's p-value, corrected for the number of rows; None as before.
        best: whether it is the best of the rows that are significantly better.
    """

    spread: Spread
    difference: Difference | None = None
    p: float | None = None
    best: bool = False


@dataclass(frozen=True)
class ResultsTable:
    """What `compare` found, to be printed.

    Attributes:
        measures: the columns.
        rows: the baseline first.
        entries: by measure and row name.
        against: the name of the row that differences are to.
        notes: sentences that say how to read it.
    """

    measures: Sequence[Column]
    rows: Sequence[Row]
    entries: Mapping[tuple[str, str], Compared]
    against: str
    notes: Sequence[str]

    def markdown(self) -> str:
        """A table of Markdown with the notes below it; the marked entries are bold."""
        head, *body = self._cells("**{}**")
        escaped = [[cell.replace("|", "\\|") for cell in line] for line in (head, *body)]
        lines = ["| " + " | ".join(line) + " |" for line in escaped]
        lines.insert(1, "|---" * len(head) + "|")
        return "\n".join([*lines, "", " ".join(self.notes), ""])

    def text(self) -> str:
        """The same in columns of plain text; the marked entries have a star."""
        lines = self._cells("{} *")
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        shown = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in lines]
        return "\n".join([*(line.rstrip() for line in shown), "", *self.notes, ""])

    def json(self) -> str:
        """The same as one object of JSON, with all digits and the p-values before their correction."""
        rows = []
        for row in self.rows:
            record: dict[str, Any] = {"name": row.name, "baseline": row.baseline, "deterministic": row.deterministic}
            record |= {"weights": row.weights, "seconds": list(row.seconds), "measures": {}}
            for measure in self.measures:
                entry = self.entries.get((measure.name, row.name))
                if entry is not None:
                    found = {**entry.spread._asdict(), "corrected_p": entry.p, "best": entry.best}
                    if entry.difference is not None:
                        found |= entry.difference._asdict()
                    record["measures"][measure.name] = found
            rows.append(record)
        columns = [{"name": each.name, "label": each.label, "higher": each.higher} for each in self.measures]
        table = {"against": self.against, "measures": columns, "rows": rows, "notes": list(self.notes)}
        return json.dumps(table, ensure_ascii=False)

    def _cells(self, marked: str) -> list[list[str]]:
        """Head and rows as text; columns that no row fills are left out."""
        head = ["system"]
        for measure in self.measures:
            head += [f"{measure.label} {'↑' if measure.higher else '↓'}", "difference", "p"]
        lines = [[*head, "seeds", "weights", "time"]]
        for row in self.rows:
            line, runs = [row.name], 1
            for measure in self.measures:
                entry = self.entries.get((measure.name, row.name))
                line += ["", "", ""] if entry is None else _entry_cells(measure, entry, marked)
                runs = max(runs, 0 if entry is None else entry.spread.runs)
            weights = "" if row.weights is None else f"{row.weights:,}"
            seconds = _duration(float(np.mean(row.seconds))) if len(row.seconds) else ""
            lines.append([*line, "" if row.deterministic else str(runs), weights, seconds])
        filled = [index for index in range(len(lines[0])) if any(line[index] for line in lines[1:])]
        return [[line[index] for index in filled] for line in lines]


def compare(
    rows: Sequence[Row],
    measures: Sequence[Column],
    *,
    against: str | None = None,
    groups: Sequence[Any] | npt.NDArray[Any] | None = None,
    test: Literal["bootstrap", "mcnemar"] = "bootstrap",
    confidence: float = 0.95,
    alpha: float = 0.05,
    samples: int = 10_000,
    seed: int = 1,
) -> ResultsTable:
    """Compare all rows with the baseline, or with a named row.

    Where both rows have outcomes, the difference is tested by paired bootstrap over the examples, and the variance of
    the seeds is added where a row has several (`significance.including_seeds`). Where a row has nothing but values of
    whole runs, the difference is tested by Welch's t-test over the seeds. p-values are corrected for the number of rows
    (Holm). For each measure the best of the rows that are better with p < alpha is marked, and no other row.

    Args:
        rows: systems, one of which is the baseline; it becomes the first.
        measures: columns.
        against: the row to compare with; None: the baseline.
        groups: for each example its group, where examples depend on one another.
        test: mcnemar takes p from McNemar's test (mid-p), for right and wrong outcomes of one run a row.
        confidence: of the intervals.
        alpha: the level of significance.
        samples, seed: of the bootstrap.

    Raises:
        ConfigError: if there is no baseline or several, the baseline lacks a measure, names stand twice or are unknown,
            or McNemar's test is asked for where it cannot be.
        DataError: if outcomes of two rows are not those of the same examples.
    """
    ordered = _checked(rows, measures)
    reference = _named(ordered, against)
    entries: dict[tuple[str, str], Compared] = {}
    for measure in measures:
        runs = {row.name: _runs(row, measure) for row in ordered}
        found: dict[str, Difference] = {}
        for row in ordered:
            values, others = runs[row.name], runs[reference.name]
            if values is None:
                continue
            entries[measure.name, row.name] = Compared(spread(values))
            if row is reference or others is None:
                continue
            if measure.name in row.outcomes and measure.name in reference.outcomes:
                one, two = row.outcomes[measure.name], reference.outcomes[measure.name]
                try:
                    paired = paired_bootstrap(
                        one, two, measure.of, groups=groups, samples=samples, confidence=confidence, seed=seed
                    )
                    if test == "mcnemar":
                        paired = _by_mcnemar(paired, one, two, groups)
                except RecurraError as error:
                    raise type(error)(f"{measure.name} of {row.name} and {reference.name}: {error}") from error
                found[row.name] = including_seeds(paired, values, others, confidence)
            elif max(len(values), len(others)) > 1:
                found[row.name] = welch_t_test(values, others, confidence)
        for name, p in zip(found, holm([each.p for each in found.values()]), strict=True):
            key = measure.name, name
            entries[key] = replace(entries[key], difference=found[name], p=p)
        best = _best(measure, {name: entries[measure.name, name] for name in found}, alpha)
        if best is not None:
            entries[measure.name, best] = replace(entries[measure.name, best], best=True)
    notes = _notes(ordered, reference, entries, test, groups is not None, confidence, alpha)
    return ResultsTable(list(measures), ordered, entries, reference.name, notes)


def _checked(rows: Sequence[Row], measures: Sequence[Column]) -> list[Row]:
    """The rows, the baseline first."""
    baselines = [row for row in rows if row.baseline]
    if len(baselines) != 1:
        what = "no baseline" if not baselines else f"{len(baselines)} baselines"
        raise ConfigError(f"a results table with {what} is not made; set baseline=True for one simple system.")
    names, known = [row.name for row in rows], [measure.name for measure in measures]
    for kind, each in (("row", names), ("measure", known)):
        twice = next((name for name in each if each.count(name) > 1), None)
        if twice is not None:
            raise ConfigError(f"the {kind} {twice} stands twice in the table; give each a name of its own.")
    for row in rows:
        given = [*row.outcomes, *row.values]
        wrong = next((name for name in given if name not in known or given.count(name) > 1), None)
        if wrong is not None:
            what = "is given twice" if wrong in known else "is no measure of the table"
            raise ConfigError(f"{wrong} of {row.name} {what}; known are {', '.join(known)}, each once.")
    lacking = next((name for name in known if name not in {**baselines[0].outcomes, **baselines[0].values}), None)
    if lacking is not None:
        raise ConfigError(f"the baseline {baselines[0].name} has no {lacking}; measure it, or leave that column out.")
    return [baselines[0], *(row for row in rows if not row.baseline)]


def _named(rows: Sequence[Row], name: str | None) -> Row:
    found = rows[0] if name is None else next((row for row in rows if row.name == name), None)
    if found is None:
        raise ConfigError(f"there is no row {name} to compare with; known are {', '.join(row.name for row in rows)}.")
    return found


def _runs(row: Row, measure: Column) -> npt.NDArray[Any] | None:
    """The measure of each run."""
    if measure.name in row.outcomes:
        return run_values(row.outcomes[measure.name], measure.of)
    values = row.values.get(measure.name)
    return None if values is None or not len(values) else np.asarray(values, dtype=np.float64)


def _by_mcnemar(paired: Difference, one: npt.ArrayLike, two: npt.ArrayLike, groups: Any) -> Difference:
    right = [np.asarray(each, dtype=np.float64) for each in (one, two)]
    # One run of one number for each example may come in three shapes.
    if groups is not None or any(each.size != max(each.shape) for each in right):
        raise ConfigError("McNemar's test is for one run of independent examples; use the bootstrap.")
    return paired._replace(p=mcnemar(*discordant(*(each.ravel() for each in right))).mid_p)


def _best(measure: Column, entries: Mapping[str, Compared], alpha: float) -> str | None:
    sign = 1 if measure.higher else -1
    better = [
        name
        for name, entry in entries.items()
        if entry.difference is not None and entry.p is not None and entry.p < alpha and entry.difference[0] * sign > 0
    ]
    return max(better, key=lambda name: sign * entries[name].spread.mean, default=None)


def _notes(
    rows: Sequence[Row],
    reference: Row,
    entries: Mapping[tuple[str, str], Compared],
    test: str,
    grouped: bool,
    confidence: float,
    alpha: float,
) -> list[str]:
    several = any(entry.spread.runs > 1 for entry in entries.values())
    how = "McNemar's test (mid-p)" if test == "mcnemar" else "paired bootstrap"
    over = "groups of examples" if grouped else "examples"
    if any(row.values for row in rows):
        how = f"{how}, or Welch's t-test where values of whole runs are all there is,"
    seeds = " and the variance of the seeds" if several else ""
    notes = [
        f"Differences are to {reference.name}, with {confidence:.0%} intervals; p by {how} over {over}{seeds}, "
        "corrected for the number of rows (Holm).",
        f"Marked is the best row that is better than {reference.name} with p < {alpha:g}, if there is any.",
    ]
    if several:
        notes.insert(1, "± is the standard deviation over seeds.")
    single = {
        name for (_, name), entry in entries.items() for row in rows
        if row.name == name and entry.spread.runs == 1 and not row.deterministic
    }  # fmt: skip
    if single:
        names = "; ".join(row.name for row in rows if row.name in single)
        notes.append(f"Of one seed, whose part in a difference is not known: {names}.")
    return notes


def _entry_cells(measure: Column, entry: Compared, marked: str) -> list[str]:
    mean, deviation, _ = entry.spread
    value = measure.form.format(mean)
    if deviation is not None:
        value += f" ± {measure.form.format(deviation)}"
    if entry.best:
        value = marked.format(value)
    if entry.difference is None or entry.p is None:
        return [value, "", ""]
    difference, low, high = (_signed(measure.form, number) for number in entry.difference[:3])
    return [value, f"{difference} [{low}, {high}]", "<0.001" if entry.p < 0.001 else f"{entry.p:.3f}"]


def _signed(form: str, number: float) -> str:
    return f"{'-' if number < 0 else '+'}{form.format(abs(number))}"


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02} h" if hours else f"{minutes}:{rest:02} min"
