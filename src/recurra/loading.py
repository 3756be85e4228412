"""From a run directory or a Hub id to an object that answers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .errors import ConfigError
from .tasks import hub
from .training.run_directory import read_run

__all__ = ["load"]


def load(name: str | Path, *, device: str = "auto", average: int = 0, **options: Any) -> Any:
    """Load what `recurra train` wrote, ready to be asked.

    Args:
        name: a run directory, or USER/NAME of a repository on the Hugging Face Hub.
        device: auto, cpu, cuda or mps.
        average: of a translation system, the mean of the weights of so many latest evaluations; 0: its best weights.
        **options: for the Hub: `revision`, `token`, `cache_dir`, `local_files_only` (see `recurra.tasks.hub.fetch`).

    Returns:
        A `LanguageModelPredictor` or a `Translator`, by the run's task.

    Raises:
        RunError: if there is no such run, or it is damaged.
        ConfigError: if its configuration was written by a newer version, or `average` is for another kind of run.
    """
    directory = hub.fetch(name, **options)
    # What the other systems need is not waited for.
    if read_run(directory).task == "translation":
        from .tasks.translator import Translator

        return Translator.from_runs([directory], device=device, average=average)
    if average:
        raise ConfigError(f"average is for translation systems, and {directory} is a language model; leave it out.")
    from .tasks.language_model_predictor import LanguageModelPredictor

    return LanguageModelPredictor.from_pretrained(directory, device=device)
