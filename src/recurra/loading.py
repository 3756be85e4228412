"""From a run directory or a Hub id to an object that answers."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .errors import ConfigError, RunError
from .tasks import hub
from .tasks.own_cell import trusting
from .training.run_directory import read_run

__all__ = ["load"]


def load(
    name: str | Path | Sequence[str | Path],
    *,
    device: str = "auto",
    average: int = 0,
    trust_cell: bool = False,
    **options: Any,
) -> Any:
    """Load what `recurra train` wrote, ready to be asked.

    Args:
        name: a run directory, or USER/NAME of a repository on the Hugging Face Hub; of translation systems with the
            same tokenizers also a list of several, which then decide together.
        device: auto, cpu, cuda or mps.
        average: of a translation system, the mean of the weights of so many latest evaluations; 0: its best weights.
        trust_cell: run the cell that came with the run as a file (FILE.py:CLASS), which is a program, although the user
            has not trained with it or trusted it before.
        **options: for the Hub: `revision`, `token`, `cache_dir`, `local_files_only` (see `recurra.tasks.hub.fetch`).

    Returns:
        A `LanguageModelPredictor` or a `Translator`, by the run's task.

    Raises:
        RunError: if there is no such run, it is damaged, or its cell is a file that is not trusted.
        ConfigError: if its configuration was written by a newer version, or `average` is for another kind of run.
    """
    with trusting(trust_cell):
        return _load(name, device, average, options)


def _load(name: str | Path | Sequence[str | Path], device: str, average: int, options: dict[str, Any]) -> Any:
    several = [name] if isinstance(name, str | os.PathLike) else list(name)
    directories = [hub.fetch(each, **options) for each in several]
    if not directories:
        raise RunError("no run directory was named; name at least one.")
    directory = directories[0]
    # What the other systems need is not waited for.
    if read_run(directory).task == "translation":
        from .tasks.translator import Translator

        return Translator.from_runs(directories, device=device, average=average)
    if len(directories) > 1:
        raise ConfigError("several runs decide together only in translation; name one language model.")
    if average:
        raise ConfigError(f"average is for translation systems, and {directory} is a language model; leave it out.")
    from .tasks.language_model_predictor import LanguageModelPredictor

    return LanguageModelPredictor.from_pretrained(directory, device=device)
