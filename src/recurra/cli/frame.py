"""What all commands share: exit codes, errors as one sentence, options with several values, nearest names.

Exit codes: 0 done, 1 failed (or interrupted), 2 wrong usage. Older versions of typer depend on click and newer ones
carry their own copy, so click's classes are reached through typer's public names only.
"""

from __future__ import annotations

import errno
import math
import os
import sys
import traceback
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from ..bounds import LARGEST
from ..errors import ConfigError, RecurraError
from ..shown import tell
from ..training.interrupts import dying_of_interrupts

__all__ = [
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
    # Imported here because it pulls in pydantic, which would double the time that `--help` takes.
    from ..config import nearest

    names = list(known)
    guess = nearest(name, names)
    return f"there is no {kind} {name}; " + (f"did you mean {guess}?" if guess else f"known are {', '.join(names)}.")


class ManyValuesCommand(TyperCommand):
    """A command whose repeatable options take one or more values after one flag: `--data a b c`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        many = {name for parameter in self.params if getattr(parameter, "multiple", False) for name in parameter.opts}
        rest = super().parse_args(ctx, _repeat_flags(args, many))
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


def _repeat_flags(args: Sequence[str], many: set[str]) -> list[str]:
    """Write `--data a b` as `--data a --data b`, which is what click reads; a lone - is a value (stdin)."""
    result: list[str] = []
    flag: str | None = None
    values = 0
    for position, word in enumerate(args):
        if word == "--":
            return [*result, *args[position:]]
        if word.startswith("-") and word != "-":
            name, equals, _ = word.partition("=")
            flag, values = (name, 1 if equals else 0) if name in many else (None, 0)
            result.append(word)
            continue
        if flag is not None:
            if values:
                result.append(flag)
            values += 1
        result.append(word)
    return result


class CommandGroup(TyperGroup):
    """The root command: it turns every way in which a command can end into an exit code and at most one sentence."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        name = args[0]
        if self.get_command(ctx, name) is None and not name.startswith("-"):
            raise UsageError(unknown_name("command", name, self.list_commands(ctx)), ctx=ctx)
        return super().resolve_command(ctx, args)

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
