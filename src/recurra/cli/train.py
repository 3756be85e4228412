"""`recurra train`: put the configuration together and run the task."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import Annotated, Any

import typer

from .frame import FAILED, UsageError, message, unknown_name
from .output import print_json, print_pairs

__all__ = ["train"]

TASKS = ("language-model",)


def train(
    task: Annotated[
        str | None,
        typer.Argument(
            help="The system to train: language-model (default: what the config names).", show_default=False
        ),
    ] = None,
    run: Annotated[
        Path | None,
        typer.Option(
            "--run", metavar="DIR", help="Run directory to write, or to go on with (required).", show_default=False
        ),
    ] = None,
    data: Annotated[
        list[str] | None,
        typer.Option(
            "--data",
            metavar="FILE...",
            help="Text to learn from: one or more files, globs, folders or .gz files; - is stdin. "
            "The same as data.train (default: what the config names).",
            show_default=False,
        ),
    ] = None,
    valid: Annotated[
        list[str] | None,
        typer.Option(
            "--valid",
            metavar="FILE...",
            help="Text to validate on, in the same forms; data.valid (default: the last tenth of the text).",
            show_default=False,
        ),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(
            "--config",
            metavar="YAML",
            help="Configuration file; configs/ holds commented ones (default: every key's own default).",
            show_default=False,
        ),
    ] = None,
    assignments: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="section.key=value...",
            help="Set configuration keys, for example training.max_minutes=5 model.hidden_size=512; "
            "wins over --config (default: none).",
            show_default=False,
        ),
    ] = None,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume",
            help="Go on from the last checkpoint of --run, with the run's own configuration; "
            "--set may change it, for example to train longer (default: start anew).",
        ),
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the result as one line of JSON (default: as a table).")
    ] = False,
) -> None:
    """Train a system on your own text and write a run directory.

    Example: recurra train language-model --data book.txt more/*.txt --run runs/books --set training.max_minutes=10

    Ctrl-C saves first; --resume goes on exactly where the training stopped.
    """
    if run is None:
        raise UsageError("Missing option '--run': name the directory to write, for example --run runs/first.")
    if task is not None and task not in TASKS:
        raise UsageError(unknown_name("system", task, TASKS))
    resolved = _resolve(task, run, data or [], valid or [], config, assignments or [], resume)
    if not resume and not resolved.data.train:
        raise UsageError("Missing option '--data': name the text to learn from (or set data.train in the config).")

    from ..tasks import language_model

    result = language_model.train(resolved, run, resume=resume)
    # Of several processes under torchrun one speaks for all.
    if os.environ.get("RANK", "0") == "0":
        _report(run, result, as_json)


def _resolve(
    task: str | None,
    run: Path,
    data: list[str],
    valid: list[str],
    config: Path | None,
    assignments: list[str],
    resume: bool,
) -> Any:
    from ..config import load_config, parse_assignment

    overrides: list[dict[str, Any]] = []
    if task is not None:
        overrides.append({"task": task})
    if data:
        overrides.append({"data": {"train": data}})
    if valid:
        overrides.append({"data": {"valid": valid}})
    overrides.extend(parse_assignment(text) for text in assignments)
    if resume and config is None and (run / "config.yaml").is_file():
        config = run / "config.yaml"
    return load_config(config, overrides)


def _report(run: Path, result: Any, as_json: bool) -> None:
    interrupted = result.stopped_because == "interrupted"
    if interrupted:
        message(f"recurra: interrupted and saved; go on with: recurra train --run {shlex.quote(str(run))} --resume")
    values = {
        "run": str(run),
        "best_loss": result.best_loss,
        "perplexity": result.perplexity,
        "steps": result.steps,
        "seconds": result.seconds,
        "stopped_because": result.stopped_because,
    }
    if as_json:
        print_json(values)
    elif not interrupted:
        print_pairs(
            [
                ("run", str(run)),
                ("best validation loss", f"{result.best_loss:.4f} nats per token"),
                ("perplexity", f"{result.perplexity:.2f} per token"),
                ("steps", f"{result.steps:,}"),
                ("time", f"{result.seconds:.0f} s"),
                ("stopped because of", result.stopped_because),
            ]
        )
    if interrupted:
        raise typer.Exit(FAILED)
