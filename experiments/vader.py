"""Classifiers of VADER's sentences in the five folds of the baselines: the sign of the mean rating, and the rating.

    python experiments/vader.py vader-film WORK --ratings movieReviewSnippets_GroundTruth.txt [--set model.cell=gru ...]
    python experiments/vader.py vader-product WORK --ratings amazonReviewSnippets_GroundTruth.txt

For each fold a classifier and a network that predicts numbers learn from the other four, a tenth of which (of the
reviews) chooses their weights. The settings are those of configs/classification.yaml and of --set; they are to be
chosen on the validation parts alone, which --validate shows without a look at the folds' test parts. Sentences that are
rated exactly 0 have no sign, and count for the rating alone. models.json gets the figures of all folds together, beside
those of the baselines, compared by the paired bootstrap over reviews.
"""

from __future__ import annotations

import argparse
import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
from baselines import RESULTS, compared, measured, pearson, products
from vader_folds import FOLDS, Sentence, folds, read_ratings

import recurra
from recurra.config.load import load_config, parse_assignment
from recurra.run.metrics import best_evaluation, read_metrics
from recurra.training.training_run import train

CONFIG = Path(__file__).parents[1] / "configs" / "classification.yaml"
KINDS = {"sign": "single-label", "rating": "regression"}
QUIET = {"progress": False, "tensorboard": False, "picture": False}


def write(path: Path, sentences: list[Sentence], kind: str) -> str:
    """A file of training texts; without those that have no sign where that is to be learnt."""
    rows = [each for each in sentences if kind == "rating" or each.rating]
    lines = [f"{each.rating if kind == 'rating' else int(each.rating > 0)}\t{each.text}\n" for each in rows]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(lines), encoding="utf-8")
    return str(path)


def learnt(work: Path, fold: int, kind: str, sentences: list[Sentence], overrides: list[dict[str, Any]]) -> Path:
    """The run of one fold and kind, trained if it is not there yet."""
    run = work / f"{kind}-{fold}"
    if not (run / "model.safetensors").exists():
        # Of the reviews that teach every tenth chooses the weights, drawn like the folds.
        inner = folds([each.group for each in sentences], 10, seed=100 + fold)
        parts = {"train": [], "valid": []}  # type: ignore[var-annotated]
        for each, part in zip(sentences, inner, strict=True):
            parts["valid" if part == 0 else "train"].append(each)
        files = {name: [write(work / f"{kind}-{fold}.{name}.tsv", part, kind)] for name, part in parts.items()}
        select = {"training": {"select_by": "pearson" if kind == "rating" else "accuracy"}}
        config = load_config(CONFIG, [{"data": files | {"kind": KINDS[kind]}, "logging": QUIET}, select, *overrides])
        train(config, run)
    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("set", choices=["vader-film", "vader-product"])
    parser.add_argument("work", type=Path)
    parser.add_argument("--ratings", type=Path, required=True)
    parser.add_argument("--set", dest="assignments", nargs="*", default=[])
    parser.add_argument("--validate", action="store_true", help="train, and show the validation measures alone")
    given = parser.parse_args()
    overrides = [parse_assignment(text) for text in given.assignments]
    sentences = read_ratings(given.ratings)
    fold_of = np.array(folds([each.group for each in sentences]))
    found = {kind: np.zeros(len(sentences)) for kind in KINDS}
    chosen: dict[str, list[float]] = {kind: [] for kind in KINDS}
    for fold in range(FOLDS):
        others = [each for each, its in zip(sentences, fold_of, strict=True) if its != fold]
        held = np.flatnonzero(fold_of == fold)
        for kind in KINDS:
            run = learnt(given.work / given.set, fold, kind, others, overrides)
            best = best_evaluation(read_metrics(run / "metrics.jsonl")) or {}
            chosen[kind].append(best["pearson" if kind == "rating" else "accuracy"])
            if not given.validate:
                answers = recurra.load(run).classify([sentences[place].text for place in held])
                found[kind][held] = [each.number if kind == "rating" else int(each.label) for each in answers]
    print({kind: round(float(np.mean(values)), 4) for kind, values in chosen.items()}, "on validation parts")
    if not given.validate:
        record(given.set, sentences, found, chosen, given.assignments)


def record(name: str, sentences: list[Sentence], found: dict[str, Any], chosen: dict[str, Any], settings: Any) -> None:
    """Compare with the first baseline, and write models.json."""
    folder = RESULTS / name
    text = gzip.decompress((folder / "baseline.predictions.txt.gz").read_bytes()).decode()
    heads, *rows = [line.split("\t") for line in text.splitlines()]
    first = {head: np.array([float(row[place]) for row in rows]) for place, head in enumerate(heads)}
    signs, ratings = (next(head for head in heads if head.endswith(end)) for end in ("_sign", "_rating"))
    rating = np.array([each.rating for each in sentences])
    groups = [each.group for each in sentences]
    signed = np.flatnonzero(rating != 0)
    right, theirs = (each[signed] == (rating[signed] > 0) for each in (found["sign"], first[signs]))
    of = [groups[place] for place in signed]
    ours, other = products(found["rating"], rating), products(first[ratings], rating)
    figures = {
        "settings": settings,
        "validation": chosen,
        "accuracy": measured(right.astype(float), groups=of),
        "accuracy_less_baseline": compared(right.astype(float), theirs.astype(float), groups=of),
        "pearson": measured(ours, pearson, groups),
        "pearson_less_baseline": compared(ours, other, pearson, groups),
    }
    (folder / "models.json").write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
