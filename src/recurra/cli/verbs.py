"""The commands that ask a trained run, as its system declares them."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from .. import registry
from ..errors import ConfigError
from ..registry import Argument, Option, System, Verb
from ..shown import tell, visible
from .build import build, refuse_foreign, task_named_in
from .frame import UsageError, check_texts, import_torch
from .lines import input_lines
from .options import AS_JSON, DEVICE, RUN, RUNS, TRUST_CELL
from .output import print_json, print_pairs, print_shaded, print_table, show

__all__ = ["verb_command", "verb_names"]


def verb_names() -> list[str]:
    """The verbs of all systems."""
    return list(dict.fromkeys(verb.name for system in registry.systems() for verb in system.verbs))


def verb_command(name: str, arguments: Sequence[str] | None) -> Any:
    """The command of a verb, for the system of the run that the arguments name; None if no system has the verb.

    Args:
        name: of the verb.
        arguments: what stands after it; None: unknown, as in a list of commands.
    """
    found = {system.name: verb for system in registry.systems() for verb in system.verbs if verb.name == name}
    if not found:
        return None
    asked = _system_of_run(arguments or ()) if len(found) > 1 else next(iter(found))
    if asked not in found:
        return _common_command(name, found)
    verb = found[asked]
    refuse_foreign(arguments or (), asked, {each: [o.flag for o in other.options] for each, other in found.items()})
    return build(
        name,
        lambda **given: _ask(registry.find(asked), verb, given),
        verb.help,
        [RUNS if verb.several else RUN, *verb.arguments],
        [*verb.options, *_COMMON],
    )


_COMMON = (DEVICE, TRUST_CELL, AS_JSON)


def _system_of_run(arguments: Sequence[str]) -> str | None:
    """The system of the first argument that is a run; None if there is none here."""
    tasks = (task_named_in(Path(argument) / "config.yaml") for argument in arguments)
    return next((task for task in tasks if task is not None), None)


def _common_command(name: str, found: dict[str, Verb]) -> Any:
    """The command of a verb that several systems have, where it is not known yet which one is meant."""
    lines = {system: verb.help.strip().splitlines()[0] for system, verb in found.items()}
    ways = "\n\n".join(f"{system}: {line}" for system, line in lines.items())
    help = f"{next(iter(lines.values()))}\n\nFurther options: recurra {name} DIR --help.\n\n{ways}"
    verbs = list(found.items())
    options = [_joined(flag, verbs) for flag in dict.fromkeys(o.flag for _, verb in verbs for o in verb.options)]
    arguments = {argument.name: argument for _, verb in verbs for argument in verb.arguments}

    def run(**given: Any) -> None:
        from ..run.directory import read_run
        from ..run.hub import fetch

        _check_texts(options, arguments.values(), given)
        system = read_run(fetch(given["dir"])).system
        verb = next((verb for verb in system.verbs if verb.name == name), None)
        if verb is None:
            raise UsageError(f"{given['dir']}: is a run of the task {system.name}, which has no {name}.")
        taken = {each.name for each in (*verb.options, *_COMMON)} | {each.name for each in (*verb.arguments, RUN)}
        for option in options:
            if option.name not in taken and given.pop(option.name):
                raise UsageError(f"{option.flag}: this is not for {system.name}; leave it out.")
        _ask(system, verb, {key: value for key, value in given.items() if key in taken})

    return build(name, run, help, [RUN, *arguments.values()], [*options, *_COMMON])


def _joined(flag: str, verbs: Sequence[tuple[str, Verb]]) -> Option:
    """An option as all systems have it together, with the help of each."""
    having = [(system, option) for system, verb in verbs for option in verb.options if option.flag == flag]
    help = having[0][1].help
    if len(having) < len(verbs) or len({option.help for _, option in having}) > 1:
        help = " ".join(f"{system.capitalize()}: {option.help}" for system, option in having)
    return replace(having[0][1], help=help)


def _check_texts(options: Iterable[Option], arguments: Iterable[Argument], given: Mapping[str, Any]) -> None:
    texts = {option.name: given[option.name] for option in options if option.kind is str}
    check_texts(**texts, **{each.name.upper(): given[each.name] for each in arguments})


def _ask(system: System, verb: Verb, given: dict[str, Any]) -> None:
    _check_texts(verb.options, verb.arguments, given)
    named = given.pop("dir")
    as_json, device, trust_cell = (given.pop(option.name) for option in (AS_JSON, DEVICE, TRUST_CELL))
    loads = {option.name: given.pop(option.name) for option in verb.options if option.loads}
    import_torch()
    if verb.check:
        try:
            registry.resolve(verb.check)(**given)
        except ConfigError as error:
            raise UsageError(str(error)) from error
    from ..run.own_cell import trusting

    beside = loads.pop("beside", None) or []
    directories = [*named, *beside] if verb.several else [named, *beside]
    with trusting(trust_cell):
        predictor = registry.resolve(system.predictor).from_runs(directories, device=device, **loads)
    function = registry.resolve(verb.function)
    wanted = inspect.signature(function).parameters
    bar = _Bar(verb)
    extra: dict[str, Any] = {"progress": bar.move, "as_json": as_json}
    if verb.lines:
        extra["lines"] = input_lines()
    try:
        _print(function(predictor, **{k: v for k, v in extra.items() if k in wanted}, **given), as_json, bar)
    finally:
        bar.stop()


def _print(outputs: Iterator[Any], as_json: bool, bar: _Bar) -> None:
    from ..systems.output import Note, Pairs, Record, Shaded, Table, Text

    for output in outputs:
        bar.make_room()
        match output:
            case Note():
                tell(f"recurra: {output.text}")
            case Record():
                if as_json:
                    print_json(output.json)
                elif output.line is not None:
                    # Escapes that a model picked up from its data must not reach a terminal; a file gets what is said.
                    print(visible(output.line, keep="\n\t") if sys.stdout.isatty() else output.line, flush=True)
            case _ if as_json:
                pass
            case Table():
                print_table(output.columns, output.rows)
            case Pairs():
                print_pairs(output.rows)
            case Text():
                show(output.text, end=output.end)
            case Shaded():
                print_shaded(output.pieces)


class _Bar:
    """Progress on stderr, if someone is watching; it goes away when something is printed."""

    def __init__(self, verb: Verb) -> None:
        self._verb = verb
        self._screen: Any = None
        # Whoever types or reads the answers as they come sees how far it is.
        self._watched = sys.stderr.isatty() and not (verb.lines and (sys.stdin.isatty() or sys.stdout.isatty()))

    def move(self, done: int, total: int) -> None:
        """Show what is done and what there is in all; 0: that is not known."""
        if not self._watched or not self._verb.progress:
            return
        if self._screen is None:
            from ..training.progress import screen_progress

            counted = f"{self._verb.progress}, {{task.completed:,.0f}} lines done"
            columns = [counted] if self._verb.lines else []
            self._screen = screen_progress(*columns, transient=True)
            self._task = self._screen.add_task(self._verb.progress, total=total or None)
            self._screen.start()
        self._screen.update(self._task, completed=done, total=total or None)

    def make_room(self) -> None:
        """Take it away before something is printed, unless that goes elsewhere."""
        if not self._verb.lines:
            self.stop()

    def stop(self) -> None:
        """Take it away."""
        if self._screen is not None:
            self._screen.stop()
            self._screen = None
