"""Which defaults of language models are best: whole trainings on words, subwords and characters, judged on other text.

    python experiments/defaults.py WORK --wikitext FOLDER --nsmc ratings_train.txt --shakespeare input.txt
                                   --multi30k train.en,val.en [--workers 2] [--only words] [--choices "betas 0.999"]

Start values of embedding and output weights are tried with AdamW and SGD, tied and not; everything else with AdamW and
tied weights, as recurra's defaults are. Every training runs to its end on one thread, and what counts is the best loss
on held-out text. One line of JSON for each goes to experiments/results/defaults/results.jsonl as it ends, and those
that stand there are not run again. Then the table is written beside it: the losses, and by a paired test over lines of
the held-out text whether a choice and the default differ.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from recurra.comparison.runs import Measurement, finish, read_results, train
from recurra.comparison.significance import paired_t_test
from recurra.run.metrics import best_evaluation, read_metrics

RESULTS = Path(__file__).parent / "results" / "defaults"

STARTS = {
    "uniform 0.1": {"init": "uniform", "init_scale": 0.1},
    "normal 0.5": {"init": "normal", "init_scale": 0.5},
    "normal 0.1": {"init": "normal", "init_scale": 0.1},
    "uniform 0.05": {"init": "uniform", "init_scale": 0.05},
}
# With the start that each optimiser has by default.
OTHERS: dict[str, dict[str, dict[str, Any]]] = {
    "forget bias 0": {"model": {"forget_bias": 0.0}},
    "forget bias as torch.nn": {"model": {"forget_bias": None}},
    "betas 0.999": {"training": {"betas": [0.9, 0.999]}},
    "half the rate": {"training": {"learning_rate": 0.001}},
    "twice the rate": {"training": {"learning_rate": 0.004}},
}
DEFAULT = {"adamw": "normal 0.5", "sgd": "uniform 0.1"}
# SGD as Zaremba, Sutskever & Vinyals (2014) and everyone after them train words; AdamW as recurra's defaults.
OPTIMIZERS: dict[str, dict[str, Any]] = {
    "adamw": {"optimizer": "adamw", "learning_rate": 0.002, "schedule": "cosine", "batch_size": 32,
              "sequence_length": 64, "clip_norm": 1.0},
    "sgd": {"optimizer": "sgd", "learning_rate": 20.0, "schedule": "plateau", "plateau_factor": 0.25,
            "plateau_patience": 0, "batch_size": 20, "sequence_length": 35, "clip_norm": 0.25},
}  # fmt: skip
# Tokens, units and passes over each text.
TEXTS: dict[str, dict[str, Any]] = {
    "captions": {"tokenizer": {"kind": "word", "min_count": 2, "vocab_size": 10000}, "units": 200, "epochs": 6},
    "words": {"tokenizer": {"kind": "whitespace", "min_count": 3, "vocab_size": 10000}, "units": 200, "epochs": 8},
    "subwords": {"tokenizer": {"kind": "bpe", "vocab_size": 4000}, "units": 200, "epochs": 6},
    "characters": {"tokenizer": {"kind": "character"}, "units": 256, "epochs": 4},
}
LINES = 1000
"""Lines of the held-out text that the paired test looks at."""

KEYS = ("text", "optimizer", "tied", "choice")


def prepare(work: Path, options: argparse.Namespace) -> dict[str, tuple[Path, Path]]:
    """The text to train on and the one held out, of each kind that there are files for."""
    texts: dict[str, tuple[Path, Path]] = {}

    def write(kind: str, lines: list[str], held: list[str]) -> None:
        texts[kind] = (work / f"{kind}.txt", work / f"{kind}-held.txt")
        for path, part in zip(texts[kind], (lines, held), strict=True):
            path.write_text("".join(part), encoding="utf-8")

    def lines_of(path: Path) -> list[str]:
        return path.read_text(encoding="utf-8").splitlines(keepends=True)

    if options.multi30k:
        train, held = (Path(name) for name in options.multi30k.split(","))
        texts["captions"] = (train, held)
    if options.wikitext:
        # Its training part is not at hand: one of the others teaches, the other examines.
        texts["words"] = (options.wikitext / "test.txt", options.wikitext / "valid.txt")
    if options.nsmc:
        reviews = [line.split("\t")[1] + "\n" for line in lines_of(options.nsmc)[1:]]
        write("subwords", reviews[:25_000], reviews[25_000:29_000])
    if options.shakespeare:
        text = lines_of(options.shakespeare)
        cut = len(text) * 9 // 10
        write("characters", text[:cut], text[cut:])
    return texts


def cases(texts: Sequence[str], choices: Sequence[str]) -> Iterator[dict[str, Any]]:
    # Choices differ last, so that what is compared is there early.
    for text, optimizer, tied, choice in itertools.product(texts, OPTIMIZERS, (True, False), choices):
        if choice in STARTS or (optimizer == "adamw" and tied):
            yield dict(zip(KEYS, (text, optimizer, tied, choice), strict=True))


def folder(work: Path, case: Mapping[str, Any]) -> Path:
    return work / "-".join(str(case[key]).replace(" ", "_") for key in KEYS)


def measure(work: Path, case: Mapping[str, Any], files: tuple[Path, Path]) -> Measurement:
    text, run = TEXTS[case["text"]], folder(work, case)
    start = STARTS[case["choice"] if case["choice"] in STARTS else DEFAULT[case["optimizer"]]]
    other = OTHERS.get(case["choice"], {})
    config = {
        "task": "language-model",
        "tokenizer": text["tokenizer"],
        "model": {"hidden_size": text["units"], "num_layers": 2, "tied": case["tied"], **start}
        | other.get("model", {}),
        "training": {**OPTIMIZERS[case["optimizer"]], "max_epochs": text["epochs"], "num_threads": 1, "seed": 1}
        | other.get("training", {}),
        "logging": {"tensorboard": False, "picture": False, "progress": False},
    }
    train(run, config, "--data", str(files[0]), "--valid", str(files[1]))
    valid = [record for record in read_metrics(run / "metrics.jsonl") if record["kind"] == "valid"]
    best = best_evaluation(valid)
    assert best is not None
    return Measurement(
        {"loss": best["loss"], "last": valid[-1]["loss"], "best_of": f"{valid.index(best) + 1}/{len(valid)}"}
    )


def line_losses(work: Path, case: Mapping[str, Any], held: Path) -> np.ndarray:
    """Nats per token of each of the first lines of the held-out text, kept beside the run."""
    import recurra

    kept = folder(work, case) / "held.npy"
    if not kept.exists():
        lines = [line for line in held.read_text(encoding="utf-8").splitlines() if line.strip()][:LINES]
        scores = recurra.load(folder(work, case), device="cpu").score(lines)
        np.save(kept, [-score.log_probability / score.tokens for score in scores])
    found: np.ndarray = np.load(kept)
    return found


def table(results: list[dict[str, Any]], work: Path, texts: Mapping[str, tuple[Path, Path]]) -> str:
    """The losses, and whether another choice than the default makes a difference."""
    found = {tuple(result[key] for key in KEYS): result for result in results}
    lines = []
    for title, names in (("Start values", list(STARTS)), ("Everything else", list(OTHERS))):
        names = [name for name in names if any(result["choice"] == name for result in results)]
        rows = sorted({key[:3] for key in found if key[3] in names})
        if not rows:
            continue
        heads = ["default", *names]
        lines += [f"## {title}", "", "| text | optimiser | tied | " + " | ".join(heads) + " |"]
        lines.append("|---" * (3 + len(heads)) + "|")
        for row in rows:
            default = found.get((*row, DEFAULT[row[1]]))
            cells = ["" if default is None else f"{default['loss']:.3f} ({default['best_of']})"]
            for name in names:
                result = found.get((*row, name))
                if result is None or default is None:
                    cells.append("")
                elif result is default:
                    cells.append("the default")
                else:
                    held = texts[row[0]][1]
                    p = paired_t_test(line_losses(work, result, held), line_losses(work, default, held)).p
                    cells.append(f"{result['loss'] - default['loss']:+.3f} ({result['best_of']}; p {p:.2g})")
            lines.append(f"| {row[0]} | {row[1]} | {'yes' if row[2] else 'no'} | " + " | ".join(cells) + " |")
        lines.append("")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("--wikitext", type=Path)
    parser.add_argument("--nsmc", type=Path)
    parser.add_argument("--shakespeare", type=Path)
    parser.add_argument("--multi30k")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--only", nargs="+", choices=TEXTS)
    parser.add_argument("--choices", nargs="+", choices=[*STARTS, *OTHERS], default=[*STARTS, *OTHERS])
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    texts = prepare(options.work, options)
    wanted = list(cases([text for text in options.only or TEXTS if text in texts], options.choices))
    kept = RESULTS / "results.jsonl"
    finish(
        kept,
        wanted,
        lambda case: measure(options.work, case, texts[case["text"]]),
        workers=options.workers,
        own_process=False,
        report=partial(print, flush=True),
    )
    (RESULTS / "table.md").write_text(table(read_results(kept), options.work, texts))


if __name__ == "__main__":
    main()
