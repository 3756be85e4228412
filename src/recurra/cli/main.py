"""The `recurra` command: its subcommands and entry point. torch is imported by the commands that need it, not here."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from .. import __version__
from .about import cells, info
from .ask import evaluate, generate, next_word, score
from .frame import CommandGroup, ManyValuesCommand
from .train import train
from .translate import translate

__all__ = ["app", "main"]

app = typer.Typer(
    name="recurra",
    cls=CommandGroup,
    help="Train recurrent sequence models on your own data, ask them for probabilities, and let them write.",
    invoke_without_command=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
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


_COMMANDS: dict[str, Any] = {
    "train": train,
    "evaluate": evaluate,
    "score": score,
    "next": next_word,
    "generate": generate,
    "translate": translate,
    "info": info,
    "cells": cells,
}
for _name, _function in _COMMANDS.items():
    app.command(_name, cls=ManyValuesCommand)(_function)


def main() -> None:
    """Run the command line and exit with its code."""
    app()
