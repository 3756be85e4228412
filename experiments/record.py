"""Keep what a run shows in experiments/results: its configuration, curve, metrics, and how it came about.

    python experiments/record.py RUN NAME --title TITLE --command "recurra train ..." [--note TEXT] [--sample PROMPT]

Data paths are shown by file name only, and weights stay where they are.
"""

from __future__ import annotations

import argparse
import json
import platform
import shutil
import sys
from importlib.metadata import version
from pathlib import Path

import yaml

import recurra

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
from machine import describe

RESULTS = Path(__file__).parent / "results"
PACKAGES = ("torch", "tokenizers", "accelerate", "numpy")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("name")
    parser.add_argument("--title", required=True)
    parser.add_argument("--command", required=True)
    parser.add_argument("--note", default="")
    parser.add_argument("--sample", help="also write what the model writes after this prompt")
    options = parser.parse_args()
    folder = RESULTS / options.name
    folder.mkdir(parents=True, exist_ok=True)
    config = yaml.safe_load((options.run / "config.yaml").read_text())
    for key in ("train", "valid"):
        config["data"][key] = [Path(path).name for path in config["data"][key]]
    (folder / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    shutil.copyfile(options.run / "metrics.jsonl", folder / "metrics.jsonl")
    shutil.copyfile(options.run / "learning_curve.png", folder / "learning_curve.png")
    records = [json.loads(line) for line in (options.run / "metrics.jsonl").read_text().splitlines()]
    valid = [record for record in records if record["kind"] == "valid"]
    best = min(valid, key=lambda record: record["loss"])
    speeds = sorted(record["tokens_per_second"] for record in records if record["kind"] == "train")
    model = recurra.load(options.run, device="cpu")
    parameters = sum(parameter.numel() for parameter in model.model.parameters())
    rows = {
        "best validation loss": f"{best['loss']:.4f} nats per token, at step {best['step']} of {records[-1]['step']}",
        "perplexity per token": f"{best['perplexity']:.3f}",
        "bits per character": f"{best['bits_per_character']:.4f}",
        "training time": f"{records[-1]['seconds'] / 60:.1f} minutes, best after {best['seconds'] / 60:.1f}",
        "throughput": f"{speeds[len(speeds) // 2]:,.0f} tokens/s (median of the log)",
        "parameters": f"{parameters:,}",
        "vocabulary": f"{model.tokenizer.vocab_size:,} ({model.tokenizer.kind})",
        "seed": str(config["training"]["seed"]),
        "machine": describe().rpartition(",")[0],
        "versions": f"recurra {recurra.__version__}, Python {platform.python_version()}, "
        + ", ".join(f"{name} {version(name)}" for name in PACKAGES),
    }
    lines = [f"# {options.title}", "", "    " + options.command.replace("\n", "\n    "), "", "| | |", "|---|---|"]
    lines += [f"| {name} | {value} |" for name, value in rows.items()]
    lines += ["", "![Learning curve](learning_curve.png)", ""]
    if options.note:
        lines += [options.note, ""]
    if options.sample is not None:
        text = model.generate(options.sample, length=400, seed=1)[0]
        lines += [f"What it writes after {options.sample!r} (temperature 1, seed 1):", ""]
        lines += ["    " + line for line in (options.sample + text).splitlines()] + [""]
    (folder / "README.md").write_text("\n".join(lines))
    print(folder / "README.md")


if __name__ == "__main__":
    main()
