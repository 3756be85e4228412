"""The weights of a run: read from its directory, from a checkpoint where they are missing, and written at its end."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from ..errors import RunError
from ..files import unwritten
from ..shown import tell
from .averaging import average_weights
from .checkpoint import load_checkpoint, read_state, save_tensors, sync_folder, unpack
from .directory import CONFIG, WEIGHTS, Run

__all__ = ["load_weights", "read_weights", "write_best"]

Network = TypeVar("Network", bound=nn.Module)


def read_weights(run: Run) -> dict[str, Tensor]:
    """The best weights of a run, by name, on the CPU.

    A run that is still training, was cut off, or whose model.safetensors is damaged gives the best checkpoint, or else
    the last; it is said on stderr.

    Raises:
        RunError: if there are none that can be read.
    """
    path = run.path / WEIGHTS
    problem = f"{WEIGHTS} is not there yet"
    if path.is_file():
        try:
            with safe_open(path, "pt") as file:
                written_at = (file.metadata() or {}).get("step")
            # A training that was resumed and cut off has found better ones since.
            if written_at is None or _best_step(run) <= int(written_at):
                return _numbers(path, load_file(path))
            problem = f"{WEIGHTS} is older than the best checkpoint"
        except (OSError, SafetensorError) as error:
            problem = f"{WEIGHTS} is damaged ({error})"
    checkpoint = load_checkpoint(run.checkpoints, ("best", "last", "previous"), ("model",))
    if checkpoint is None:
        raise RunError(f"{run.path}: {problem} and there is no checkpoint; train it, or resume its training.")
    tell(f"{run.path}: {problem}; using checkpoints/{checkpoint.path.name} instead.")
    return _numbers(checkpoint.path, dict(unpack(checkpoint.tensors, checkpoint.state)["model"]))


def load_weights(build: Callable[[], Network], run: Run, average: int = 0) -> Network:
    """A model with the weights of a run, in evaluation mode.

    Args:
        build: makes the model, on the CPU; its own first weights are not drawn.
        run: whose weights are read.
        average: the mean of the weights of so many latest evaluations; 0: the best weights.

    Raises:
        RunError: if there are none that can be read, or they are not of this model.
    """
    with _Undrawn():
        model = build()
    try:
        model.load_state_dict(average_weights(run, average) if average else read_weights(run))
    except RuntimeError as error:
        files = ", ".join(run.files)
        raise RunError(f"{run.path}: the weights do not fit {CONFIG} and {files}; one was changed.") from error
    return model.eval()


class _Undrawn(TorchFunctionMode):
    """Leaves tensors as they are where random numbers would be written into them."""

    def __torch_function__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        named = kwargs or {}
        if function in _DRAWS:
            return args[0] if args else named["tensor"]
        return function(*args, **named)


# Of torch.nn.init those that are asked as wholes; the others come down to the first two.
_DRAWS = (Tensor.uniform_, Tensor.normal_, nn.init.uniform_, nn.init.normal_, nn.init.kaiming_uniform_)


def _numbers(path: Path, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """The weights, if they are numbers to compute with.

    Raises:
        RunError: if one is of whole numbers, or holds infinities or what is no number.
    """
    for name, weight in weights.items():
        if not weight.is_floating_point():
            raise RunError(f"{path}: {name} holds {weight.dtype}, which weights are not; restore the file.")
        # Both are infinite or no number where any number is.
        if weight.numel() and not all(bool(bound.isfinite()) for bound in weight.aminmax()):
            raise RunError(f"{path}: {name} holds numbers that are not finite; restore the file, or train again.")
    return weights


def write_best(run: Run, metadata: dict[str, str]) -> None:
    """Write model.safetensors from the best checkpoint, aside and renamed.

    Args:
        run: one without a best checkpoint is left as it is.
        metadata: for the file's header, beside the step and loss of the weights.

    Raises:
        RunError: if it cannot be written.
    """
    try:
        best = load_checkpoint(run.checkpoints, ("best",), ("model", "step", "loss"))
    except RunError:
        if not (run.path / WEIGHTS).is_file():
            raise
        # What was written of it before is no worse, and the training that has just ended is not lost.
        tell(f"{run.path}: checkpoints/best is damaged; {WEIGHTS} stays as it is.")
        return
    if best is None:
        return
    state: dict[str, Any] = unpack(best.tensors, best.state)
    header = {"format": "pt", **metadata, "step": str(state["step"]), "loss": repr(state["loss"])}
    aside = run.path / f".{WEIGHTS}"
    try:
        save_tensors(aside, state["model"], header)
        aside.replace(run.path / WEIGHTS)
        sync_folder(run.path)
    except (OSError, SafetensorError) as error:
        aside.unlink(missing_ok=True)
        raise RunError(
            f"{run.path / WEIGHTS}: could not be written {unwritten(error)} and run again with --resume; the weights "
            "are in checkpoints/best."
        ) from error


def _best_step(run: Run) -> int:
    """The step of the best checkpoint; 0 if there is none, or none that can be read."""
    # Whether the checkpoint is whole is seen when it is read; to hash its weights here would slow every start.
    step = (read_state(run.checkpoints / "best") or {}).get("step")
    return step if type(step) is int else 0
