"""`recurra train`: put the configuration together and train the system."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import typer

from .. import registry
from ..registry import Argument, Option, System
from ..shown import tell
from .build import build, refuse_foreign, task_named_in
from .frame import FAILED, UsageError, import_torch, unknown_name
from .options import AS_JSON, TRUST_CELL
from .output import print_json, print_pairs

__all__ = ["train_command"]

_SYSTEM = Argument("system", "The system to train (default: what the config names).", "[SYSTEM]", "")
_BEFORE = (Option("--run", "Run directory to write, or to go on with (required).", metavar="DIR"),)
_AFTER = (
    Option(
        "--from",
        "Start from the tokens of this run and from the parts of its network that fit; what was taken is said. Of a "
        "run of the same system the settings of tokenizer, model and decoding are taken over too, where --config and "
        "--set have no others (default: start from nothing).",
        metavar="DIR",
        parameter="start_from",
    ),
    Option(
        "--config",
        "Configuration file; configs/ holds commented ones (default: every key's own default).",
        metavar="YAML",
    ),
    Option(
        "--set",
        "Set configuration keys, for example training.max_minutes=5 model.hidden_size=512; wins over --config "
        "(default: none).",
        many=True,
        metavar="section.key=value...",
        parameter="assignments",
    ),
    Option(
        "--resume",
        "Go on from the last checkpoint of --run, with the run's own configuration; --set may change it, for example "
        "to train longer (default: start anew).",
        bool,
    ),
    TRUST_CELL,
    AS_JSON,
)
_HELP = """Train a system on your own data and write a run directory.

    Example: recurra train language-model --data book.txt more/*.txt --run runs/books --set training.max_minutes=10

    Example: recurra train translation --source train.en --target train.de --run runs/en-de

    Ctrl-C saves first; --resume goes on exactly where the training stopped.
"""


def train_command(arguments: Sequence[str] | None) -> tuple[Any, list[str]]:
    """The command with the options of the system that the arguments name, and the arguments, that name first.

    Args:
        arguments: what stands after `train`; None: unknown, as in a list of commands.
    """
    given = list(arguments or ())
    known = registry.names()
    # A file of that name may stand among the values of an option; the first word is always the system.
    named = next((i for i, word in enumerate(given) if word in known and (i == 0 or not Path(word).exists())), None)
    if named is not None:
        system = registry.find(given.pop(named))
        given.insert(0, system.name)
    else:
        system = registry.find(_system_of_files(given) or known[0])
    refuse_foreign(
        given, system.name, {each.name: [option.flag for option in each.options] for each in registry.systems()}
    )
    others = [each for each in known if each != system.name]
    more = (
        f"\n\n    These are the options of {system.name}; for those of {', '.join(others)}: recurra train SYSTEM --help"
    )
    command = build(
        "train",
        lambda **values: _train(system, **values),
        _HELP + (more if others else ""),
        [_SYSTEM],
        [*_BEFORE, *system.options, *_AFTER],
    )
    return command, given


def _system_of_files(words: Sequence[str]) -> str | None:
    """The system of the configuration, or the run, that options name."""
    for flag, inside in (("--config", ""), ("--run", "config.yaml"), ("--from", "config.yaml")):
        for word, value in pairwise([*words, ""]):
            name = value if word == flag else word.removeprefix(f"{flag}=") if word.startswith(f"{flag}=") else None
            task = task_named_in(Path(name) / inside) if name else None
            if task in registry.names():
                return task
    return None


def _train(
    option_system: System,
    system: str,
    run: str | None,
    start_from: str | None,
    config: str | None,
    assignments: list[str] | None,
    resume: bool,
    trust_cell: bool,
    as_json: bool,
    **given: Any,
) -> None:
    if run is None:
        raise UsageError("Missing option '--run': name the directory to write, for example --run runs/first.")
    if system and system not in registry.names():
        raise UsageError(unknown_name("system", system, registry.names()))
    if resume and start_from is not None:
        raise UsageError("--from: a training that is resumed has its own weights; leave out --from or --resume.")
    options = {option: given[option.name] for option in option_system.options if given[option.name]}
    for option, value in options.items():
        if option.single:
            if len(value) > 1:
                name = option_system.name
                raise UsageError(f"{option.flag}: {name} takes one {option.single}, not {len(value)}.")
            options[option] = value[0]
    from ..run.own_cell import trusting

    with trusting(trust_cell):
        resolved = _resolve(system, Path(run), options, start_from, config, assignments or [], resume)
        missing = None if resume else resolved.missing()
        if missing:
            raise UsageError(missing)
        import_torch()
        from ..training.training_run import train

        result = train(resolved, Path(run), resume=resume)
    # Of several processes under torchrun one speaks for all.
    if os.environ.get("RANK", "0") == "0":
        _report(registry.find(resolved.task), Path(run), result, as_json)


def _resolve(
    task: str,
    run: Path,
    options: dict[Option, Any],
    start_from: str | None,
    config: str | None,
    assignments: list[str],
    resume: bool,
) -> Any:
    from ..config.load import load_config, parse_assignment

    if resume and config is None and (run / "config.yaml").is_file():
        config = str(run / "config.yaml")
    overrides: list[dict[str, Any]] = [{"task": task}] if task else []
    below: dict[str, Any] = {}
    if start_from is not None:
        from ..run.start_from import settings_of

        below = settings_of(start_from, task or None)
        overrides.append({"training": {"start_from": start_from}})
    for option, value in options.items():
        if option.settings and config is None and not resume:
            overrides.append(registry.resolve(option.settings)(value))
    overrides.extend(_at(option.key, value) for option, value in options.items())
    _refuse_twice(assignments)
    overrides.extend(parse_assignment(text) for text in assignments)
    return load_config(config, overrides, below)


def _at(key: str, value: Any) -> dict[str, Any]:
    """A value at its place in the configuration."""
    for part in reversed(key.split(".")):
        value = {part: value}
    tree: dict[str, Any] = value
    return tree


def _refuse_twice(assignments: list[str]) -> None:
    first: dict[str, str] = {}
    for text in assignments:
        key = text.partition("=")[0].strip()
        if key in first:
            raise UsageError(f"--set {first[key]} and --set {text}: both set {key}; leave out one.")
        first[key] = text


def _report(system: System, run: Path, result: Any, as_json: bool) -> None:
    interrupted = result.stopped_because == "interrupted"
    if interrupted:
        tell(f"recurra: interrupted and saved; go on with: recurra train --run {shlex.quote(str(run))} --resume")
    if as_json:
        print_json(
            {
                "run": str(run),
                "best_loss": result.best_loss,
                "steps": result.steps,
                "seconds": result.seconds,
                "stopped_because": result.stopped_because,
                **result.measures,
            }
        )
    elif not interrupted:
        measured = system.shown({"loss": result.best_loss, **result.measures})
        print_pairs(
            [
                ("run", str(run)),
                *((f"best validation {name}" if name == "loss" else name, value) for name, value in measured),
                ("steps", f"{result.steps:,}"),
                ("time", f"{result.seconds:.0f} s"),
                ("stopped because of", result.stopped_because),
            ]
        )
    if interrupted:
        raise typer.Exit(FAILED)
