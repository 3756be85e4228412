"""From a run directory or a Hub id to an object that answers."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from . import registry
from .errors import RunError
from .run import hub
from .run.directory import read_run
from .run.own_cell import trusting

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
        average: take the mean of the weights of so many latest evaluations; 0: the best weights.
        trust_cell: run the cell that came with the run as a file (FILE.py:CLASS), which is a program, although the user
            has not trained with it or trusted it before.
        **options: for the Hub: `revision`, `token`, `cache_dir`, `local_files_only` (see `recurra.run.hub.fetch`).

    Returns:
        The predictor of the run's system, such as a `LanguageModelPredictor` or a `Translator`.

    Raises:
        RunError: if there is no such run, it is damaged, or its cell is a file that is not trusted.
        ConfigError: if its configuration was written by a newer version, or several runs cannot answer together.
    """
    several = [name] if isinstance(name, str | os.PathLike) else list(name)
    with trusting(trust_cell):
        directories = [hub.fetch(each, **options) for each in several]
        if not directories:
            raise RunError("no run directory was named; name at least one.")
        predictor = registry.resolve(read_run(directories[0]).system.predictor)
        return predictor.from_runs(directories, device=device, average=average)
