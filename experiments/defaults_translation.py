"""Which defaults of translation are best: whole trainings on Multi30k, judged on its validation set.

    python experiments/defaults_translation.py WORK TRAIN.en TRAIN.de VAL.en VAL.de [--epochs 8] [--workers 2]
                                               [--choices "deviation 0.25" ...]

The network is that of experiments/multi30k-en-de.yaml with fewer passes over the text; the rate still falls to its end.
Each result goes to experiments/results/defaults/translation.jsonl as it ends, and those that stand there are not run
again. The table beside it has the best validation loss and BLEU, and by paired bootstrap over sentences (Koehn 2004)
whether the BLEU of a choice and of the default differ.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from recurra.comparison.runs import Measurement, command, finish, read_results, train

RESULTS = Path(__file__).parent / "results" / "defaults"
RECIPE = Path(__file__).parent / "multi30k-en-de.yaml"

CHOICES: dict[str, dict[str, dict[str, Any]]] = {
    "default": {},
    "deviation 0.25": {"model": {"init_scale": 0.25}},
    "deviation 0.5": {"model": {"init_scale": 0.5}},
    "betas 0.999": {"training": {"betas": [0.9, 0.999]}},
    "half the rate": {"training": {"learning_rate": 0.001}},
    "twice the rate": {"training": {"learning_rate": 0.004}},
}


def settings(choice: str, epochs: int) -> dict[str, Any]:
    config = yaml.safe_load(RECIPE.read_text(encoding="utf-8"))
    config["training"] |= {"max_epochs": epochs, "precision": "fp32", "num_threads": 1, "seed": 1, "keep_evaluated": 0}
    config["logging"] = {"tensorboard": False, "picture": False, "progress": False}
    for section, values in CHOICES[choice].items():
        config[section] |= values
    return config


def measure(work: Path, case: Mapping[str, Any], files: Mapping[str, Path]) -> Measurement:
    run = work / case["choice"].replace(" ", "_")
    train(run, settings(**case), *(part for name, path in files.items() for part in (f"--{name}", str(path))))
    judged = ["--source", str(files["valid-source"]), "--target", str(files["valid-target"])]
    answers = str(work / f"{run.name}.txt")
    measured = json.loads(command("evaluate", str(run), *judged, "--output", answers, "--json"))
    return Measurement({key: measured[key] for key in ("loss", "bleu", "chrf")})


def table(results: list[dict[str, Any]], work: Path, reference: Path) -> str:
    from sacrebleu.metrics import BLEU
    from sacrebleu.significance import PairedTest

    wanted = reference.read_text(encoding="utf-8").splitlines()
    answers = {
        each["choice"]: (work / f"{each['choice'].replace(' ', '_')}.txt").read_text(encoding="utf-8").splitlines()
        for each in results
    }
    lines = ["| choice | validation loss | BLEU | chrF | p |", "|---|---|---|---|---|"]
    for each in results:
        p = ""
        if each["choice"] != "default":
            systems = [("default", answers["default"]), (each["choice"], answers[each["choice"]])]
            test = PairedTest(systems, {"BLEU": BLEU()}, [wanted], test_type="bs", n_samples=1000)
            p = f"{test()[1]['BLEU'][1].p_value:.3f}"
        lines.append(f"| {each['choice']} | {each['loss']:.3f} | {each['bleu']:.2f} | {each['chrf']:.2f} | {p} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("files", nargs=4, type=Path, metavar="FILE")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--choices", nargs="+", choices=CHOICES, default=list(CHOICES))
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    files = dict(zip(("source", "target", "valid-source", "valid-target"), options.files, strict=True))
    kept = RESULTS / "translation.jsonl"
    finish(
        kept,
        [{"choice": choice, "epochs": options.epochs} for choice in options.choices],
        lambda case: measure(options.work, case, files),
        workers=options.workers,
        own_process=False,
        report=partial(print, flush=True),
    )
    of_one_length = [result for result in read_results(kept) if result["epochs"] == options.epochs]
    (RESULTS / "translation.md").write_text(table(of_one_length, options.work, files["valid-target"]))


if __name__ == "__main__":
    main()
