"""The weights of a run: read from its directory, from a checkpoint where they are missing, and written at its end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor

from ..errors import RunError
from ..files import regular, unwritten
from ..shown import tell
from ..strict_json import read_json
from .checkpoint import STATE, load_checkpoint, save_tensors, sync_folder, unpack
from .run_directory import WEIGHTS

__all__ = ["read_weights", "write_best"]


def read_weights(run_dir: Path) -> dict[str, Tensor]:
    """The best weights of a run, by name, on the CPU.

    A run that is still training, was cut off, or whose model.safetensors is damaged gives the best checkpoint, or else
    the last; it is said on stderr.

    Raises:
        RunError: if there are none that can be read.
    """
    path = run_dir / WEIGHTS
    problem = f"{WEIGHTS} is not there yet"
    if path.is_file():
        try:
            with safe_open(path, "pt") as file:
                written_at = (file.metadata() or {}).get("step")
            # A training that was resumed and cut off has found better ones since.
            if written_at is None or _best_step(run_dir) <= int(written_at):
                return _numbers(path, load_file(path))
            problem = f"{WEIGHTS} is older than the best checkpoint"
        except (OSError, SafetensorError) as error:
            problem = f"{WEIGHTS} is damaged ({error})"
    checkpoint = load_checkpoint(run_dir / "checkpoints", ("best", "last", "previous"), ("model",))
    if checkpoint is None:
        raise RunError(f"{run_dir}: {problem} and there is no checkpoint; train it, or resume its training.")
    tell(f"{run_dir}: {problem}; using checkpoints/{checkpoint.path.name} instead.")
    return _numbers(checkpoint.path, dict(unpack(checkpoint.tensors, checkpoint.state)["model"]))


def _numbers(path: Path, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """The weights, if they are numbers to compute with.

    Raises:
        RunError: if one is of whole numbers, or holds infinities or what is no number.
    """
    for name, weight in weights.items():
        if not weight.is_floating_point():
            raise RunError(f"{path}: {name} holds {weight.dtype}, which weights are not; restore the file.")
        if not bool(weight.isfinite().all()):
            raise RunError(f"{path}: {name} holds numbers that are not finite; restore the file, or train again.")
    return weights


def write_best(run_dir: Path, metadata: dict[str, str]) -> None:
    """Write model.safetensors from the best checkpoint, aside and renamed.

    Args:
        run_dir: a run; one without a best checkpoint is left as it is.
        metadata: for the file's header, beside the step and loss of the weights.

    Raises:
        RunError: if it cannot be written.
    """
    try:
        best = load_checkpoint(run_dir / "checkpoints", ("best",), ("model", "step", "loss"))
    except RunError:
        if not (run_dir / WEIGHTS).is_file():
            raise
        # What was written of it before is no worse, and the training that has just ended is not lost.
        tell(f"{run_dir}: checkpoints/best is damaged; {WEIGHTS} stays as it is.")
        return
    if best is None:
        return
    state: dict[str, Any] = unpack(best.tensors, best.state)
    header = {"format": "pt", **metadata, "step": str(state["step"]), "loss": repr(state["loss"])}
    aside = run_dir / f".{WEIGHTS}"
    try:
        save_tensors(aside, state["model"], header)
        aside.replace(run_dir / WEIGHTS)
        sync_folder(run_dir)
    except (OSError, SafetensorError) as error:
        aside.unlink(missing_ok=True)
        raise RunError(
            f"{run_dir / WEIGHTS}: could not be written {unwritten(error)} and run again with --resume; the weights "
            "are in checkpoints/best."
        ) from error


def _best_step(run_dir: Path) -> int:
    """The step of the best checkpoint; 0 if there is none, or none that can be read."""
    # Whether the checkpoint is whole is seen when it is read; to hash its weights here would slow every start.
    try:
        return int(read_json(regular(run_dir / "checkpoints" / "best" / STATE).read_text(encoding="utf-8"))["step"])
    except (OSError, ValueError, KeyError, TypeError):
        return 0
