"""Many trainings that may be interrupted: each result is kept as it ends, and what was begun goes on."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import yaml

__all__ = ["finish", "recurra", "train"]


def recurra(*arguments: str) -> str:
    """What a command prints."""
    ended = subprocess.run([sys.executable, "-m", "recurra", *arguments], capture_output=True, text=True)
    if ended.returncode:
        raise SystemExit(f"{' '.join(arguments)}: {ended.stderr.strip()}")
    return ended.stdout


def train(run: Path, config: dict[str, Any], *data: str) -> None:
    """Train in a run directory, or go on there; the configuration is kept beside it."""
    settings = run.with_name(f"{run.name}.yaml")
    settings.write_text(yaml.safe_dump(config))
    resume = ["--resume"] if (run / "config.yaml").exists() else []
    recurra("train", "--config", str(settings), "--run", str(run), *data, *resume)


def finish(
    kept: Path,
    cases: Sequence[dict[str, Any]],
    measure: Callable[[dict[str, Any]], dict[str, Any]],
    workers: int,
) -> list[dict[str, Any]]:
    """Measure the cases that have no result yet.

    Args:
        kept: JSON lines of results, to which the new ones are added.
        cases: what is measured; a result holds its case and more.
        measure: trains and measures one case.
        workers: cases at a time.

    Returns:
        All results that are kept.
    """
    kept.parent.mkdir(parents=True, exist_ok=True)
    results = [json.loads(line) for line in kept.read_text().splitlines()] if kept.exists() else []
    missing = [case for case in cases if not any(case.items() <= result.items() for result in results)]
    with ThreadPoolExecutor(workers) as pool, kept.open("a") as file:
        for result in pool.map(measure, missing):
            results.append(result)
            file.write(json.dumps(result) + "\n")
            file.flush()
            print(json.dumps(result), flush=True)
    return results
