"""The mean of the weights of several evaluations of one run, which is often better than the best of them."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from ..errors import RunError
from .checkpoint import load_checkpoint, pack, save_checkpoint, unpack
from .directory import Run

__all__ = ["average_weights", "forget_evaluated", "keep_evaluated"]

_PREFIX = "evaluated-"


def keep_evaluated(directory: Path, weights: Mapping[str, Tensor], step: int, count: int) -> None:
    """Keep the weights of an evaluation as checkpoints/evaluated-STEP, and only the `count` latest of these.

    Raises:
        RunError: if the disk is full or cannot be written.
    """
    save_checkpoint(directory, f"{_PREFIX}{step:09}", *pack({"model": dict(weights), "step": step}))
    for path in _evaluated(directory)[:-count]:
        shutil.rmtree(path, ignore_errors=True)


def average_weights(run: Run, count: int) -> dict[str, Tensor]:
    """The mean, by name, of the weights of the `count` latest evaluations of a run, summed in double precision.

    After Junczys-Dowmunt, Dwojak & Sennrich (2016), section 2.4, of checkpoints of one training.

    Raises:
        RunError: if not so many were kept, or one cannot be read.
    """
    directory = run.checkpoints
    kept = _evaluated(directory)
    if len(kept) < count:
        raise RunError(
            f"{run.path}: the weights of {len(kept)} evaluations were kept, not of {count}; train with "
            f"training.keep_evaluated={count}, or ask for fewer."
        )
    sums: dict[str, Tensor] = {}
    dtypes: dict[str, torch.dtype] = {}
    for path in kept[-count:]:
        checkpoint = load_checkpoint(directory, (path.name,), ("model",))
        assert checkpoint is not None
        for name, value in unpack(checkpoint.tensors, checkpoint.state)["model"].items():
            dtypes[name] = value.dtype
            sums[name] = sums[name] + value.double() if name in sums else value.double()
    return {name: (value / count).to(dtypes[name]) for name, value in sums.items()}


def forget_evaluated(directory: Path, after: int) -> None:
    """Remove the weights that were kept of evaluations after a step."""
    for path in _evaluated(directory):
        if int(path.name[len(_PREFIX) :]) > after:
            shutil.rmtree(path, ignore_errors=True)


def _evaluated(directory: Path) -> list[Path]:
    """Checkpoints of evaluations, the earliest first."""
    return sorted(path for path in directory.glob(f"{_PREFIX}*") if path.name[len(_PREFIX) :].isdigit())
