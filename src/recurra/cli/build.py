"""Commands made of data: a record of each option and argument becomes one of the command line's."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

import typer

from ..files import regular
from ..registry import Argument, Option
from .frame import CONTEXT, ManyValuesCommand, UsageError

__all__ = ["build", "refuse_foreign", "task_named_in"]

_TASK = re.compile(r"^task: *([\w-]+) *(#.*)?$", re.MULTILINE)


def build(
    name: str, run: Callable[..., None], help: str, arguments: Sequence[Argument], options: Sequence[Option]
) -> Any:
    """A command of click.

    Args:
        name: of the command.
        run: called with the values by the names of arguments and options.
        help: its first line alone in the list of commands.
        arguments, options: in the order of the help.
    """
    parameters = [*map(_argument, arguments), *map(_option, options)]

    def command(**given: Any) -> None:
        run(**given)

    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {each.name: each.annotation for each in parameters}
    command.__doc__ = help
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command(name, cls=ManyValuesCommand, context_settings=CONTEXT)(command)
    return typer.main.get_command(app)


def task_named_in(path: Path) -> str | None:
    """The task that a configuration file names, by a look at its text; None if there is none to be seen.

    It tells which options a command has. The file is read and checked when the command runs.
    """
    with suppress(OSError, ValueError):
        found = _TASK.search(regular(path).read_text(encoding="utf-8"))
        return found[1] if found else None
    return None


def refuse_foreign(words: Sequence[str], system: str, flags: Mapping[str, Iterable[str]]) -> None:
    """Refuse options that other systems have and this one has not.

    Args:
        words: of the command line.
        system: whose command it is.
        flags: of each system.

    Raises:
        UsageError: naming the option and the systems that it is for.
    """
    own = set(flags[system])
    for word in words:
        flag = word.partition("=")[0]
        having = [name for name, known in flags.items() if flag in known]
        if having and flag not in own:
            said = " and ".join(having)
            raise UsageError(f"{flag}: this is not for {system} but for {said}; leave it out, or name another system.")


def _argument(argument: Argument) -> inspect.Parameter:
    wanted = argument.default is None
    info = typer.Argument(metavar=argument.metavar, help=argument.help, show_default=not wanted)
    default: Any = [] if argument.many else argument.default
    return _parameter(argument.name, list[str] if argument.many else str, info, ... if wanted else default)


def _option(option: Option) -> inspect.Parameter:
    kind = option.kind
    plain = kind is bool or option.default not in (None, "")
    info = typer.Option(
        option.flag,
        metavar=option.metavar,
        help=option.help,
        min=option.least,
        max=option.most,
        show_default=plain and kind is not bool,
    )
    if option.many:
        return _parameter(option.name, list[str] | None, info, None)
    default = bool(option.default) if kind is bool else option.default
    return _parameter(option.name, kind if default is not None else kind | None, info, default)


def _parameter(name: str, kind: Any, info: Any, default: Any) -> inspect.Parameter:
    given = inspect.Parameter.empty if default is ... else default
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=given, annotation=Annotated[kind, info])
