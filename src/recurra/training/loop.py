"""The training loop of every system: steps, evaluations, checkpoints, and going on exactly where a run was cut off."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from itertools import islice
from typing import Any, NamedTuple

import torch

from ..config.sections import LoggingConfig, TrainingConfig
from ..errors import RunError
from ..run.averaging import keep_evaluated
from ..run.checkpoint import Checkpoint, load_checkpoint, pack, save_checkpoint, set_aside, unpack
from ..run.directory import Run
from ..run.state_shape import check_like, load_optimizer
from .evaluations import Evaluations
from .interrupts import Interrupts
from .logging import RunLog
from .means import Means
from .optimizers import NTASGD, build_optimizer, non_monotonic
from .processes import Processes
from .randomness import random_state, restore_random_state, seed_everything
from .resuming import RESUMED_STATE, forget_what_came_after, on_cpu
from .schedules import Schedule, total_steps
from .task import Task, part_parameters, part_rates

__all__ = ["Outcome", "Trainer"]

# Processes agree on time and signals only so often: each time costs a round of messages.
AGREE_EVERY = 10
# An epoch of a long text takes hours; a kill should not cost more than this.
SAVE_SECONDS = 600.0


class Outcome(NamedTuple):
    """How a training ended.

    Attributes:
        best_loss: the validation loss of the best weights.
        best_step: the step that had them; they are in checkpoints/best.
        best_measures: what else was measured of them.
        steps, seconds: optimiser steps and training time, earlier parts of a resumed run included.
        stopped_because: max_steps, max_epochs, max_minutes, patience or interrupted.
    """

    best_loss: float
    best_step: int
    best_measures: dict[str, float]
    steps: int
    seconds: float
    stopped_because: str


class Trainer:
    """Trains a task in a run directory.

    Args:
        task: see `Task`; its model is on the device already.
        run: open; its directory gets metrics.jsonl, checkpoints/ and the pictures.
    """

    def __init__(self, task: Task, run: Run, processes: Processes) -> None:
        self.task = task
        self.open_run = run
        self.config: TrainingConfig = run.config.training
        self.logging: LoggingConfig = run.config.logging
        self.processes = processes
        self.model = processes.wrap(task.model)
        self.optimizer = build_optimizer(task.model, self.config, part_parameters(task))
        self.scaler = processes.scaler()
        self.total = total_steps(self.config, task.batches.steps_in_epoch)
        self.schedule = Schedule(self.config, self.total)
        self.step = 0
        self.epoch = 0
        self.evaluations = Evaluations(run.system, self.config.select_by)
        self._batch_epoch = task.batches.epoch_number
        self._parameters = [parameter for parameter in task.model.parameters() if parameter.requires_grad]
        self._on_cpu = processes.device.type == "cpu"
        self._means = Means(processes)
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
            self._log = RunLog(self.open_run, start=metrics_size, step=self.step, total=self.total)
        self._started = self._means.began = time.monotonic()
        self.model.train()
        try:
            with self._interrupts:
                reason = self._train()
        finally:
            if self._log is not None:
                self._log.close()
        best = self.evaluations
        return Outcome(best.best_loss, best.best_step, best.best_measures, self.step, self.seconds, reason)

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
        if reason != "interrupted" and self._evaluated_at != self.step:
            # After the last checkpoint, so that a training which is extended goes on as if it had not looked here.
            self._report(self._current_epoch)
            self._evaluate(self._current_epoch, beyond=True)
        return reason

    @property
    def _current_epoch(self) -> int:
        """The number from 1 of the epoch that the last batch was of."""
        return self._batch_epoch + 1

    def _groups(self) -> Iterator[list[Any]]:
        """The batches of one step after another to the end of the epoch; the last step may have fewer."""
        self._batch_epoch = self.task.batches.epoch_number
        batches = self.task.batches.epoch(self._batch_epoch)
        while group := list(islice(batches, self.config.accumulate)):
            yield [batch.to(self.processes.device) for batch in group]

    def _take_step(self, batches: list[Any]) -> None:
        weight = sum(batch.weight for batch in batches)
        for index, batch in enumerate(batches):
            more = index + 1 < len(batches)
            with self.processes.without_sync(self.model) if more else nullcontext():
                with self.processes.autocast():
                    objective, reported = self.task.loss(self.model, batch)
                if len(batches) > 1:
                    # The mean over the whole step, as one larger batch would have it.
                    objective = objective * (batch.weight / weight)
                (objective if self.scaler is None else self.scaler.scale(objective)).backward()
            self._means.add_batch(reported, batch)
        if self.scaler is not None:
            self.scaler.unscale_(self.optimizer)
        gradients = [parameter.grad for parameter in self._parameters if parameter.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients)
        if self.config.clip_norm is not None:
            torch.nn.utils.clip_grads_with_norm_(self._parameters, self.config.clip_norm, norm)
        self._means.add_step(norm)
        if self._on_cpu:
            # Costs nothing here and stops before the weights are spoilt; on a GPU each look would wait for the device.
            self._guard()
        rate = self.schedule.rate(self.step + 1, self._time_share(), self.epoch)
        rate *= sum(batch.rate_scale for batch in batches) / len(batches)
        factors = part_rates(self.task, self._batch_epoch)
        for group in self.optimizer.param_groups:
            group["lr"] = rate * factors[group.get("part", 0)]
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
        if self._log is not None:
            self._log.step(self.step)
        if self.step % self.logging.every_steps == 0:
            self._report(self._current_epoch)
        ended = self.task.batches.epoch_number != self._batch_epoch
        if ended if config.evaluate_every is None else self.step % config.evaluate_every == 0:
            self._evaluate(self._current_epoch)
        self.epoch += ended
        self._agree()
        reason = self._stop_reason()
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
        if config.patience is not None and self.evaluations.since_best >= config.patience:
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

    def _guard(self) -> None:
        # fp16 meets infinite gradients by design: the scaler skips such steps and lowers its scale.
        finite = self._means.finite(norms=self.scaler is None)
        if not finite or (self.scaler is not None and self.scaler.get_scale() < 1e-4):
            raise self._not_finite("loss or gradient")

    def _not_finite(self, what: str) -> RunError:
        saved = self._saved_at
        kept = f"the checkpoint of step {saved} is kept" if saved >= 0 else "there is no checkpoint yet"
        return RunError(
            f"{self.open_run.path}: the {what} was no longer a finite number at step {self.step + 1} ({kept}); try a "
            "lower training.learning_rate, a smaller training.clip_norm, or training.precision=fp32."
        )

    def _report(self, epoch: int) -> None:
        """Log the means since the last report."""
        if self._means.steps == 0:
            return
        self._guard()
        loss, norm, speed = self._means.over_processes()
        record = {"step": self.step, "epoch": epoch, "kind": "train", "loss": loss, **self.task.measures(loss)}
        record |= {
            "learning_rate": self.optimizer.param_groups[0]["lr"],
            "gradient_norm": norm,
            f"{self.open_run.system.unit}_per_second": speed,
            "seconds": self.seconds,
        }
        if self._log is not None:
            self._log.write(record, self._seconds_left(self._means.seconds_per_step))
        self._means.reset()

    def _evaluate(self, epoch: int, *, beyond: bool = False) -> None:
        """Evaluate, log, and keep the weights if they are the best.

        Args:
            epoch: from 1, for the log.
            beyond: whether a training that is extended would not have evaluated here.
        """
        self._guard()
        began = time.monotonic()
        self.model.eval()
        with self._averaged(), torch.no_grad():
            with self.processes.autocast():
                evaluation = self.task.evaluate()
            loss = evaluation.loss
            if not math.isfinite(loss):
                raise self._not_finite("validation loss")
            measures = {name: value for name, value in evaluation.measures.items() if value is not None}
            if self.evaluations.add(self.step, loss, measures) and self.processes.is_main:
                state = {"model": self.task.model.state_dict(), "step": self.step, "loss": loss}
                keep = "best-before" if beyond else None
                save_checkpoint(self.open_run.checkpoints, "best", *pack(state), keep=keep)
            if self.config.keep_evaluated and self.processes.is_main:
                weights = self.task.model.state_dict()
                keep_evaluated(self.open_run.checkpoints, weights, self.step, self.config.keep_evaluated)
        self.model.train()
        criterion = self.evaluations.criteria[-1]
        if self._log is not None:
            record = {"step": self.step, "epoch": epoch, "kind": "valid", "loss": loss, **evaluation.measures}
            record |= {"learning_rate": self.optimizer.param_groups[0]["lr"], "seconds": self.seconds}
            record |= {} if self.config.select_by == "loss" else {"criterion": criterion}
            self._log.write(record)
            self._log.show_samples(self.step, evaluation.samples)
        self.schedule.evaluated(criterion)
        if (
            isinstance(self.optimizer, NTASGD)
            and not self.optimizer.averaging
            and non_monotonic(self.evaluations.criteria, self.config.nt_asgd_patience)
        ):
            self.optimizer.start_averaging()
        self._evaluated_at = self.step
        # The speed that is shown is that of training alone.
        self._means.began += time.monotonic() - began

    def _seconds_left(self, seconds_per_step: float) -> float | None:
        bounds = []
        if self.total is not None:
            bounds.append((self.total - self.step) * seconds_per_step)
        if self.config.max_minutes is not None:
            bounds.append(60.0 * self.config.max_minutes - self.seconds)
        return max(min(bounds), 0.0) if bounds else None

    def _averaged(self) -> AbstractContextManager[None]:
        return self.optimizer.averaged() if isinstance(self.optimizer, NTASGD) else nullcontext()

    def _place(self) -> dict[str, Any]:
        """The place among the batches, and what goes from batch to batch."""
        return {"batches": self.task.batches.state_dict(), "epoch": self._batch_epoch, **self.task.carried()}

    def _save(self) -> None:
        """Write checkpoints/last; what it replaces stays as checkpoints/previous."""
        if self._saved_at == self.step:
            return
        self._guard()
        began = time.monotonic()
        own = {"task": self._place(), "sums": self._means.state(), "random": random_state()}
        everyones = self.processes.gather(on_cpu(own))
        if self._log is not None:
            state = {
                "step": self.step,
                "epoch": self.epoch,
                "seconds": self.seconds,
                **self.evaluations.state(),
                "metrics_size": self._log.position,
                "model": self.task.model.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "schedule": self.schedule.state_dict(),
                "scaler": None if self.scaler is None else self.scaler.state_dict(),
                "processes": everyones,
            }
            save_checkpoint(self.open_run.checkpoints, "last", *pack(state), keep="previous")
        self._saved_at, self._saved_clock = self.step, self._clock
        self._means.began += time.monotonic() - began

    def _resume(self) -> int:
        """Take up the state of the last whole checkpoint; the size of metrics.jsonl at that time."""
        checkpoint = load_checkpoint(self.open_run.checkpoints, needed=RESUMED_STATE)
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
            set_aside(self.open_run.checkpoints / "last")
        self.task.model.load_state_dict(state["model"])
        load_optimizer(self.optimizer, state["optimizer"])
        check_like(state["schedule"], self.schedule.state_dict(), "schedule")
        self.schedule.load_state_dict(state["schedule"])
        if self.scaler is not None:
            self.scaler.load_state_dict(state["scaler"])
        numbers = {"step": 0, "epoch": 0, "seconds": 0.0, "metrics_size": 0}
        check_like({key: state[key] for key in numbers}, numbers, "state")
        self.step, self.epoch = state["step"], state["epoch"]
        self.evaluations.load(state)
        if self.processes.is_main:
            forget_what_came_after(self.open_run.checkpoints, self.step, self.evaluations.best_step)
        self._seconds = self._agreed_seconds = state["seconds"]
        self._saved_at, self._saved_clock = self.step, self._clock
        self._evaluated_at = self.evaluations.last_step
        mine = own[self.processes.rank]
        self._means.load(mine["sums"])
        place = mine["task"]
        check_like(place, self._place(), "task")
        self.task.batches.load_state_dict(place["batches"])
        self._batch_epoch = place["epoch"]
        self.task.carry({name: value for name, value in place.items() if name not in ("batches", "epoch")})
        restore_random_state(mine["random"])
        return int(state["metrics_size"])
