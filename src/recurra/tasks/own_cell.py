"""A cell of the user's own, FILE.py:CLASS, that travels with the run which it was trained in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .. import cells
from ..errors import ConfigError

__all__ = ["model_settings", "take_along"]


def take_along(config: Any) -> tuple[Path | None, Any]:
    """The file of the user's own cell, if any, and the configuration that names it as it lies in the run directory.

    Args:
        config: of a task whose `model` section has a `cell`.

    Raises:
        ConfigError: if there is no such cell.
    """
    path, _, class_name = config.model.cell.rpartition(":")
    if not path.endswith(".py"):
        return None, config
    file = Path(path)
    if file.name != path or file.is_file():
        try:
            cells.get(config.model.cell)
        except ValueError as error:
            raise ConfigError(f"model.cell: {error}") from error
    model = config.model.model_copy(update={"cell": f"{file.name}:{class_name}"})
    return (file if file.is_file() else None), config.model_copy(update={"model": model})


def model_settings(config: Any, run_dir: Path) -> Any:
    """The `model` section with the user's own cell found in the run directory."""
    path, _, class_name = config.model.cell.rpartition(":")
    if not path.endswith(".py"):
        return config.model
    return config.model.model_copy(update={"cell": f"{run_dir / path}:{class_name}"})
