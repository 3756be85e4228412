"""The training loop of every task: steps, evaluations, checkpoints, and going on exactly where a run was cut off."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import torch

from ..config import LoggingConfig, TrainingConfig
from ..errors import RunError
from .averaging import keep_evaluated
from .checkpoint import Checkpoint, load_checkpoint, pack, save_checkpoint, set_aside, unpack
from .interrupts import Interrupts
from .logging import RunLog, bits_per_character, perplexity
from .optimizers import NTASGD, build_optimizer, non_monotonic
from .processes import Processes
from .randomness import random_state, restore_random_state, seed_everything
from .schedules import Schedule, total_steps
from .state_shape import check_like, load_optimizer
from .task import Task

__all__ = ["Outcome", "Trainer"]

# Processes agree on time and signals only so often: each time costs a round of messages.
AGREE_EVERY = 10
# An epoch of a long text takes hours; a kill should not cost more than this.
SAVE_SECONDS = 600.0


class Outcome(NamedTuple):
    """How a training ended.

    Attributes:
        best_loss: the validation loss of the best weights, nats per token.
        best_step: the step that had them; they are in checkpoints/best.
        best_metrics: what else the task measured of them.
        steps, seconds: optimiser steps and training time, earlier parts of a resumed run included.
        stopped_because: max_steps, max_epochs, max_minutes, patience or interrupted.
    """

    best_loss: float
    best_step: int
    best_metrics: dict[str, float]
    steps: int
    seconds: float
    stopped_because: str


class Trainer:
    """Trains a task in a run directory.

    Args:
        task: see `Task`; its model is on the device already.
        run_dir: exists; gets metrics.jsonl, checkpoints/ and the pictures.
    """

    def __init__(
        self, task: Task, run_dir: Path, training: TrainingConfig, logging: LoggingConfig, processes: Processes
    ) -> None:
        self.task = task
        self.run_dir = run_dir
        self.checkpoints = run_dir / "checkpoints"
        self.config = training
        self.logging = logging
        self.processes = processes
        self.model = processes.wrap(task.model)
        self.optimizer = build_optimizer(task.model, training)
        self.scaler = processes.scaler()
        self.total = total_steps(training, task.steps_in_epoch)
        self.schedule = Schedule(training, self.total)
        self.step = 0
        self.epoch = 0
        self.history: list[dict[str, Any]] = []
        self.best_loss, self.best_step, self.best_criterion = math.inf, 0, math.inf
        self._parameters = [parameter for parameter in task.model.parameters() if parameter.requires_grad]
        self._on_cpu = processes.device.type == "cpu"
        self._reset_sums()
        self._seconds = 0.0
        self._started: float | None = None
        self._agreed_seconds = 0.0
        self._interrupts = Interrupts(self._on_interrupt)
        self._interrupted = False
        self._evaluated_at = self._saved_at = -1
        self._saved_clock = 0.0
        self._log: RunLog | None = None

    def run(self, *, resume: bool = False) -> Outcome:
        """Train until a bound, patience or a signal stops it.

        SIGINT and SIGTERM let the step finish, save `checkpoints/last` and return; a second SIGINT stops at once.

        Args:
            resume: go on from checkpoints/last, bit for bit; from the start when there is no checkpoint yet.

        Raises:
            RunError: if the loss is no longer finite, a checkpoint is damaged, or the disk cannot be written.
        """
        seed_everything(self.config.seed + self.processes.rank)
        metrics_size = self._resume() if resume else 0
        if self.processes.is_main:
            self._log = RunLog(self.run_dir, self.logging, start=metrics_size, step=self.step, total=self.total)
        self._started = self._interval = time.monotonic()
        self.model.train()
        try:
            with self._interrupts:
                reason = self._train()
        finally:
            if self._log is not None:
                self._log.close()
        metrics = {entry["step"]: entry["metrics"] for entry in self.history}.get(self.best_step, {})
        return Outcome(self.best_loss, self.best_step, metrics, self.step, self.seconds, reason)

    @property
    def seconds(self) -> float:
        """Training time so far, earlier parts of a resumed run included."""
        return self._seconds + (0.0 if self._started is None else time.monotonic() - self._started)

    def _train(self) -> str:
        reason = self._stop_reason()
        while reason is None:
            for batches in self._groups():
                self._take_step(batches)
                reason = self._after_step()
                if reason is not None:
                    break
        return reason

    def _groups(self) -> Iterator[list[Any]]:
        """The batches of one step after another to the end of the epoch; the last step may have fewer."""
        batches = self.task.batches()
        while group := list(islice(batches, self.config.accumulate)):
            yield group

    def _take_step(self, batches: list[Any]) -> None:
        tokens = sum(batch.tokens for batch in batches)
        for index, batch in enumerate(batches):
            more = index + 1 < len(batches)
            with self.processes.without_sync(self.model) if more else nullcontext():
                with self.processes.autocast():
                    objective, nats = self.task.loss(self.model, batch)
                if len(batches) > 1:
                    # The mean over all tokens of the step, as one larger batch would have it.
                    objective = objective * (batch.tokens / tokens)
                (objective if self.scaler is None else self.scaler.scale(objective)).backward()
            self._nats += nats.detach() * batch.tokens
            self._tokens += batch.tokens
        if self.scaler is not None:
            self.scaler.unscale_(self.optimizer)
        gradients = [parameter.grad for parameter in self._parameters if parameter.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients)
        if self.config.clip_norm is not None:
            torch.nn.utils.clip_grads_with_norm_(self._parameters, self.config.clip_norm, norm)
        self._norms += norm
        self._steps += 1
        if self._on_cpu:
            # Costs nothing here and stops before the weights are spoilt; on a GPU each look would wait for the device.
            self._guard()
        rate = self.schedule.rate(self.step + 1, self._time_share(), self.epoch)
        rate *= sum(batch.rate_scale for batch in batches) / len(batches)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        if self.scaler is None:
            self.optimizer.step()
        else:
            self.scaler.step(self.optimizer)
            self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        self.step += 1

    def _after_step(self) -> str | None:
        """Log, evaluate and save what is due; why to stop, or None."""
        config = self.config
        epoch = self.epoch + 1
        if self._log is not None:
            self._log.step(self.step)
        if self.step % self.logging.every_steps == 0:
            self._report(epoch)
        ended = self.task.epoch_done
        if ended if config.evaluate_every is None else self.step % config.evaluate_every == 0:
            self._evaluate(epoch)
        self.epoch += ended
        self._agree()
        reason = self._stop_reason()
        if reason not in (None, "interrupted") and self._evaluated_at != self.step:
            self._report(epoch)
            self._evaluate(epoch)
        if config.save_every is None:
            due = self._evaluated_at == self.step or self._clock - self._saved_clock >= SAVE_SECONDS
        else:
            due = self.step % config.save_every == 0
        if due or reason is not None:
            self._save()
        return reason

    def _stop_reason(self) -> str | None:
        config = self.config
        if config.max_steps is not None and self.step >= config.max_steps:
            return "max_steps"
        if config.max_epochs is not None and self.epoch >= config.max_epochs:
            return "max_epochs"
        if self._time_share() >= 1.0:
            return "max_minutes"
        if config.patience is not None:
            since_best = [entry for entry in self.history if entry["step"] > self.best_step]
            if len(since_best) >= config.patience:
                return "patience"
        return "interrupted" if self._interrupted else None

    def _time_share(self) -> float:
        if self.config.max_minutes is None:
            return 0.0
        return self._clock / (60.0 * self.config.max_minutes)

    @property
    def _clock(self) -> float:
        """Training time as all processes see it."""
        return self.seconds if self.processes.world_size == 1 else self._agreed_seconds

    def _agree(self) -> None:
        """Let all processes see the same time and the same signals, lest one stops and the others wait for it."""
        if self.processes.world_size == 1:
            self._interrupted = self._interrupts.requested
        elif self.step % AGREE_EVERY == 0:
            mine = torch.tensor([self.seconds, float(self._interrupts.requested)], device=self.processes.device)
            seconds, signals = self.processes.sum(mine).tolist()
            self._agreed_seconds = seconds / self.processes.world_size
            self._interrupted = signals > 0

    def _on_interrupt(self) -> None:
        if self._log is not None:
            self._log.say("Stopping after this step; press Ctrl-C again to stop at once without saving.")

    def _reset_sums(self) -> None:
        device = self.processes.device
        kind = torch.float32 if device.type == "mps" else torch.float64
        self._nats = torch.zeros((), dtype=kind, device=device)
        self._norms = torch.zeros((), dtype=kind, device=device)
        self._tokens = self._steps = 0
        self._interval = time.monotonic()

    def _guard(self) -> None:
        # fp16 meets infinite gradients by design: the scaler skips such steps and lowers its scale.
        norms = self._norms if self.scaler is None else 0.0
        if not math.isfinite(float(self._nats + norms)) or (self.scaler is not None and self.scaler.get_scale() < 1e-4):
            raise self._not_finite("loss or gradient")

    def _not_finite(self, what: str) -> RunError:
        saved = self._saved_at
        kept = f"the checkpoint of step {saved} is kept" if saved >= 0 else "there is no checkpoint yet"
        return RunError(
            f"{self.run_dir}: the {what} was no longer a finite number at step {self.step + 1} ({kept}); try a lower "
            "training.learning_rate, a smaller training.clip_norm, or training.precision=fp32."
        )

    def _report(self, epoch: int) -> None:
        """Log the means since the last report."""
        if self._steps == 0:
            return
        self._guard()
        sums = torch.stack([self._nats, self._nats.new_tensor(float(self._tokens))])
        nats, tokens = self.processes.sum(sums).tolist()
        loss = nats / tokens
        now = time.monotonic()
        record = self._record(epoch, "train", loss, 1.0, self.task.characters_per_token)
        record |= {
            "learning_rate": self.optimizer.param_groups[0]["lr"],
            "gradient_norm": float(self._norms) / self._steps,
            "tokens_per_second": tokens / max(now - self._interval, 1e-9),
            "seconds": self.seconds,
        }
        if self._log is not None:
            self._log.write(record, self._seconds_left((now - self._interval) / self._steps))
        self._reset_sums()

    def _evaluate(self, epoch: int) -> None:
        self._guard()
        began = time.monotonic()
        self.model.eval()
        with self._averaged(), torch.no_grad():
            with self.processes.autocast():
                evaluation = self.task.evaluate()
            sums = torch.tensor(evaluation[:3], dtype=self._nats.dtype, device=self.processes.device)
            nats, tokens, characters = self.processes.sum(sums).tolist()
            loss = nats / tokens
            if not math.isfinite(loss):
                raise self._not_finite("validation loss")
            criterion = loss if evaluation.criterion is None else evaluation.criterion
            metrics = dict(evaluation.metrics)
            self.history.append({"step": self.step, "loss": loss, "criterion": criterion, "metrics": metrics})
            if criterion < self.best_criterion:
                self.best_loss, self.best_step, self.best_criterion = loss, self.step, criterion
                if self.processes.is_main:
                    state = {"model": self.task.model.state_dict(), "step": self.step, "loss": loss}
                    save_checkpoint(self.checkpoints, "best", *pack(state))
            if self.config.keep_evaluated and self.processes.is_main:
                keep_evaluated(self.checkpoints, self.task.model.state_dict(), self.step, self.config.keep_evaluated)
        self.model.train()
        if self._log is not None:
            record = self._record(epoch, "valid", loss, tokens, characters)
            record |= {"learning_rate": self.optimizer.param_groups[0]["lr"], "seconds": self.seconds, **metrics}
            record |= {} if evaluation.criterion is None else {"criterion": criterion}
            self._log.write(record)
            self._log.show_samples(self.step, evaluation.samples)
        self.schedule.evaluated(criterion)
        if isinstance(self.optimizer, NTASGD) and not self.optimizer.averaging:
            losses = [entry["criterion"] for entry in self.history]
            if non_monotonic(losses, self.config.nt_asgd_patience):
                self.optimizer.start_averaging()
        self._evaluated_at = self.step
        # The speed that is shown is that of training alone.
        self._interval += time.monotonic() - began

    def _record(self, epoch: int, kind: str, loss: float, tokens: float, characters: float) -> dict[str, Any]:
        return {
            "step": self.step,
            "epoch": epoch,
            "kind": kind,
            "loss": loss,
            "perplexity": perplexity(loss),
            "bits_per_character": bits_per_character(loss, tokens, characters),
        }

    def _seconds_left(self, seconds_per_step: float) -> float | None:
        bounds = []
        if self.total is not None:
            bounds.append((self.total - self.step) * seconds_per_step)
        if self.config.max_minutes is not None:
            bounds.append(60.0 * self.config.max_minutes - self.seconds)
        return max(min(bounds), 0.0) if bounds else None

    def _averaged(self) -> AbstractContextManager[None]:
        return self.optimizer.averaged() if isinstance(self.optimizer, NTASGD) else nullcontext()

    def _save(self) -> None:
        """Write checkpoints/last; what it replaces stays as checkpoints/previous."""
        if self._saved_at == self.step:
            return
        self._guard()
        began = time.monotonic()
        sums = [self._nats, self._norms, self._tokens, self._steps]
        own = {"task": self.task.state_dict(), "sums": sums, "random": random_state()}
        everyones = self.processes.gather(_on_cpu(own))
        if self._log is not None:
            state = {
                "step": self.step,
                "epoch": self.epoch,
                "seconds": self.seconds,
                "history": self.history,
                "best": [self.best_loss, self.best_step, self.best_criterion],
                "metrics_size": self._log.position,
                "model": self.task.model.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "schedule": self.schedule.state_dict(),
                "scaler": None if self.scaler is None else self.scaler.state_dict(),
                "processes": everyones,
            }
            save_checkpoint(self.checkpoints, "last", *pack(state), keep="previous")
        self._saved_at, self._saved_clock = self.step, self._clock
        self._interval += time.monotonic() - began

    def _resume(self) -> int:
        """Take up the state of the last whole checkpoint; the size of metrics.jsonl at that time."""
        checkpoint = load_checkpoint(self.checkpoints, needed=_RESUMED_STATE)
        if checkpoint is None:
            return 0
        state = unpack(checkpoint.tensors, checkpoint.state)
        try:
            return self._take_up(checkpoint, state)
        except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
            why = str(error) if isinstance(error, ValueError) else type(error).__name__
            raise RunError(
                f"{checkpoint.path}: does not fit this run ({why}); remove it to resume from the one before, or train "
                "again in a new run directory."
            ) from error

    def _take_up(self, checkpoint: Checkpoint, state: dict[str, Any]) -> int:
        own = state["processes"]
        if len(own) != self.processes.world_size:
            raise RunError(
                f"{checkpoint.path}: was written by {len(own)} processes, but {self.processes.world_size} resume it; "
                f"start as many as before."
            )
        self.processes.wait()
        if checkpoint.path.name != "last" and self.processes.is_main:
            set_aside(self.checkpoints / "last")
        self.task.model.load_state_dict(state["model"])
        load_optimizer(self.optimizer, state["optimizer"])
        check_like(state["schedule"], self.schedule.state_dict(), "schedule")
        self.schedule.load_state_dict(state["schedule"])
        if self.scaler is not None:
            self.scaler.load_state_dict(state["scaler"])
        numbers = {"step": 0, "epoch": 0, "seconds": 0.0, "metrics_size": 0}
        check_like({key: state[key] for key in numbers}, numbers, "state")
        self.step, self.epoch = state["step"], state["epoch"]
        # Checkpoints of before there were other measures hold losses alone.
        self.history = [{"criterion": entry["loss"], "metrics": {}} | entry for entry in state["history"]]
        check_like(
            self.history, [{"step": 0, "loss": 0.0, "criterion": 0.0, "metrics": None}] * len(self.history), "history"
        )
        best = [*state["best"], state["best"][0]][:3]
        check_like(best, [0.0, 0, 0.0], "best")
        self.best_loss, self.best_step, self.best_criterion = best
        self._seconds = self._agreed_seconds = state["seconds"]
        self._saved_at, self._saved_clock = self.step, self._clock
        self._evaluated_at = self.history[-1]["step"] if self.history else -1
        mine = own[self.processes.rank]
        nats, norms, self._tokens, self._steps = mine["sums"]
        check_like([self._tokens, self._steps], [0, 0], "sums")
        self._nats.copy_(nats)
        self._norms.copy_(norms)
        check_like(mine["task"], self.task.state_dict(), "task")
        self.task.load_state_dict(mine["task"])
        restore_random_state(mine["random"])
        return int(state["metrics_size"])


# What a checkpoint to go on from has; `scaler` came later.
_RESUMED_STATE = frozenset(
    ("step", "epoch", "seconds", "history", "best", "metrics_size", "model", "optimizer", "schedule", "processes")
)


def _on_cpu(tree: Any) -> Any:
    """The same state with its tensors on the CPU, as other processes can take them."""
    tensors, state = pack(tree)
    return unpack({name: tensor.detach().cpu() for name, tensor in tensors.items()}, state)
