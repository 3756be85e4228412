"""Small trained models that come with the package and are asked by their names, without a network."""

from __future__ import annotations

from pathlib import Path

__all__ = ["shipped_model", "shipped_models"]

_FOLDER = Path(__file__).parent.parent / "pretrained"


def shipped_models() -> list[str]:
    """The names of the models that come with the package."""
    return sorted(path.name for path in _FOLDER.iterdir() if path.is_dir()) if _FOLDER.is_dir() else []


def shipped_model(name: str | Path) -> Path | None:
    """The directory of a model that comes with the package.

    Args:
        name: of the model. A file or folder here that is called so is meant instead.

    Returns:
        None if there is no such model, or the name means something here.
    """
    return _FOLDER / name if str(name) in shipped_models() and not Path(name).exists() else None
