"""Memory and speed of a translation system over many pairs: python benchmarks/pairs_memory.py --pairs 5000000

Made-up pairs are prepared, trained on for a hundred steps, evaluated and trained on further, each in a process of its
own. Of each its time and the peak of its anonymous memory (RssAnon: memory of its own, without the pages of mapped
files, which the system takes back when it needs them) are printed, and how much of that torch takes alone.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

STAGES = ("torch", "prepare", "second start", "train", "evaluate", "resume")
VALID = 500
WORDS = 50_000


def write_pairs(folder: Path, count: int) -> None:
    """Two files of sentences of 1 to some 60 words from a Zipf-like vocabulary, the same for the same count."""
    random = np.random.default_rng(1)
    syllables = [a + b for a in "bdfgklmnprstvz" for b in "aeiou"]
    words = np.array(["".join(random.choice(syllables, random.integers(1, 5))) for _ in range(WORDS)])
    with open(folder / "source.txt", "w") as source, open(folder / "target.txt", "w") as target:
        for first in range(0, count, 50_000):
            rows = min(50_000, count - first)
            lengths = np.minimum(1 + random.gamma(2.0, 6.0, rows).astype(int), 60)
            ranks = (WORDS * random.random(int(lengths.sum())) ** 4).astype(int)
            for file, shift in ((source, 0), (target, 1)):
                parts = np.split(words[(ranks + shift) % WORDS], np.cumsum(lengths)[:-1])
                file.writelines(" ".join(part.tolist()) + "\n" for part in parts)


def run_stage(stage: str, folder: Path, count: int, kind: str) -> None:
    """One stage in this process; prints its seconds, without the imports, as JSON."""
    import torch  # noqa: F401

    from recurra import registry
    from recurra.config.load import save_config
    from recurra.run.directory import Run
    from recurra.systems.translation.config import TranslationConfig
    from recurra.systems.translation.data import prepare_pairs
    from recurra.systems.translation.predict import Translator
    from recurra.systems.translation.train import prepare_task
    from recurra.training.processes import Processes
    from recurra.training.training_run import train

    steps = 110 if stage == "resume" else 100
    config = TranslationConfig.model_validate(
        {
            "data": {
                "source": str(folder / "source.txt"),
                "target": str(folder / "target.txt"),
                "validation_fraction": min(0.1, VALID / count),
            },
            "tokenizer": {"kind": kind},
            "model": {"embedding_size": 64, "hidden_size": 64},
            "training": {
                "batch_tokens": 2000,
                "max_steps": steps,
                "translate_valid": 20,
                "device": "cpu",
                # More threads than free cores wait for one another.
                "num_threads": 1,
            },
            "logging": {"tensorboard": False, "picture": False, "progress": False},
        }
    )
    run = Run(folder / "run", config, registry.find(config.task))
    start = time.perf_counter()
    if stage == "prepare":
        prepare_pairs(run)
        save_config(config, run.path / "config.yaml")
    elif stage == "second start":
        prepare_task(run, Processes(config.training))
    elif stage in ("train", "resume"):
        train(config, run.path, resume=True)
    elif stage == "evaluate":
        translator = Translator.from_runs([run.path], device="cpu")
        translator.evaluate(None, None, str(run.data / "valid.jsonl"), beam=1)
    print(json.dumps({"seconds": time.perf_counter() - start}))


def watch(command: list[str]) -> tuple[float, float]:
    """Seconds that a stage says it took, and the peak of its anonymous memory in MiB, looked at 50 times a second."""
    peak = 0
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        while process.poll() is None:
            try:
                status = Path(f"/proc/{process.pid}/status").read_text()
            except OSError:
                break
            peak = max([peak, *(int(line.split()[1]) for line in status.splitlines() if line.startswith("RssAnon"))])
            time.sleep(0.02)
        assert process.stdout is not None
        said = process.stdout.read()
    if process.returncode:
        raise SystemExit(f"{command} ended with {process.returncode}")
    return json.loads(said.splitlines()[-1])["seconds"], peak / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=200_000, help="how many pairs (200,000)")
    parser.add_argument("--tokenizer", default="bpe", help="kind of tokens (bpe)")
    parser.add_argument("--folder", type=Path, help="where the pairs and the run are kept (a temporary folder)")
    parser.add_argument("--stage", choices=STAGES, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.stage:
        run_stage(arguments.stage, arguments.folder, arguments.pairs, arguments.tokenizer)
        return
    with tempfile.TemporaryDirectory() as made:
        folder = arguments.folder or Path(made)
        folder.mkdir(parents=True, exist_ok=True)
        write_pairs(folder, arguments.pairs)
        size = sum(path.stat().st_size for path in folder.glob("*.txt"))
        print(f"{arguments.pairs:,} pairs, {size / 1e6:,.0f} MB of text")
        print(f"{'stage':14} {'seconds':>9} {'RssAnon, MiB':>13}", flush=True)
        for stage in STAGES:
            options = {"stage": stage, "folder": folder, "pairs": arguments.pairs, "tokenizer": arguments.tokenizer}
            words = [str(word) for key, value in options.items() for word in (f"--{key}", value)]
            seconds, peak = watch([sys.executable, __file__, *words])
            rate = f"   {arguments.pairs / seconds:,.0f} pairs/s" if stage == "prepare" else ""
            print(f"{stage:14} {seconds:9.1f} {peak:13.0f}{rate}", flush=True)
        kept = sum(path.stat().st_size for path in (folder / "run" / "data").iterdir())
        print(f"{kept / 1e6:,.0f} MB of prepared data")


if __name__ == "__main__":
    main()
