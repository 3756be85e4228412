"""The `recurra` command: its subcommands and entry point. torch is imported by the commands that need it, not here."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from .. import __version__
from .about import cells, info
from .compare import compare_command
from .frame import CONTEXT, CommandGroup, ManyValuesCommand
from .inspect import inspect
from .train import train_command
from .verbs import verb_command, verb_names

__all__ = ["app", "main"]

_OWN: dict[str, Any] = {"info": info, "cells": cells}


class _Commands(CommandGroup):
    """`train`, the verbs of all systems, `compare`, `inspect`, and what is not of a system."""

    def list_commands(self, ctx: Any) -> list[str]:
        return ["train", *verb_names(), "compare", "inspect", *_OWN]

    def get_command(self, ctx: Any, name: str) -> Any:
        return super().get_command(ctx, name) or self._declared(name, None)[0]

    def command_of(self, name: str, arguments: list[str]) -> tuple[Any, list[str]]:
        return self._declared(name, arguments)

    def _declared(self, name: str, arguments: list[str] | None) -> tuple[Any, list[str]]:
        if name == "train":
            return train_command(arguments)
        if name == "compare":
            return compare_command(arguments), arguments or []
        return verb_command(name, arguments), arguments or []


app = typer.Typer(
    name="recurra",
    cls=_Commands,
    help="Train recurrent sequence models on your own data, ask them for probabilities, and let them write.",
    invoke_without_command=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    context_settings=CONTEXT,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"recurra {__version__}")
        raise typer.Exit()


@app.callback()
def _root(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and stop.")
    ] = False,
) -> None:
    if context.invoked_subcommand is None:
        print(context.get_help())


for _name, _function in _OWN.items():
    app.command(_name, cls=ManyValuesCommand)(_function)
app.add_typer(inspect)


def main() -> None:
    """Run the command line and exit with its code."""
    app()
