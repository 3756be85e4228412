"""Writing a model apart from its run: what `recurra.load` reads, and nothing of how it was trained but its settings."""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from pathlib import Path, PurePath

from safetensors import SafetensorError
from torch import nn

from ..config import Config, save_config
from ..config_translation import TranslationConfig
from ..data.tokenizer import Tokenizer
from ..errors import RunError
from ..files import unwritten
from ..training.checkpoint import save_tensors

__all__ = ["JOINT_TOKENIZER", "TWO_TOKENIZERS", "names_repository", "save_model", "without_places"]

JOINT_TOKENIZER = "tokenizer.json"
TWO_TOKENIZERS = ("tokenizer.source.json", "tokenizer.target.json")

_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")

_TEXTS = ("train", "valid", "source", "target", "pairs", "valid_source", "valid_target", "valid_pairs")


def names_repository(name: str | Path) -> bool:
    """Whether a name means USER/NAME on the Hub: not what is here, nor what a folder that is here could hold."""
    path = Path(name)
    return _REPOSITORY.fullmatch(str(name)) is not None and not path.exists() and not path.parent.is_dir()


def save_model(
    directory: str | Path,
    config: Config | TranslationConfig,
    tokenizers: Mapping[str, Tokenizer],
    model: nn.Module,
    run: Path | None = None,
) -> Path:
    """Write `config.yaml`, the tokenizers under their names, `model.safetensors`, and the file of a cell of one's own.

    Args:
        directory: made if it is missing.
        run: where the cell's file lies, if there is one.

    Raises:
        RunError: if it cannot be written.
    """
    target = Path(directory)
    try:
        target.mkdir(parents=True, exist_ok=True)
        save_config(config, target / "config.yaml")
        cell_file = config.model.cell.rpartition(":")[0]
        if cell_file.endswith(".py") and run is not None:
            shutil.copyfile(run / cell_file, target / cell_file)
        for name, tokenizer in tokenizers.items():
            tokenizer.save(target / name)
        save_tensors(target / "model.safetensors", model.state_dict(), {"format": "pt"})
    except (OSError, SafetensorError) as error:
        raise RunError(f"{target}: cannot be written {unwritten(error)}.") from error
    return target


def without_places(config: Config | TranslationConfig) -> Config | TranslationConfig:
    """The configuration with its texts and the run it started from by name alone: where they lay stays private."""

    def bare(value: object) -> object:
        if isinstance(value, list):
            return [bare(one) for one in value]
        return PurePath(value).name if isinstance(value, str) else value

    named = {key: bare(getattr(config.data, key)) for key in _TEXTS if hasattr(config.data, key)}
    start = config.training.start_from
    if start is not None and not names_repository(start):
        start = PurePath(start).name
    training = config.training.model_copy(update={"start_from": start})
    return config.model_copy(update={"data": config.data.model_copy(update=named), "training": training})
