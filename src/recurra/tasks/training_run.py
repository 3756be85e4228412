"""One training from its configuration to the weights in its run directory, whatever the task."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import RunError
from ..files import unwritten
from ..training.checkpoint import has_checkpoint
from ..training.interrupts import ending_signals
from ..training.logging import perplexity
from ..training.loop import Trainer
from ..training.processes import Processes
from ..training.run_directory import begun_run, discard_run
from ..training.run_weights import write_best
from ..training.task import Task
from .own_cell import take_along
from .start_from import find_start, take_tokenizers, take_weights

__all__ = ["TrainingResult", "train_run"]


class TrainingResult(NamedTuple):
    """How a training ended.

    Attributes:
        best_loss, perplexity: of the best weights on the validation data, nats per token.
        steps, seconds: optimiser steps and training time, earlier parts of a resumed run included.
        stopped_because: max_steps, max_epochs, max_minutes, patience or interrupted.
        metrics: what else the task measured of the best weights.
    """

    best_loss: float
    perplexity: float
    steps: int
    seconds: float
    stopped_because: str
    run_dir: Path
    metrics: dict[str, float]


def train_run(
    config: Any,
    run_dir: Path,
    prepare: Callable[[Any, Path, Processes], Task],
    metadata: Callable[[Task], dict[str, str]],
    *,
    resume: bool,
) -> TrainingResult:
    """Train a task in a run directory.

    Args:
        config: complete; written to `run_dir/config.yaml`.
        run_dir: new or empty, or with `resume` a run of the same configuration.
        prepare: makes the task, its data and its model.
        metadata: what the header of model.safetensors says of a task, beside its name and cell.
        resume: go on from the last checkpoint, bit for bit.

    Raises:
        RunError, ConfigError, DataError: as the task says.
    """
    processes = Processes(config.training)
    cell_file, config = take_along(config, resumed=resume)
    start = None
    if config.training.start_from is not None and not (resume and has_checkpoint(run_dir / "checkpoints")):
        start = find_start(config)
    with ExitStack() as held:
        if processes.is_main:
            held.enter_context(begun_run(run_dir, config, resume=resume))
        try:
            with ending_signals():
                if processes.is_main and cell_file is not None and not (run_dir / cell_file.name).exists():
                    _copy(cell_file, run_dir / cell_file.name)
                if start is not None and processes.is_main:
                    take_tokenizers(start, run_dir)
                task = prepare(config, run_dir, processes)
                if start is not None:
                    take_weights(task.model, start)
        except BaseException:
            # A run that could not begin must not stand in the way of the corrected command.
            if processes.is_main and not resume:
                discard_run(run_dir)
            raise
        outcome = Trainer(task, run_dir, config.training, config.logging, processes).run(resume=resume)
        if processes.is_main:
            write_best(run_dir, {"task": config.task, "cell": config.model.cell, **metadata(task)})
        processes.wait()
    return TrainingResult(
        outcome.best_loss,
        perplexity(outcome.best_loss),
        outcome.steps,
        outcome.seconds,
        outcome.stopped_because,
        run_dir,
        outcome.best_metrics,
    )


def _copy(file: Path, target: Path) -> None:
    try:
        shutil.copyfile(file, target)
    except OSError as error:
        raise RunError(f"{target}: cannot be written {unwritten(error)}.") from error
