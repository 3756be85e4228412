"""One training from its configuration to the weights in its run directory, whatever the system."""

from __future__ import annotations

import shutil
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

from .. import registry
from ..errors import RunError
from ..files import unwritten
from ..run.checkpoint import has_checkpoint
from ..run.directory import Run, begun_run, discard_run
from ..run.own_cell import take_along
from ..run.start_from import find_start, take_files, take_parts
from ..run.weights import write_best
from ..shown import tell
from .interrupts import ending_signals
from .loop import Trainer
from .processes import Processes

__all__ = ["TrainingResult", "train"]


class TrainingResult(NamedTuple):
    """How a training ended.

    Attributes:
        best_loss: of the best weights on the validation data.
        steps, seconds: optimiser steps and training time, earlier parts of a resumed run included.
        stopped_because: max_steps, max_epochs, max_minutes, patience or interrupted.
        measures: what else was measured of the best weights.
    """

    best_loss: float
    steps: int
    seconds: float
    stopped_because: str
    run_dir: Path
    measures: dict[str, float]


def train(config: Any, run_dir: Path, *, resume: bool = False) -> TrainingResult:
    """Train a system in a run directory.

    Args:
        config: complete, in the schema of its system; written to `run_dir/config.yaml`.
        run_dir: new or empty, or with `resume` a run of the same configuration (bounds, logging, decoding, device, and
            how often it is evaluated and saved, may differ).
        resume: go on from the last checkpoint, bit for bit.

    Raises:
        RunError: if the folder is in use, a checkpoint is damaged, the disk is full, or the loss is no longer finite.
        ConfigError: if the configuration cannot be used, or is not that of the run to be resumed.
        DataError: if the data are missing or cannot be used.
    """
    system = registry.find(config.task)
    prepare = registry.resolve(system.prepare)
    processes = Processes(config.training)
    cell_file, config = take_along(config, resumed=resume)
    start = None
    if config.training.start_from is not None and not (resume and has_checkpoint(run_dir / "checkpoints")):
        start = find_start(config)
    with ExitStack() as held:
        run = Run(run_dir, config, system)
        if processes.is_main:
            run = held.enter_context(begun_run(run_dir, config, resume=resume))
        try:
            with ending_signals():
                if processes.is_main and cell_file is not None and not (run_dir / cell_file.name).exists():
                    _copy(cell_file, run_dir / cell_file.name)
                if start is not None and processes.is_main:
                    take_files(start, run)
                task = prepare(run, processes)
                if start is not None:
                    taken = take_parts(task.model, run, start)
                    if processes.is_main and (taken.left or config.logging.progress):
                        tell(f"recurra: from {start.path} {taken}.")
        except BaseException:
            # A run that could not begin must not stand in the way of the corrected command.
            if processes.is_main and not resume:
                discard_run(run_dir)
            raise
        outcome = Trainer(task, run, processes).run(resume=resume)
        if processes.is_main:
            write_best(run, {"task": config.task, "cell": config.model.cell, **task.header})
        processes.wait()
    return TrainingResult(
        outcome.best_loss,
        outcome.steps,
        outcome.seconds,
        outcome.stopped_because,
        run_dir,
        outcome.best_measures,
    )


def _copy(file: Path, target: Path) -> None:
    try:
        shutil.copyfile(file, target)
    except OSError as error:
        raise RunError(f"{target}: cannot be written {unwritten(error)}.") from error
