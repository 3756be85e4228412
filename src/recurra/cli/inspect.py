"""`recurra inspect`: commands that look into recurrent layers.

A further command is a function in a file of its own and a line in `_COMMANDS`.
"""

from __future__ import annotations

from typing import Any

import typer

from .frame import CONTEXT, CommandGroup, ManyValuesCommand
from .inspect_gradients import gradients

__all__ = ["inspect"]

_COMMANDS: dict[str, Any] = {"gradients": gradients}

inspect = typer.Typer(
    name="inspect",
    cls=CommandGroup,
    help="Look into recurrent layers, of a run or untrained: what passes them, and how far.",
    invoke_without_command=True,
    context_settings=CONTEXT,
    pretty_exceptions_enable=False,
)


@inspect.callback()
def _root(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        print(context.get_help())


for _name, _function in _COMMANDS.items():
    inspect.command(_name, cls=ManyValuesCommand, context_settings=CONTEXT)(_function)
