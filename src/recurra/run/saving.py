"""Writing a model apart from its run: what `recurra.load` reads, and nothing of how it was trained but its settings."""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from pathlib import Path, PurePath
from typing import Any, Protocol

from safetensors import SafetensorError
from torch import nn

from ..config.load import save_config
from ..config.sections import RunConfig
from ..errors import RunError
from ..files import unwritten
from .checkpoint import save_tensors
from .directory import CONFIG, WEIGHTS

__all__ = ["Savable", "names_repository", "save_model", "without_places"]

_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


class Savable(Protocol):
    """What a model has beside its weights, such as a tokenizer."""

    def save(self, path: Path) -> None:
        """Write it as one file."""
        ...


def names_repository(name: str | Path) -> bool:
    """Whether a name means USER/NAME on the Hub: not what is here, nor what a folder that is here could hold."""
    path = Path(name)
    return _REPOSITORY.fullmatch(str(name)) is not None and not path.exists() and not path.parent.is_dir()


def save_model(
    directory: str | Path, config: Any, files: Mapping[str, Savable], model: nn.Module, run: Path | None = None
) -> Path:
    """Write `config.yaml`, files such as tokenizers, `model.safetensors`, and the file of a cell of one's own.

    Args:
        directory: made if it is missing.
        config: of the run; its section `model` names the cell.
        files: by their names in the directory.
        run: where the cell's file lies, if there is one.

    Raises:
        RunError: if something cannot be written.
    """
    target = Path(directory)
    try:
        target.mkdir(parents=True, exist_ok=True)
        save_config(config, target / CONFIG)
        cell_file = config.model.cell.rpartition(":")[0]
        if cell_file.endswith(".py") and run is not None:
            shutil.copyfile(run / cell_file, target / cell_file)
        for name, file in files.items():
            file.save(target / name)
        save_tensors(target / WEIGHTS, model.state_dict(), {"format": "pt"})
    except (OSError, SafetensorError) as error:
        raise RunError(f"{target}: cannot be written {unwritten(error)}.") from error
    return target


def without_places(config: Any) -> Any:
    """The configuration with its files and the run it started from by name alone: where they lay stays private."""

    def bare(value: object) -> object:
        if isinstance(value, list):
            return [bare(one) for one in value]
        return PurePath(value).name if isinstance(value, str) else value

    changed: dict[str, RunConfig] = {}
    data = getattr(config, "data", None)
    if data is not None:
        changed["data"] = data.model_copy(update={key: bare(value) for key, value in data})
    start = config.training.start_from
    if start is not None and not names_repository(start):
        start = PurePath(start).name
    changed["training"] = config.training.model_copy(update={"start_from": start})
    return config.model_copy(update=changed)
