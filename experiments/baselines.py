"""What the scripts of the simple baselines share: intervals, comparisons, and the files that keep the results.

Each set has a folder in experiments/results with baseline.json (all figures and how they came about), README.md (the
table) and baseline.predictions.txt.gz (what each baseline says of each test example, in the order of the test file, for
paired tests with later models; no texts).
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import platform
import sys
import textwrap
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

import recurra
from recurra.comparison.resampling import Measured, paired_bootstrap, ratio
from recurra.comparison.significance import Array, discordant, mcnemar

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
from machine import describe

RESULTS = Path(__file__).parent / "results"

Groups = Sequence[Any] | None


def missing(package: str, error: ImportError) -> SystemExit:
    """The end of a script without a package of the extra, in a sentence that says what to install."""
    return SystemExit(f"{package} cannot be imported ({error}); run: pip install 'recurra[experiments]'")


@contextmanager
def timed(seconds: dict[str, float], name: str) -> Iterator[None]:
    """Add the seconds of CPU time that the block takes to those of this name; other processes do not count."""
    start = time.process_time()
    yield
    seconds[name] = round(seconds.get(name, 0.0) + time.process_time() - start, 2)


def macro_f1(sums: Array) -> Array:
    """The mean F1 of all classes, from `class_counts` summed over examples."""
    both, predicted, gold = np.split(sums, 3, axis=-1)
    found: Array = (2 * both / np.maximum(predicted + gold, 1)).mean(axis=-1)
    return found


def class_counts(predicted: Array, gold: Array, classes: int) -> Array:
    """For each example and class: 1 if both name it, 1 if the prediction does, 1 if the truth does; (N, 3 classes)."""
    one, two = np.eye(classes)[predicted], np.eye(classes)[gold]
    return np.concatenate([one * two, one, two], axis=1)


def pearson(sums: Array) -> Array:
    """Pearson's correlation, from `products` summed over examples; 0 where either side is the same everywhere."""
    n, x, y, xx, yy, xy = np.moveaxis(sums, -1, 0)
    spread = np.sqrt(np.maximum((n * xx - x * x) * (n * yy - y * y), 0))
    found: Array = np.where(spread > 0, (n * xy - x * y) / np.where(spread > 0, spread, 1), 0.0)
    return found


def products(x: Array, y: Array) -> Array:
    """What `pearson` needs of each example, (N, 6)."""
    return np.stack([np.ones_like(x), x, y, x * x, y * y, x * y], axis=1)


def measured(outcomes: Array, of: Measured = ratio, groups: Groups = None) -> dict[str, float]:
    """A measure, its 95% bootstrap interval and its standard error.

    Args:
        outcomes: of each example, as recurra.comparison.resampling describes them.
        of: from their sums to the measure.
        groups: the group of each example, if those of a group depend on one another.
    """
    # Compared with a system whose measure is always 0, the difference is the measure itself.
    nothing = np.zeros_like(outcomes)
    if of is ratio and outcomes.ndim == 2:
        nothing[:, 1] = outcomes[:, 1]
    found = paired_bootstrap(outcomes, nothing, of, groups=groups)
    return _rounded({"value": found.difference, "low": found.low, "high": found.high, "error": found.error})


def compared(first: Array, second: Array, of: Measured = ratio, groups: Groups = None) -> dict[str, float]:
    """The first baseline's measure less the second's, by the paired bootstrap."""
    found = paired_bootstrap(first, second, of, groups=groups)
    return _rounded({"difference": found.difference, "low": found.low, "high": found.high, "p": found.p})


def compared_by_mcnemar(first_right: Array, second_right: Array) -> dict[str, float]:
    """McNemar's test of two baselines, which takes the examples as independent."""
    found = mcnemar(*discordant(first_right, second_right))
    return {"only_first": found.only_first, "only_second": found.only_second, "mid_p": float(f"{found.mid_p:.3g}")}


def _rounded(values: Mapping[str, float]) -> dict[str, float]:
    return {name: float(f"{value:.6g}") for name, value in values.items()}


def described(path: Path) -> dict[str, str]:
    """A data file by its name and digest; where it lay is nobody's business."""
    return {"file": path.name, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}


def command() -> str:
    """The command that is running, with data files by name alone."""
    return " ".join(["python", "experiments/" + Path(sys.argv[0]).name, *(Path(word).name for word in sys.argv[1:])])


def write_predictions(folder: Path, columns: Mapping[str, Sequence[Any]]) -> None:
    """A line of column names, then a line for each example of the test part, columns between tabs."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = ["\t".join(columns), *("\t".join(map(str, row)) for row in zip(*columns.values(), strict=True))]
    packed = io.BytesIO()
    # Without time and file name the same predictions are the same bytes.
    with gzip.GzipFile(filename="", mode="wb", fileobj=packed, mtime=0) as file:
        file.write(("\n".join(lines) + "\n").encode())
    (folder / "baseline.predictions.txt.gz").write_bytes(packed.getvalue())


def write_results(folder: Path, found: Mapping[str, Any], packages: Sequence[str]) -> None:
    """baseline.json: what was found, and how it came about."""
    folder.mkdir(parents=True, exist_ok=True)
    record = {
        "set": folder.name,
        "command": command(),
        "date": datetime.now(UTC).date().isoformat(),
        "versions": {
            "recurra": recurra.__version__,
            "Python": platform.python_version(),
            **{name: version(name) for name in packages},
        },
        "machine": describe().rpartition(",")[0],
        **found,
    }
    (folder / "baseline.json").write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def write_readme(folder: Path, title: str, measures: Mapping[str, tuple[str, int]], notes: Sequence[str]) -> None:
    """The table of baseline.json in plain English.

    Args:
        folder: where baseline.json is.
        title: of the page.
        measures: each measure's heading, and the power of ten that it is shown in: 2 for per cent, 0 for a share.
        notes: paragraphs below the table.
    """
    record = json.loads((folder / "baseline.json").read_text(encoding="utf-8"))
    lines = [f"# {title}", "", "    " + record["command"], ""]
    lines += [f"| baseline | {' | '.join(heading for heading, _ in measures.values())} | CPU seconds |"]
    lines += ["|---" * (len(measures) + 2) + "|"]

    def shown(value: float, power: int) -> str:
        return f"{100 * value:.2f}" if power == 2 else f"{value:.4f}"

    for baseline in record["baselines"].values():
        cells = []
        for name, (_, power) in measures.items():
            figure = baseline["test"][name]
            low, high = shown(figure["low"], power), shown(figure["high"], power)
            cells.append(f"{shown(figure['value'], power)} ({low} to {high})")
        lines.append(f"| {baseline['title']} | {' | '.join(cells)} | {sum(baseline['cpu_seconds'].values()):,.0f} |")
    first, second = (baseline["title"] for baseline in record["baselines"].values())
    about = (
        f"In brackets: 95% intervals by the bootstrap over {record['resampled']}. CPU seconds are those of choosing, "
    )
    lines += ["", *textwrap.wrap(about + "training and predicting together.", 120), ""]
    lines += [f"{first}, less {second}:", ""]
    for name, (heading, power) in measures.items():
        if (found := record["comparison"].get(name)) is None:
            continue
        values = [shown(found[key], power) for key in ("difference", "low", "high")]
        text = f"- {heading}: {values[0]} ({values[1]} to {values[2]}), p = {found['p']:.2g} by the paired bootstrap"
        if test := found.get("mcnemar"):
            # The smallest numbers are 0 in floating point.
            mid_p = f"= {test['mid_p']:.2g}" if test["mid_p"] > 0 else "< 1e-300"
            text += (
                f"; {test['only_first']:,} examples that the first alone has right and {test['only_second']:,} that "
                f"the second alone has, mid-p {mid_p} by McNemar's test"
            )
        lines += textwrap.wrap(text + ".", 120, subsequent_indent="  ")
    lines.append("")
    for note in notes:
        lines += [*textwrap.wrap(note, 120), ""]
    versions = ", ".join(f"{name} {number}" for name, number in record["versions"].items())
    for note in (
        "[baseline.json](baseline.json) has all figures and settings. `baseline.predictions.txt.gz` has a line of "
        "column names and then what each baseline says of each test example, in the order of the file.",
        f"{record['machine']}; {versions}; one thread; {record['date']}.",
    ):
        lines += [*textwrap.wrap(note, 120), ""]
    (folder / "README.md").write_text("\n".join(lines), encoding="utf-8")
    print("\n".join(lines))
