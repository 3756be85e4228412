"""What trained classifiers and taggers say of a test part, beside the simple baselines of experiments/results.

    python experiments/record_reading.py banking77 --test test.csv --title "BiLSTM" --runs runs/1 runs/2
    python experiments/record_reading.py ewt-upos --test en_ewt-ud-test.conllu --title "BiLSTM-CRF" --runs runs/1 runs/2

The runs have one configuration and several seeds, and settings that were chosen on validation texts. The answers are
compared with those of the strongest baseline, example by example, by the paired bootstrap (over sentences where words
are tagged) and by McNemar's test. models.jsonl gets a line for each run, and models.md is the table of all of them.
"""

from __future__ import annotations

import argparse
import gzip
import json
import statistics
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from baselines import RESULTS, compared, compared_by_mcnemar, measured

import recurra
from recurra.data.tagged import TaggedReader
from recurra.run.metrics import best_evaluation, read_metrics
from recurra.systems.classification.predict import Classifier


class Answer(NamedTuple):
    """Of an example of the test part what is right, what was answered, and the sentence that it is of."""

    right: str
    answer: str
    group: int


def answers(model: Any, test: str) -> Iterator[Answer]:
    """One for each text, or for each word of the first column of tags."""
    if isinstance(model, Classifier):
        found = model.evaluate(test)
        for number, (example, row) in enumerate(zip(found.examples, found.verdict.given, strict=True)):
            yield Answer(example.labels[0], model.labels[row.argmax()], number)
        return
    column = model.columns[0]
    for number, (sentence, answer) in enumerate(model.tag_sentences(TaggedReader([test], [column]))):
        for right, given in zip(sentence.tags[column], answer.tags[column], strict=True):
            yield Answer(right, given, number)


def judged(run: Path, title: str, test: str, baseline: list[str]) -> dict[str, Any]:
    """The figures of one run."""
    model = recurra.load(run)
    found = list(answers(model, test))
    if len(found) != len(baseline):
        raise SystemExit(f"{test}: has {len(found)} examples, and the baseline answered {len(baseline)}.")
    ours = np.array([each.right == each.answer for each in found], float)
    theirs = np.array([each.right == other for each, other in zip(found, baseline, strict=True)], float)
    groups = None if isinstance(model, Classifier) else [each.group for each in found]
    best = best_evaluation(read_metrics(run / "metrics.jsonl")) or {}
    return {
        "title": title,
        "seed": model.config.training.seed,
        "validation": best.get("accuracy"),
        "minutes": round(best.get("seconds", 0.0) / 60, 1),
        "weights": sum(each.numel() for each in model.model.parameters()),
        "accuracy": measured(ours, groups=groups),
        "less_baseline": compared(ours, theirs, groups=groups),
        "mcnemar": compared_by_mcnemar(ours, theirs),
    }


def table(record: dict[str, Any], models: list[dict[str, Any]]) -> str:
    """The baselines first, then the models with the mean and deviation of their seeds."""
    lines = ["| | accuracy, % | less the first baseline | p | validation, % | weights |", "|---|---|---|---|---|---|"]
    for each in record["baselines"].values():
        found = each["test"]["accuracy"]
        interval = f"({100 * found['low']:.2f} to {100 * found['high']:.2f})"
        lines.append(f"| {each['title']} | {100 * found['value']:.2f} {interval} | | | | |")
    for title, rows in groupby(models, key=lambda row: row["title"]):
        seeds = list(rows)
        values = [100 * row["accuracy"]["value"] for row in seeds]
        spread = f" ± {statistics.stdev(values):.2f}" if len(values) > 1 else ""
        less = statistics.mean(100 * row["less_baseline"]["difference"] for row in seeds)
        worst = max(row["less_baseline"]["p"] for row in seeds)
        valid = statistics.mean(100 * row["validation"] for row in seeds)
        lines.append(
            f"| {title}, {len(seeds)} seed(s) | {statistics.mean(values):.2f}{spread} | {less:+.2f} | {worst:.2g} | "
            f"{valid:.2f} | {seeds[0]['weights']:,} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("set", help="a folder of experiments/results with baselines")
    parser.add_argument("--test", required=True)
    parser.add_argument("--title", required=True, help="what the model is, in a few words")
    parser.add_argument("--runs", nargs="+", required=True, type=Path)
    given = parser.parse_args()
    folder = RESULTS / given.set
    record = json.loads((folder / "baseline.json").read_text(encoding="utf-8"))
    text = gzip.decompress((folder / "baseline.predictions.txt.gz").read_bytes()).decode()
    baseline = [line.split("\t")[0] for line in text.splitlines()[1:]]
    with open(folder / "models.jsonl", "a", encoding="utf-8") as file:
        for run in given.runs:
            file.write(json.dumps(judged(run, given.title, given.test, baseline)) + "\n")
    models = [json.loads(line) for line in (folder / "models.jsonl").read_text(encoding="utf-8").splitlines()]
    shown = table(record, sorted(models, key=lambda row: (row["title"], row["seed"])))
    (folder / "models.md").write_text(shown, encoding="utf-8")
    print(shown)


if __name__ == "__main__":
    main()
