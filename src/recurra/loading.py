"""From a run directory or a Hub id to an object that answers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .tasks.language_model_predictor import LanguageModelPredictor

__all__ = ["load"]


def load(name: str | Path, *, device: str = "auto", **options: Any) -> LanguageModelPredictor:
    """Load what `recurra train` wrote, ready to be asked.

    Args:
        name: a run directory, or USER/NAME of a repository on the Hugging Face Hub.
        device: auto, cpu, cuda or mps.
        **options: for the Hub: `revision`, `token`, `cache_dir`, `local_files_only` (see `recurra.tasks.hub.fetch`).

    Raises:
        RunError: if there is no such run, or it is damaged.
        ConfigError: if its configuration was written by a newer version.
    """
    return LanguageModelPredictor.from_pretrained(name, device=device, **options)
