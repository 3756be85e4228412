"""What all commands share: exit codes, errors as one sentence, options with several values, nearest names.

Exit codes: 0 done, 1 failed (or interrupted), 2 wrong usage. Older versions of typer depend on click and newer ones
carry their own copy, so click's classes are reached through typer's public names only.
"""

from __future__ import annotations

import errno
import math
import os
import re
import sys
import traceback
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from ..bounds import LARGEST
from ..errors import ConfigError, RecurraError
from ..names import nearest
from ..shown import tell
from ..training.interrupts import dying_of_interrupts

__all__ = [
    "CONTEXT",
    "FAILED",
    "USAGE",
    "CommandGroup",
    "ManyValuesCommand",
    "UsageError",
    "check_texts",
    "import_torch",
    "unknown_name",
]

FAILED = 1
USAGE = 2
CONTEXT = {"help_option_names": ["-h", "--help"]}
"""What typer and click are told of every command."""

UsageError: Any = typer.BadParameter.__mro__[1]
"""click's error for wrong usage: exit code 2."""
_ClickException: Any = UsageError.__mro__[1]


def check_texts(**given: str | Sequence[str] | None) -> None:
    """Refuse texts from the command line that are not UTF-8, which Python hands over with half surrogates in them.

    Raises:
        UsageError: naming the option, of which underscores are the hyphens, or TEXT.
    """
    for name, value in given.items():
        for text in [value] if isinstance(value, str) else value or []:
            if any("\ud800" <= character <= "\udfff" for character in text):
                option = name if name.isupper() else f"--{name.replace('_', '-')}"
                shown = text.encode("utf-8", "backslashreplace").decode()
                raise UsageError(f"{option} {shown}: this is not UTF-8; set the terminal's encoding to UTF-8.")


def import_torch() -> None:
    """Import torch, which takes seconds; Ctrl-C meanwhile ends the command."""
    with dying_of_interrupts():
        import torch  # noqa: F401


def unknown_name(kind: str, name: str, known: Iterable[str]) -> str:
    """One sentence on a mistyped name, with the nearest known one, or all of them when none is near."""
    names = list(known)
    guess = nearest(name, names)
    return f"there is no {kind} {name}; " + (f"did you mean {guess}?" if guess else f"known are {', '.join(names)}.")


class ManyValuesCommand(TyperCommand):
    """A command whose repeatable options take one or more values after one flag: `--data a b c`.

    A value may begin with a hyphen if nobody could take it for an option, such as '-5 degrees'. An argument that must
    be given may stand after the values of such an option: in `--data a b DIR` the last value is DIR.
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        words = _Words(self.params)
        try:
            rest = super().parse_args(ctx, words.arrange(args))
        except UsageError as error:
            # Only what is missing has a kind.
            missing = error.param if hasattr(error, "param_type") else None
            moved = words.with_last_value_as_argument(args)
            if missing is None or missing.param_type_name != "argument" or moved is None:
                raise
            rest = super().parse_args(ctx, moved)
        _check_numbers(ctx)
        return rest


def _check_numbers(ctx: Any) -> None:
    """Refuse infinity, NaN and whole numbers beyond LARGEST in every option; most have closer bounds of their own."""
    for name, value in ctx.params.items():
        option = f"--{name.replace('_', '-')}"
        if isinstance(value, float) and not math.isfinite(value):
            raise UsageError(f"{option}: must be a finite number, not {value}.", ctx=ctx)
        if isinstance(value, int) and abs(value) > LARGEST:
            raise UsageError(f"{option}: must be at most {LARGEST:,}.", ctx=ctx)


_OPTION = re.compile(r"--?[A-Za-z][\w-]*(=.*)?", re.DOTALL)


class _Words:
    """The words of a command line, told apart by what the command takes.

    Args:
        parameters: of the command.
    """

    def __init__(self, parameters: Iterable[Any]) -> None:
        options = [each for each in parameters if each.param_type_name == "option"]
        self._many = {name for each in options if each.multiple for name in each.opts}
        self._single = {name for each in options if not each.multiple and not each.is_flag for name in each.opts}

    def arrange(self, words: Sequence[str]) -> list[str]:
        """The words as click reads them: `--data a b` as `--data a --data b`, and arguments after -- if need be."""
        found = self._parted(words)
        plain, arguments = found.plain(), found.arguments
        return [*plain, "--", *arguments] if any(word.startswith("-") for word in arguments) else [*plain, *arguments]

    def with_last_value_as_argument(self, words: Sequence[str]) -> list[str] | None:
        """The words with the last value of an option as an argument; None if no option has a value to spare."""
        found = self._parted(words)
        if found.last is None or sum(each[0] == found.options[found.last][0] for each in found.options) < 2:
            return None
        value = found.options.pop(found.last)[1]
        return [*found.plain(), "--", value, *found.arguments]

    def _parted(self, words: Sequence[str]) -> _Parted:
        found = _Parted()
        rest = list(words)
        while rest:
            word = rest.pop(0)
            if word == "--":
                found.arguments += rest
                break
            name, equals, value = word.partition("=")
            if not _OPTION.fullmatch(word):
                found.take(word)
            elif name in self._many:
                found.open_option = name
                if not equals and (not rest or rest[0] == "--" or _OPTION.fullmatch(rest[0])):
                    # click says what is wrong with an option that has no value.
                    found.add(name)
                    found.options += [(each,) for each in rest]
                    break
                found.take(value if equals else rest.pop(0))
            elif name in self._single and not equals and rest:
                found.add(word, rest.pop(0))
            else:
                found.add(word)
        return found


class _Parted:
    """The words of a command line, as far as they have been read.

    Attributes:
        options: each with its value, if it has one there; an option of many values stands once for each.
        arguments: in their order.
        open_option: the option of many values that takes the next word which is no option.
        last: the place in `options` of the last value of such an option, if nothing but arguments stands behind it.
    """

    def __init__(self) -> None:
        self.options: list[tuple[str, ...]] = []
        self.arguments: list[str] = []
        self.open_option: str | None = None
        self.last: int | None = None

    def take(self, word: str) -> None:
        """A word that is no option: a value of the open one, else an argument."""
        if self.open_option is None:
            self.arguments.append(word)
        else:
            self.options.append((self.open_option, word))
            self.last = len(self.options) - 1

    def add(self, *words: str) -> None:
        """An option that takes no more words."""
        self.options.append(words)
        self.open_option = self.last = None

    def plain(self) -> list[str]:
        """All options as one row of words."""
        return [word for each in self.options for word in each]


class CommandGroup(TyperGroup):
    """The root command: it turns every way in which a command can end into an exit code and at most one sentence."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        name, *rest = args
        command, arguments = self.command_of(name, rest)
        if command is not None:
            return name, command, arguments
        if self.get_command(ctx, name) is None and not name.startswith("-"):
            raise UsageError(unknown_name("command", name, self.list_commands(ctx)), ctx=ctx)
        return super().resolve_command(ctx, args)

    def command_of(self, name: str, arguments: list[str]) -> tuple[Any, list[str]]:
        """A command that depends on what follows its name, and what it is given; None: there is none."""
        return None, arguments

    def invoke(self, ctx: Any) -> Any:
        try:
            result = super().invoke(ctx)
            # A reader that has gone away shows at the latest here, not in a message at interpreter shutdown.
            sys.stdout.flush()
        except (_ClickException, typer.Exit, typer.Abort):
            raise
        except KeyboardInterrupt as interrupt:
            raise _fail("interrupted.") from interrupt
        except BrokenPipeError as error:
            _discard_stdout()
            raise typer.Exit(FAILED) from error
        except RecurraError as error:
            raise _fail(str(error), error) from error
        except Exception as error:
            if isinstance(error, OSError) and error.filename is not None:
                raise _fail(f"{error.filename}: {error.strerror or error}.", error) from error
            if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                # Where this was, standard output or an open file, the system does not say.
                _discard_stdout()
                raise _fail(f"{error.strerror}; make room, or write elsewhere.", error) from error
            if _wants_memory(error):
                raise _fail("there is not enough memory for this; lower the sizes of model or batch.", error) from error
            what = f"{type(error).__name__}: {error}".splitlines()[0]
            raise _fail(
                f"internal error ({what}); please report it, with what RECURRA_TRACEBACK=1 shows.", error
            ) from error
        return result

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        windows_expand_args: bool = True,
        **extra: Any,
    ) -> Any:
        if not standalone_mode:
            return super().main(args, prog_name, complete_var, False, windows_expand_args, **extra)
        # Streams that were closed before the start are None.
        sys.stdin = sys.stdin or open(os.devnull, encoding="utf-8")  # noqa: SIM115
        sys.stdout = sys.stdout or open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
        sys.stderr = sys.stderr or open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
        # A terminal that cannot show a character gets an escape, not a traceback.
        for stream in (sys.stdout, sys.stderr):
            if hasattr(stream, "reconfigure"):
                stream.reconfigure(errors="backslashreplace")
        try:
            code = super().main(args, prog_name, complete_var, False, windows_expand_args, **extra)
        except _ClickException as error:
            tell(_explain_usage(error))
            code = error.exit_code
        except (typer.Abort, KeyboardInterrupt):
            tell("recurra: interrupted.")
            code = FAILED
        sys.exit(code if isinstance(code, int) else 0)


def _fail(text: str, error: BaseException | None = None) -> typer.Exit:
    if error is not None and os.environ.get("RECURRA_TRACEBACK") == "1":
        traceback.print_exception(error)
    tell(f"recurra: {text}")
    return typer.Exit(USAGE if isinstance(error, ConfigError) else FAILED)


def _wants_memory(error: Exception) -> bool:
    # Of the CPU torch raises a RuntimeError like any other, with the allocator's words.
    return isinstance(error, MemoryError) or "out of memory" in str(error) or "can't allocate memory" in str(error)


def _explain_usage(error: Any) -> str:
    context = getattr(error, "ctx", None)
    command = context.command_path if context is not None else "recurra"
    if hasattr(error, "possibilities") and hasattr(error, "option_name"):
        known = [name for parameter in context.command.params for name in parameter.opts] if context is not None else []
        text = unknown_name("option", error.option_name, [name for name in known if name.startswith("--")])
    else:
        text = error.format_message()
    return f"recurra: {text}\nTry `{command} --help`."


def _discard_stdout() -> None:
    # Python flushes stdout once more at exit; pointing it at nothing keeps that silent.
    with suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
