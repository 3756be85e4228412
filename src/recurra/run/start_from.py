"""Starting a training from what another run has learnt: its tokens and its weights."""

from __future__ import annotations

import shutil
from typing import Any

from torch import nn

from ..errors import ConfigError, RunError
from ..files import regular, unwritten
from .directory import Run, read_run
from .hub import fetch
from .own_cell import model_settings
from .weights import read_weights

__all__ = ["find_start", "settings_of", "take_files", "take_weights"]


def find_start(config: Any) -> Run:
    """The run that `training.start_from` names.

    Raises:
        RunError: if there is no such run.
        ConfigError: if it is one of another system or with other tokens.
    """
    start = _read(config.training.start_from, config.task)
    if getattr(start.config, "tokenizer", None) != getattr(config, "tokenizer", None):
        raise ConfigError(
            f"tokenizer: a training that starts from {start.path} has its tokens; leave this section as it is there."
        )
    return start


def settings_of(name: str, task: str | None) -> dict[str, Any]:
    """The task of a run and those sections of its configuration that a training from its weights takes over.

    Args:
        name: a run directory, or USER/NAME on the Hub.
        task: that is to be trained; None: whichever.

    Raises:
        RunError, ConfigError: as `find_start` does.
    """
    start = _read(name, task)
    config = start.config.model_copy(update={"model": model_settings(start)})
    sections = {"task", "tokenizer", "model", "decoding"}
    taken: dict[str, Any] = config.model_dump(mode="json", include=sections)
    return taken


def take_files(start: Run, run: Run) -> None:
    """Copy what the model of a run needs beside its weights, such as its tokenizer, to another run.

    Raises:
        RunError: if a file cannot be read or written.
    """
    for name in start.files:
        try:
            shutil.copyfile(regular(start.path / name), run.path / name)
        except OSError as error:
            raise RunError(f"{run.path / name}: cannot be copied from {start.path} {unwritten(error)}.") from error


def take_weights(model: nn.Module, start: Run) -> None:
    """Give a model the best weights of a run.

    Raises:
        RunError: if there are none.
        ConfigError: if they do not fit.
    """
    try:
        model.load_state_dict(read_weights(start))
    except RuntimeError as error:
        raise ConfigError(
            f"training.start_from: the weights of {start.path} do not fit the model section; take that of its "
            "config.yaml."
        ) from error


def _read(name: str, task: str | None) -> Run:
    start = read_run(fetch(name))
    if task is not None and start.config.task != task:
        raise ConfigError(f"training.start_from: {start.path} is a run of the task {start.config.task}, not of {task}.")
    return start
