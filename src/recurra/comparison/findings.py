"""What a study found: the table, which differences are real, what the search cost, and the pictures."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import ConfigError, RunError
from ..files import unwritten, written_whole
from ..pictures.comparison import Band, draw_medians, draw_search_curves
from .differences import Pair, differences, sentences
from .resampling import run_values
from .search_curve import CurvePoint, search_curve
from .table import Column, ResultsTable, Row, compare

__all__ = ["Findings", "Searched", "findings"]

PICTURES = "pictures"


@dataclass(frozen=True)
class Searched:
    """A contestant after its search and its final trainings.

    Attributes:
        name: of the contestant.
        trials: the validation measure of each trial; None for one that failed.
        finals: the validation measure of each seed of the best trial.
        row: its measures in the table; None if it has no final training.
        settings: of the best trial.
        width, weights: its size.
        failures: what failed and why, a sentence each.
    """

    name: str
    trials: Sequence[float | None]
    finals: Sequence[float] = ()
    row: Row | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    width: int | None = None
    weights: int | None = None
    failures: Sequence[str] = ()


@dataclass(frozen=True)
class Findings:
    """What a comparison of cells found.

    Attributes:
        searched: the contestants in their order.
        validation: the measure that trials are chosen by.
        column: the first one of the table, which the pairs are compared by.
        table: the results, those of the baseline or of the first contestant first.
        pairs: all pairs with their tests.
        notes: sentences that say how to read it.
    """

    searched: Sequence[Searched]
    validation: Column
    column: Column
    table: ResultsTable
    pairs: Sequence[Pair]
    notes: Sequence[str]

    @property
    def curves(self) -> dict[str, list[CurvePoint]]:
        """By contestant how good the best of n trials is."""
        return {each.name: search_curve(each.trials, higher=self.validation.higher) for each in self.searched}

    @property
    def sentences(self) -> list[str]:
        """Which differences are real."""
        return sentences(self.pairs, self.column)

    @property
    def medians(self) -> dict[str, list[float]]:
        """By row of the table the value of each seed."""
        return {row.name: list(values) for row in self.table.rows if (values := _values(row, self.column))}

    def markdown(self, pictures: str | None = PICTURES) -> str:
        """The whole as a page of Markdown, without a title.

        Args:
            pictures: the folder that `draw` wrote them to; None: there are none.
        """
        failures = [sentence for each in self.searched for sentence in each.failures]
        parts = [
            "## Results",
            " ".join(self.notes),
            self.table.markdown().strip(),
            f"Median of the seeds' {self.column.label}, and their range: {self._medians()}.",
            "## Which differences are real",
            _listed(self.sentences),
            "## The search",
            f"Best validation {self.validation.label} of all trials, and of the best trial's settings with new seeds.",
            self._search_table(),
        ]
        if failures:
            what = "Failed trainings, which count as the worst of a search, and of which the results have no value:"
            parts += [what, _listed(failures)]
        if pictures is not None:
            parts += [
                f"![Search curves]({pictures}/search_curves.png)",
                "The best value after n trials: the median over all orders of the trials, with quartiles for up to "
                "four contestants (Dodge et al. 2019; Tang et al. 2020). Where a curve has not become flat, more "
                "trials would help.",
                f"![Medians and spread]({pictures}/medians.png)",
            ]
        return "\n\n".join(parts) + "\n"

    def text(self) -> str:
        """The table and the sentences for a terminal."""
        return "\n".join([self.table.text(), *self.sentences])

    def json(self) -> str:
        """All numbers as one object of JSON."""
        contestants = [
            {
                "name": each.name,
                "width": each.width,
                "weights": each.weights,
                "trials": list(each.trials),
                "best_settings": dict(each.settings),
                "validation_of_seeds": list(each.finals),
                "failures": list(each.failures),
                "search_curve": [point._asdict() for point in self.curves[each.name]],
            }
            for each in self.searched
        ]
        pairs = [{**each._asdict(), "difference": each.difference._asdict()} for each in self.pairs]
        found = {
            "validation_measure": self.validation.name,
            "measure": self.column.name,
            "table": json.loads(self.table.json()),
            "medians": {name: median(values) for name, values in self.medians.items()},
            "pairs": pairs,
            "sentences": self.sentences,
            "contestants": contestants,
            "notes": list(self.notes),
        }
        return json.dumps(found, ensure_ascii=False)

    def draw(self, folder: Path) -> None:
        """Write search_curves.png and medians.png into a folder.

        Raises:
            RunError: if they cannot be written.
        """
        bands = {
            name: Band(*([getattr(point, each) for point in curve] for each in Band._fields))
            for name, curve in self.curves.items()
        }
        try:
            folder.mkdir(parents=True, exist_ok=True)
            draw_search_curves(folder / "search_curves.png", bands, self.validation.label)
            draw_medians(folder / "medians.png", self.medians, self.column.label)
        except OSError as error:
            raise RunError(f"{folder}: the pictures cannot be written {unwritten(error)}.") from error

    def write(self, folder: Path) -> None:
        """Write table.md, table.json and pictures/ into a folder.

        Raises:
            RunError: if they cannot be written.
        """
        self.draw(folder / PICTURES)
        try:
            for name, text in (("table.md", self.markdown()), ("table.json", self.json() + "\n")):
                with written_whole(folder / name) as aside:
                    aside.write_text(text, encoding="utf-8")
        except OSError as error:
            raise RunError(f"{folder}: the findings cannot be written {unwritten(error)}.") from error

    def _medians(self) -> str:
        form = self.column.form.format
        return "; ".join(
            f"{name} {form(median(values))}" + (f" ({form(min(values))} to {form(max(values))})" if values[1:] else "")
            for name, values in self.medians.items()
        )

    def _search_table(self) -> str:
        head = ["cell", "width", "weights", "trials", "failed", "best trial", "median of seeds", "range", "settings"]
        lines = [head, ["---"] * len(head)]
        form = self.validation.form
        for each in self.searched:
            succeeded = [value for value in each.trials if value is not None]
            best = max if self.validation.higher else min
            settings = ", ".join(f"{key} {_setting(value)}" for key, value in each.settings.items())
            spread = [form.format(min(each.finals)), form.format(max(each.finals))] if each.finals else []
            lines.append([
                each.name.replace("|", "\\|"),
                "" if each.width is None else f"{each.width:,}",
                "" if each.weights is None else f"{each.weights:,}",
                str(len(each.trials)),
                str(len(each.trials) - len(succeeded)),
                form.format(best(succeeded)) if succeeded else "",
                form.format(median(each.finals)) if each.finals else "",
                " to ".join(spread),
                settings,
            ])  # fmt: skip
        return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def findings(
    searched: Sequence[Searched],
    validation: Column,
    columns: Sequence[Column],
    *,
    baseline: Row | None = None,
    block: int = 1,
    notes: Sequence[str] = (),
) -> Findings:
    """Compare contestants after their searches.

    Args:
        searched: the contestants.
        validation: the measure that trials were chosen by.
        columns: what the rows have, the measure first that the pairs are compared by.
        baseline: a simple system on the same examples; None: the first contestant takes its place in the table.
        block: neighbouring examples that are drawn together.
        notes: sentences that say how to read it.

    Raises:
        ConfigError: if no contestant has a result.
        DataError: if outcomes of two rows are not those of the same examples.
    """
    rows = [each.row for each in searched if each.row is not None]
    if not rows:
        failures = next((sentence for each in searched for sentence in each.failures), "")
        raise ConfigError(f"no contestant has a training that succeeded, so there is nothing to compare; {failures}")
    if baseline is not None and columns[0].name in {**baseline.outcomes, **baseline.values}:
        rows = [baseline, *rows]
    first = rows[0]
    columns = [column for column in columns if column.name in {**first.outcomes, **first.values}]
    rows = [_restricted(row, columns, baseline=row is first) for row in rows]
    examples = max((_examples(each) for row in rows for each in row.outcomes.values()), default=0)
    groups = None if block == 1 or not examples else np.arange(examples) // block
    table = compare(rows, columns, groups=groups)
    return Findings(searched, validation, columns[0], table, differences(rows, columns[0], groups=groups), list(notes))


def _restricted(row: Row, columns: Sequence[Column], *, baseline: bool) -> Row:
    """The row with these measures alone."""
    names = {column.name for column in columns}
    return Row(
        row.name,
        {name: each for name, each in row.outcomes.items() if name in names},
        {name: each for name, each in row.values.items() if name in names},
        row.weights,
        row.seconds,
        baseline,
        row.deterministic,
    )


def _examples(outcomes: npt.ArrayLike) -> int:
    """How many examples outcomes of (N,), (N, K) or (R, N, K) are of."""
    shape = np.shape(outcomes)
    return shape[0] if len(shape) == 1 else shape[-2]


def _values(row: Row, column: Column) -> list[float]:
    if column.name in row.outcomes:
        return [float(value) for value in run_values(row.outcomes[column.name], column.of)]
    return [float(value) for value in row.values.get(column.name, ())]


def _setting(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) and math.isfinite(value) else str(value)


def _listed(items: Sequence[str]) -> str:
    return "\n".join(f"- {item}" for item in items)
