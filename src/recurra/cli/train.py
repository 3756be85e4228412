"""`recurra train`: put the configuration together and run the task."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import Annotated, Any

import typer

from ..shown import tell
from .frame import FAILED, UsageError, import_torch, unknown_name
from .options import TrustCell
from .output import measured, print_json, print_pairs

__all__ = ["train"]

_FROM_CONFIG = "(default: what the config names)."


def train(
    task: Annotated[
        str | None,
        typer.Argument(help=f"The system to train: language-model or translation {_FROM_CONFIG}", show_default=False),
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
            help="What to learn from. Language model: one or more files, globs, folders or .gz files; - is stdin "
            "(data.train). Translation: one .tsv or .jsonl file of pairs (data.pairs) " + _FROM_CONFIG,
            show_default=False,
        ),
    ] = None,
    valid: Annotated[
        list[str] | None,
        typer.Option(
            "--valid",
            metavar="FILE...",
            help="What to validate on, in the same forms; data.valid or valid_pairs (default: a tenth of the data).",
            show_default=False,
        ),
    ] = None,
    source: Annotated[
        str | None,
        typer.Option(
            "--source",
            metavar="FILE",
            help=f"Sentences to translate from, one a line {_FROM_CONFIG}",
            show_default=False,
        ),
    ] = None,
    target: Annotated[
        str | None,
        typer.Option(
            "--target", metavar="FILE", help=f"Their translations, line by line {_FROM_CONFIG}", show_default=False
        ),
    ] = None,
    valid_source: Annotated[
        str | None,
        typer.Option(
            "--valid-source", metavar="FILE", help=f"Sentences to validate on {_FROM_CONFIG}", show_default=False
        ),
    ] = None,
    valid_target: Annotated[
        str | None,
        typer.Option("--valid-target", metavar="FILE", help=f"Their translations {_FROM_CONFIG}", show_default=False),
    ] = None,
    toy: Annotated[
        str | None,
        typer.Option(
            "--toy",
            metavar="NAME",
            help="Translation of made-up rows of letters: reverse or copy, learnt in a minute (default: real data).",
            show_default=False,
        ),
    ] = None,
    start_from: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="DIR",
            help="Start from the weights and tokens of this run, with its settings of tokenizer, model and decoding, "
            "where --config and --set have no others (default: start from nothing).",
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
    trust_cell: TrustCell = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the result as one line of JSON (default: as a table).")
    ] = False,
) -> None:
    """Train a system on your own text and write a run directory.

    Example: recurra train language-model --data book.txt more/*.txt --run runs/books --set training.max_minutes=10

    Example: recurra train translation --source train.en --target train.de --run runs/en-de

    Ctrl-C saves first; --resume goes on exactly where the training stopped.
    """
    from ..config import TASKS
    from ..tasks.own_cell import trusting

    if run is None:
        raise UsageError("Missing option '--run': name the directory to write, for example --run runs/first.")
    if task is not None and task not in TASKS:
        raise UsageError(unknown_name("system", task, TASKS))
    files = {
        "--data": data, "--valid": valid, "--source": source, "--target": target,
        "--valid-source": valid_source, "--valid-target": valid_target, "--toy": toy,
    }  # fmt: skip
    given = {name: value for name, value in files.items() if value}
    if resume and start_from is not None:
        raise UsageError("--from: a training that is resumed has its own weights; leave out --from or --resume.")
    with trusting(trust_cell):
        resolved = _resolve(task, run, given, start_from, config, assignments or [], resume)
        module = _module(resolved.task)
        if not resume:
            _require_data(resolved)
        result = module.train(resolved, run, resume=resume)
    # Of several processes under torchrun one speaks for all.
    if os.environ.get("RANK", "0") == "0":
        _report(run, result, as_json)


def _module(task: str) -> Any:
    import_torch()
    if task == "translation":
        from ..tasks import translation

        return translation
    from ..tasks import language_model

    return language_model


_KEYS = {
    "language-model": {"--data": "train", "--valid": "valid"},
    "translation": {
        "--data": "pairs",
        "--valid": "valid_pairs",
        "--source": "source",
        "--target": "target",
        "--valid-source": "valid_source",
        "--valid-target": "valid_target",
        "--toy": "toy",
    },
}
"""For each task the keys of its `data` section that options set."""


def _resolve(
    task: str | None,
    run: Path,
    given: dict[str, Any],
    start_from: str | None,
    config: Path | None,
    assignments: list[str],
    resume: bool,
) -> Any:
    from ..config import load_config, parse_assignment

    if resume and config is None and (run / "config.yaml").is_file():
        config = run / "config.yaml"
    overrides: list[dict[str, Any]] = [] if task is None else [{"task": task}]
    below: dict[str, Any] = {}
    if start_from is not None:
        from ..tasks.start_from import settings_of

        below = settings_of(start_from, task)
        overrides.append({"training": {"start_from": start_from}})
    if given or config is None:
        # Only the task tells what the options mean.
        kind = load_config(config, overrides, below).task
        if not resume and "--toy" in given:
            from ..tasks.toy_settings import toy_settings

            if config is None:
                overrides.append(toy_settings(given["--toy"]))
        overrides.extend({"data": {key: value}} for key, value in _data(kind, given))
    _refuse_twice(assignments)
    overrides.extend(parse_assignment(text) for text in assignments)
    return load_config(config, overrides, below)


def _refuse_twice(assignments: list[str]) -> None:
    first: dict[str, str] = {}
    for text in assignments:
        key = text.partition("=")[0].strip()
        if key in first:
            raise UsageError(f"--set {first[key]} and --set {text}: both set {key}; leave out one.")
        first[key] = text


def _data(task: str, given: dict[str, Any]) -> list[tuple[str, Any]]:
    """The keys of the `data` section that options set, with their values."""
    keys = _KEYS[task]
    values = []
    for name, value in given.items():
        if name not in keys:
            raise UsageError(f"{name}: this is not for {task}; leave it out, or name another system.")
        if task != "language-model" and isinstance(value, list):
            if len(value) > 1:
                raise UsageError(f"{name}: {task} takes one file of pairs, not {len(value)}.")
            value = value[0]
        values.append((keys[name], value))
    return values


def _require_data(config: Any) -> None:
    data = config.data
    if config.task == "language-model" and not data.train:
        raise UsageError("Missing option '--data': name the text to learn from (or set data.train in the config).")
    if config.task == "translation" and data.source is None and data.pairs is None and data.toy == "none":
        raise UsageError(
            "Missing options '--source' and '--target': name the sentences to learn from (or --data with a .tsv or "
            ".jsonl file of pairs, or --toy reverse)."
        )


def _report(run: Path, result: Any, as_json: bool) -> None:
    interrupted = result.stopped_because == "interrupted"
    if interrupted:
        tell(f"recurra: interrupted and saved; go on with: recurra train --run {shlex.quote(str(run))} --resume")
    values = {
        "run": str(run),
        "best_loss": result.best_loss,
        "perplexity": result.perplexity,
        "steps": result.steps,
        "seconds": result.seconds,
        "stopped_because": result.stopped_because,
        **result.metrics,
    }
    if as_json:
        print_json(values)
    elif not interrupted:
        print_pairs(
            [
                ("run", str(run)),
                ("best validation loss", f"{result.best_loss:.4f} nats per token"),
                ("perplexity", f"{result.perplexity:.2f} per token"),
                *measured(result.metrics),
                ("steps", f"{result.steps:,}"),
                ("time", f"{result.seconds:.0f} s"),
                ("stopped because of", result.stopped_because),
            ]
        )
    if interrupted:
        raise typer.Exit(FAILED)
