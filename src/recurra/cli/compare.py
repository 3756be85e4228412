"""`recurra compare`: several cells, each with the same budget of search, then with several seeds, and a table."""

from __future__ import annotations

import glob
import os
import shlex
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import registry
from ..registry import Argument, Option, System
from ..shown import tell
from .build import build, refuse_foreign, task_named_in
from .frame import UsageError, check_texts, import_torch
from .options import AS_JSON, TRUST_CELL
from .output import print_json, show

if TYPE_CHECKING:
    from ..comparison.study import Study, Training

__all__ = ["compare_command"]

_CONFIG = Argument(
    "config",
    "Configuration file; its network has the size that all get (default: that of --work).",
    "[CONFIG]",
    "",
)
_OPTIONS = (
    Option("--work", "Folder of the study, new or to go on with (required).", metavar="DIR"),
    Option(
        "--cells",
        "Cells to compare, parted by commas or spaces; each may have options of its own, as in "
        "lstm+model.forget_bias=0 (default: those of the study in --work).",
        many=True,
        metavar="CELL,...",
    ),
    Option(
        "--transformer",
        "Compare with a plain transformer too, in systems that can have one (default: recurrent cells alone).",
        bool,
    ),
    Option("--search", "Trials of each cell (default: 20).", int, least=1, parameter="trials"),
    Option("--seeds", "Final trainings of each cell's best trial (default: 5).", int, least=1),
    Option(
        "--equal",
        "weights: each cell gets the width at which its network has about as many weights as that of the "
        "configuration; widths: all have its width (default: weights).",
        metavar="WHAT",
    ),
    Option(
        "--space",
        "What is searched, a file of YAML with lines such as training.learning_rate: [0.0005, 0.05, log]; also linear, "
        "and choice after any values (default: the learning rate within a factor of 8, and the dropout rates).",
        metavar="FILE",
    ),
    Option(
        "--test",
        "Test data, in the form that the system's --data takes; read once, after all choices (default: none, and the "
        "validation figures stand).",
        many=True,
        metavar="FILE...",
    ),
    Option(
        "--block",
        "Neighbouring test examples that the paired test draws together, because they depend on one another (default: "
        "1).",
        int,
        least=1,
    ),
    Option(
        "--study-seed", "Seed that all draws and trainings follow from (default: 1).", int, least=0, parameter="seed"
    ),
    Option("--workers", "Trainings side by side, each a process of its own.", int, default=1, least=1, most=1024),
    Option("--threads", "CPU threads of each training (default: 1).", int, least=1, most=1024),
    Option(
        "--list",
        "Print a command for each training that can be done now, for xargs or a cluster (default: do them).",
        bool,
        parameter="listed",
    ),
    Option("--trial", "Do this one training of the search of the study in --work (default: all).", int, least=1),
    Option("--final", "Do this one final training of the study in --work (default: all).", int, least=1),
    Option(
        "--set",
        "Set configuration keys for all cells, for example training.max_minutes=5 (default: none).",
        many=True,
        metavar="section.key=value...",
        parameter="assignments",
    ),
)
_DEFAULTS: dict[str, Any] = {"trials": 20, "seeds": 5}
_HELP = """Compare cells fairly: equal sizes, equal budgets of search, several seeds, and tests of the differences.

    Example: recurra compare config.yaml --cells lstm,gru,mgu --work compared --data book.txt --test held.txt

    Each cell is trained --search times with settings drawn at random, the same for all cells. Its best trial by the
    validation measure is trained with --seeds new seeds. Then table.md, table.json and pictures/ in the folder say what
    differs.

    Ctrl-C saves; the same command goes on where it stopped, and so does recurra compare --work DIR.
"""


def compare_command(arguments: Sequence[str] | None) -> Any:
    """The command with the training options of the system that the configuration names.

    Args:
        arguments: what stands after `compare`; None: unknown, as in a list of commands.
    """
    given = list(arguments or ())
    files = [word for place, word in enumerate(given) if place == 0 or word.endswith((".yaml", ".yml"))]
    system = registry.find(next(filter(None, map(_task_of, files)), None) or registry.names()[0])
    flags = {each.name: [option.flag for option in each.options] for each in registry.systems()}
    refuse_foreign(given, system.name, flags)
    more = f"\n\n    These are the options of {system.name}; those of others show with their CONFIG."
    return build(
        "compare",
        lambda **values: _compare(system, **values),
        _HELP + more,
        [_CONFIG],
        [*_OPTIONS[:4], *system.options, *_OPTIONS[4:], TRUST_CELL, AS_JSON],
    )


def _task_of(word: str) -> str | None:
    task = task_named_in(Path(word))
    return task if task in registry.names() else None


def _compare(
    option_system: System,
    config: str,
    work: str | None,
    workers: int,
    listed: bool,
    trial: int | None,
    final: int | None,
    trust_cell: bool,
    as_json: bool,
    **given: Any,
) -> None:
    if work is None:
        raise UsageError("Missing option '--work': name the folder of the study, for example --work compare.")
    if trial is not None and final is not None:
        raise UsageError("--trial and --final name one training each; give one of them.")
    check_texts(cells=given["cells"], test=given["test"], work=work)
    folder = Path(work).absolute()
    from ..run.own_cell import trusting

    with trusting(trust_cell):
        if trial is not None or final is not None:
            _one(folder, trial, final)
            return
        study = _study(option_system, config, folder, given)
        if listed:
            _list(study, folder)
            return
        found = _all(study, folder, workers)
    if as_json:
        import json

        print_json(json.loads(found.json()))
    else:
        show(found.text())
        tell(f"recurra: {folder / 'table.md'}, table.json and pictures/ have all of it.")


def _study(option_system: System, config: str, folder: Path, given: dict[str, Any]) -> Study:
    """The study of the options, written to its folder; without a configuration, the study that is there."""
    from ..comparison.study import CHANGEABLE, STUDY, Study

    names = ("trials", "seeds", "seed", "equal", "threads", "block")
    asked = {name: given[name] for name in names if given[name] is not None}
    if not config:
        options = (*_OPTIONS, *option_system.options)
        # A seed of 0 was given too.
        anew = [each for each in options if given.get(each.name) or type(given.get(each.name)) is int]
        wrong = next((option for option in anew if option.name not in CHANGEABLE), None)
        if wrong is not None:
            raise UsageError(f"{wrong.flag}: is for a new study; name its CONFIG first, or leave the option out.")
        study = replace(Study.load(folder), **asked)
        study.opened_in(folder)
        return study
    if not given["cells"]:
        raise UsageError("Missing option '--cells': name the cells to compare, for example --cells lstm,gru.")
    equal = asked.get("equal", "weights")
    if equal not in ("weights", "widths"):
        raise UsageError(f"--equal: must be weights or widths, not {equal}.")
    from ..comparison.contestants import parse_contestants, sized
    from ..comparison.search import default_space, read_space
    from ..config.sections import TRANSFORMER

    contestants = parse_contestants([*given["cells"], *([TRANSFORMER] if given["transformer"] else [])])
    resolved = _resolved(option_system, config, given)
    space = read_space(given["space"]) if given["space"] else default_space(resolved)

    def with_sizes(known: Sequence[Any]) -> Study:
        return Study(
            resolved.model_dump(mode="json"),
            tuple(known),
            tuple(space),
            test=tuple(given["test"] or ()),
            directory=str(Path.cwd()),
            **(_DEFAULTS | asked),
        )

    # What is wrong with the options is said before the data are read.
    study = with_sizes(contestants)
    if (folder / STUDY).exists():
        # The sizes follow from what else is compared, so those of the study in the folder are right if it is the same.
        before = {each.name: each for each in Study.load(folder).contestants}
        study = with_sizes([before.get(each.name, each) for each in contestants])
        study.opened_in(folder)
        return study
    study.refuse_foreign_folder(folder)
    import_torch()
    folder.mkdir(parents=True, exist_ok=True)
    sizes = sized(contestants, resolved, equal, folder / f".sizes.{os.getpid()}", space)
    study = with_sizes(sizes)
    study.opened_in(folder)
    for each in sizes:
        tell(f"recurra: {each.name}: {each.width:,} units, {each.weights:,} weights")
    return study


def _resolved(option_system: System, config: str, given: dict[str, Any]) -> Any:
    """The configuration that all contestants share."""
    from ..comparison.contestants import set_at
    from ..config.load import load_config, parse_assignment
    from ..errors import ConfigError

    overrides = []
    for option in option_system.options:
        value = given[option.name]
        if not value:
            continue
        if option.single and len(value) > 1:
            raise UsageError(f"{option.flag}: {option_system.name} takes one {option.single}, not {len(value)}.")
        overrides.append(set_at(option.key, value[0] if option.single else value))
    resolved = load_config(config, [*overrides, *map(parse_assignment, given["assignments"] or [])])
    missing = resolved.missing()
    if missing:
        raise UsageError(missing)
    if resolved.training.start_from is not None:
        raise ConfigError("training.start_from: in a comparison every network starts from nothing; set it to null.")
    read = resolved.data.model_dump() if hasattr(resolved, "data") else {}
    if any("-" in (value if isinstance(value, list) else [value]) for value in (*read.values(), given["test"])):
        raise UsageError("standard input can be read once, and not by several trainings; name a file.")
    # Read at the very end, when hours may have passed.
    gone = next((name for name in given["test"] or () if not glob.glob(name)), None)  # noqa: PTH207
    if gone is not None:
        raise UsageError(f"--test: {gone}: there is no such file.")
    return resolved


def _one(folder: Path, trial: int | None, final: int | None) -> None:
    """Do one training."""
    from ..comparison.study import Study
    from ..comparison.study_training import find_training, train_one

    study = Study.load(folder)
    training = find_training(study, folder, trial or final or 0, final=final is not None)
    import_torch()
    # Relative paths of the configuration begin where the study was begun.
    os.chdir(study.directory)
    result = train_one(study, folder, training)
    tell(_said(study, training, result))


def _list(study: Study, folder: Path) -> None:
    from ..comparison.side_by_side import arguments_of, result_of

    search = [each for each in study.search_trainings() if result_of(folder, each) is None]
    finals = [] if search else study.final_trainings(folder)
    left = search or [each for each in finals if result_of(folder, each) is None]
    for training in left:
        print(shlex.join(["recurra", *arguments_of(folder, training)]), flush=True)
    again = shlex.join(["recurra", "compare", "--work", str(folder)])
    if search:
        tell(f"recurra: when these are done, {again} --list prints those of the best trials' seeds.")
    else:
        tell(f"recurra: {'when these are done' if left else 'all is done'}, {again} writes the table.")


def _all(study: Study, folder: Path, workers: int) -> Any:
    from ..comparison.side_by_side import finish_trainings
    from ..comparison.study_findings import study_findings

    search = study.search_trainings()
    finish_trainings(study, folder, search, workers=workers, report=_reporter(study, folder, search))
    finals = study.final_trainings(folder)
    finish_trainings(study, folder, finals, workers=workers, report=_reporter(study, folder, finals))
    os.chdir(study.directory)
    found = study_findings(study, folder)
    found.write(folder)
    return found


def _reporter(study: Study, folder: Path, trainings: Sequence[Training]) -> Callable[[Training, dict[str, Any]], None]:
    """Says of each training that ends what came of it, and how many are left."""
    from ..comparison.side_by_side import result_of

    done = sum(result_of(folder, each) is not None for each in trainings)
    total, begun = len(trainings), time.monotonic()

    def report(training: Training, result: dict[str, Any]) -> None:
        nonlocal done
        done += 1
        tell(f"{_said(study, training, result)} ({done} of {total} in {time.monotonic() - begun:.0f} s)")

    return report


def _said(study: Study, training: Training, result: dict[str, Any]) -> str:
    """A training and what came of it, in a line."""
    name = study.contestants[training.index].name
    what = f"recurra: {training.kind} {training.number}, {name}"
    if "failed" in result:
        return f"{what}: failed: {result['failed']}"
    measure = study.measure
    return f"{what}: validation {measure.label} {measure.shown(result['valid'][measure.name])}"
