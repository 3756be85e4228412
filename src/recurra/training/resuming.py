"""What a training that goes on from a checkpoint has to look for, and to take away."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from ..run.averaging import forget_evaluated
from ..run.checkpoint import pack, read_state, unpack

__all__ = ["RESUMED_STATE", "forget_what_came_after", "on_cpu"]

RESUMED_STATE = frozenset(
    ("step", "epoch", "seconds", "history", "best", "metrics_size", "model", "optimizer", "schedule", "processes")
)
"""What a checkpoint to go on from has; `scaler` came later."""


def forget_what_came_after(checkpoints: Path, step: int, best_step: int) -> None:
    """Take away what an evaluation after a checkpoint has left, which an extended training would not have.

    Args:
        checkpoints: the folder of all of them.
        step: of the checkpoint that the training goes on from.
        best_step: the step that had the best weights up to there.
    """
    forget_evaluated(checkpoints, after=step)
    before = read_state(checkpoints / "best-before")
    if before is None:
        return
    best = read_state(checkpoints / "best")
    if best is not None and best.get("step") != best_step and before.get("step") == best_step:
        shutil.rmtree(checkpoints / "best")
        (checkpoints / "best-before").rename(checkpoints / "best")


def on_cpu(tree: Any) -> Any:
    """The same state with its tensors on the CPU, as other processes can take them."""
    tensors, state = pack(tree)
    return unpack({name: tensor.detach().cpu() for name, tensor in tensors.items()}, state)
