"""Which start values of embedding and output weights are best: whole trainings on words, subwords and characters.

    python experiments/start_values.py WORK --wikitext FOLDER --nsmc ratings_train.txt --shakespeare input.txt
                                       --multi30k train.en,val.en [--workers 2] [--only words ...]

Every training runs to its end on one thread; what counts is the best loss on held-out text. One line of JSON for each
goes to experiments/results/start-values/results.jsonl as it ends, and those that stand there are not run again. Then
the table is written beside it: for each kind of text, optimiser and tying the loss with each start, the mean difference
from the first over all of these, and whether it is real by Wilcoxon's signed-rank test on them.
"""

from __future__ import annotations

import argparse
import itertools
import json
import subprocess
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import yaml

from recurra.training.logging import read_metrics

RESULTS = Path(__file__).parent / "results" / "start-values"

STARTS = {
    "uniform 0.1": {"init": "uniform", "init_scale": 0.1},
    "normal 0.5": {"init": "normal", "init_scale": 0.5},
    "normal 0.1": {"init": "normal", "init_scale": 0.1},
    "uniform 0.05": {"init": "uniform", "init_scale": 0.05},
}
# SGD as Zaremba, Sutskever & Vinyals (2014) and everyone after them train words; AdamW as recurra's defaults.
OPTIMIZERS: dict[str, dict[str, Any]] = {
    "adamw": {"optimizer": "adamw", "learning_rate": 0.002, "schedule": "cosine", "batch_size": 32,
              "sequence_length": 64, "clip_norm": 1.0},
    "sgd": {"optimizer": "sgd", "learning_rate": 20.0, "schedule": "plateau", "plateau_factor": 0.25,
            "plateau_patience": 0, "batch_size": 20, "sequence_length": 35, "clip_norm": 0.25},
}  # fmt: skip
# Tokens, units and passes over each text.
TEXTS: dict[str, dict[str, Any]] = {
    "words": {"tokenizer": {"kind": "whitespace", "min_count": 3, "vocab_size": 10000}, "units": 200, "epochs": 13},
    "captions": {"tokenizer": {"kind": "word", "min_count": 2, "vocab_size": 10000}, "units": 200, "epochs": 8},
    "subwords": {"tokenizer": {"kind": "bpe", "vocab_size": 4000}, "units": 200, "epochs": 8},
    "characters": {"tokenizer": {"kind": "character"}, "units": 256, "epochs": 8},
}


def prepare(work: Path, options: argparse.Namespace) -> dict[str, tuple[Path, Path]]:
    """The text to train on and the one held out, of each kind that there are files for."""
    texts: dict[str, tuple[Path, Path]] = {}

    def write(kind: str, lines: list[str], held: list[str]) -> None:
        texts[kind] = (work / f"{kind}.txt", work / f"{kind}-held.txt")
        for path, part in zip(texts[kind], (lines, held), strict=True):
            path.write_text("".join(part), encoding="utf-8")

    def lines_of(path: Path) -> list[str]:
        return path.read_text(encoding="utf-8").splitlines(keepends=True)

    if options.wikitext:
        # Its training part is not at hand: one of the others teaches, the other examines.
        texts["words"] = (options.wikitext / "test.txt", options.wikitext / "valid.txt")
    if options.multi30k:
        train, held = (Path(name) for name in options.multi30k.split(","))
        texts["captions"] = (train, held)
    if options.nsmc:
        reviews = [line.split("\t")[1] + "\n" for line in lines_of(options.nsmc)[1:]]
        write("subwords", reviews[:40_000], reviews[40_000:44_000])
    if options.shakespeare:
        text = lines_of(options.shakespeare)
        cut = len(text) * 9 // 10
        write("characters", text[:cut], text[cut:])
    return texts


def train(work: Path, case: Mapping[str, Any], files: tuple[Path, Path]) -> dict[str, Any]:
    text = TEXTS[case["text"]]
    name = "-".join(str(value).replace(" ", "_") for value in case.values())
    config = {
        "task": "language-model",
        "tokenizer": text["tokenizer"],
        "model": {"hidden_size": text["units"], "num_layers": 2, "tied": case["tied"], **STARTS[case["start"]]},
        "training": {**OPTIMIZERS[case["optimizer"]], "max_epochs": text["epochs"], "num_threads": 1, "seed": 1},
        "logging": {"tensorboard": False, "picture": False, "progress": False},
    }
    settings = work / f"{name}.yaml"
    settings.write_text(yaml.safe_dump(config))
    run = work / name
    command = [sys.executable, "-c", "from recurra.cli.main import main; main()", "train", "language-model"]
    command += ["--config", str(settings), "--data", str(files[0]), "--valid", str(files[1]), "--run", str(run)]
    if (run / "config.yaml").exists():
        command.append("--resume")
    ended = subprocess.run(command, capture_output=True, text=True)
    if ended.returncode:
        raise SystemExit(f"{name}: {ended.stderr.strip()}")
    valid = [record for record in read_metrics(run / "metrics.jsonl") if record["kind"] == "valid"]
    best = min(valid, key=lambda record: record["loss"])
    return {**case, "loss": best["loss"], "last": valid[-1]["loss"], "best_of": f"{valid.index(best) + 1}/{len(valid)}"}


def table(results: list[dict[str, Any]]) -> str:
    """The losses, and whether another start than the first makes a difference."""
    from scipy.stats import wilcoxon

    found = {(r["text"], r["optimizer"], r["tied"], r["start"]): r for r in results}
    starts = [start for start in STARTS if any(r["start"] == start for r in results)]
    rows = sorted({key[:3] for key in found})
    lines = ["| text | optimiser | tied | " + " | ".join(starts) + " |", "|---" * (3 + len(starts)) + "|"]
    for row in rows:
        cells = [found.get((*row, start)) for start in starts]
        shown = ["" if cell is None else f"{cell['loss']:.3f} ({cell['best_of']})" for cell in cells]
        lines.append(f"| {row[0]} | {row[1]} | {'yes' if row[2] else 'no'} | " + " | ".join(shown) + " |")
    lines.append("")
    for start in starts[1:]:
        both = [row for row in rows if (*row, start) in found and (*row, starts[0]) in found]
        differences = [found[*row, start]["loss"] - found[*row, starts[0]]["loss"] for row in both]
        if len(differences) > 4:
            mean, p = sum(differences) / len(differences), wilcoxon(differences).pvalue
            lines.append(f"- {start} against {starts[0]}: {mean:+.3f} nats on average of {len(both)}, p = {p:.3g}.")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("--wikitext", type=Path)
    parser.add_argument("--nsmc", type=Path)
    parser.add_argument("--shakespeare", type=Path)
    parser.add_argument("--multi30k")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--only", nargs="+", choices=TEXTS)
    parser.add_argument("--starts", nargs="+", choices=STARTS, default=list(STARTS))
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    RESULTS.mkdir(parents=True, exist_ok=True)
    texts = prepare(options.work, options)
    kept = RESULTS / "results.jsonl"
    results = [json.loads(line) for line in kept.read_text().splitlines()] if kept.exists() else []
    keys = ("text", "optimizer", "tied", "start")
    done = {tuple(result[key] for key in keys) for result in results}
    # Starts differ last, so that what is compared is there early.
    grid = itertools.product(options.only or texts, OPTIMIZERS, (True, False), options.starts)
    cases = [dict(zip(keys, case, strict=True)) for case in grid if case not in done]
    with ThreadPoolExecutor(options.workers) as pool, kept.open("a") as file:
        for result in pool.map(lambda case: train(options.work, case, texts[case["text"]]), cases):
            results.append(result)
            file.write(json.dumps(result) + "\n")
            file.flush()
            print(json.dumps(result), flush=True)
    (RESULTS / "table.md").write_text(table(results))


if __name__ == "__main__":
    main()
