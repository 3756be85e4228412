"""`recurra inspect`: commands that look into networks, each in a file of its own."""

from __future__ import annotations

from typing import Any

import typer

from .frame import CONTEXT, CommandGroup, ManyValuesCommand
from .inspect_gradients import gradients
from .inspect_states import states_command

__all__ = ["inspect"]


class _Inspections(CommandGroup):
    """The ways to look into a network."""

    def list_commands(self, ctx: Any) -> list[str]:
        return ["gradients", "states"]

    def get_command(self, ctx: Any, name: str) -> Any:
        return states_command() if name == "states" else super().get_command(ctx, name)


inspect = typer.Typer(
    name="inspect",
    cls=_Inspections,
    help="Look into a network: how far gradients reach, and what its units and gates do on a text.",
    invoke_without_command=True,
    context_settings=CONTEXT,
    pretty_exceptions_enable=False,
)


@inspect.callback()
def _root(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        print(context.get_help())


inspect.command("gradients", cls=ManyValuesCommand, context_settings=CONTEXT)(gradients)
