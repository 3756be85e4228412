"""Starting a training from what another run has learnt: its tokens and its weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn

from ..data.tokenizer import Tokenizer
from ..errors import ConfigError
from ..training.run_directory import read_run
from ..training.run_weights import read_weights
from .hub import TOKENIZER_FILES, fetch
from .own_cell import model_settings

__all__ = ["find_start", "settings_of", "take_tokenizers", "take_weights"]


def find_start(config: Any) -> Path:
    """The directory of the run that `training.start_from` names.

    Raises:
        RunError: if there is no such run.
        ConfigError: if it is one of another task or with other tokens.
    """
    start = fetch(config.training.start_from)
    other = _read(start, config.task)
    if other.tokenizer != config.tokenizer:
        raise ConfigError(
            f"tokenizer: a training that starts from {start} has its tokens; leave this section as it is there."
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
    start = fetch(name)
    config = _read(start, task)
    config = config.model_copy(update={"model": model_settings(config, start)})
    sections = {"task", "tokenizer", "model", "decoding"}
    taken: dict[str, Any] = config.model_dump(mode="json", include=sections)
    return taken


def take_tokenizers(start: Path, run_dir: Path) -> None:
    """Copy the tokenizers of a run to another.

    Raises:
        RunError: if one cannot be read or written.
    """
    for name in TOKENIZER_FILES:
        if (start / name).is_file():
            Tokenizer.load(start / name).save(run_dir / name)


def take_weights(model: nn.Module, start: Path) -> None:
    """Give a model the best weights of a run.

    Raises:
        RunError: if there are none.
        ConfigError: if they do not fit.
    """
    try:
        model.load_state_dict(read_weights(start))
    except RuntimeError as error:
        raise ConfigError(
            f"training.start_from: the weights of {start} do not fit the model section; take that of its config.yaml."
        ) from error


def _read(start: Path, task: str | None) -> Any:
    config = read_run(start)
    if task is not None and config.task != task:
        raise ConfigError(f"training.start_from: {start} is a run of the task {config.task}, not of {task}.")
    return config
