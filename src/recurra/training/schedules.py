"""Learning-rate schedules as closed forms of the step number, with linear warm-up."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from ..config.sections import TrainingConfig

__all__ = ["Schedule", "total_steps"]


def total_steps(config: TrainingConfig, batches_in_epoch: Callable[[int], int]) -> int | None:
    """The optimiser step at which training ends by `max_steps` or `max_epochs`; None when only time bounds it.

    Args:
        batches_in_epoch: how many batches the epoch of a number (from 0) has; epochs may differ.
    """
    if config.max_epochs is None:
        return config.max_steps
    total = 0
    for epoch in range(config.max_epochs):
        total += -(-batches_in_epoch(epoch) // config.accumulate)
        if config.max_steps is not None and total >= config.max_steps:
            return config.max_steps
    return total


class Schedule:
    """The learning rate of each optimiser step.

    Steps count from 1. With W warm-up steps the rate at step s <= W is `learning_rate * s / W`. After that, progress p
    running from 0 at the last warm-up step (or the first step) to 1 at step `total`, and r the final ratio:

        constant   learning_rate
        linear     learning_rate * (1 - (1 - r) p)
        cosine     learning_rate * (r + (1 - r) (1 + cos(pi p)) / 2)            (Loshchilov & Hutter 2017, one period)
        plateau    learning_rate * factor^k, k the number of times that the loss stood still for more than `patience`
                   evaluations
        epochs     learning_rate * factor^k, k the number of epochs begun after the first `decay_after`
                   (Zaremba, Sutskever & Vinyals 2014)

    When training is bounded by minutes too, p is the larger of the share of steps and the share of time that is used,
    so that linear and cosine reach their end whichever bound comes first.
    """

    def __init__(self, config: TrainingConfig, total: int | None) -> None:
        self.config = config
        self.total = total
        self._factor = 1.0
        self._best = math.inf
        self._waited = 0

    def rate(self, step: int, time_share: float = 0.0, epoch: int = 0) -> float:
        """The learning rate of an optimiser step.

        Args:
            step: its number, from 1.
            time_share: share of the allowed minutes that is used up.
            epoch: number of finished epochs.
        """
        config = self.config
        if step < config.warmup_steps:
            return config.learning_rate * step / config.warmup_steps
        if config.schedule == "constant":
            return config.learning_rate
        if config.schedule == "epochs":
            return config.learning_rate * config.epoch_factor ** max(epoch + 1 - config.decay_after, 0)
        if config.schedule == "plateau":
            return config.learning_rate * self._factor
        progress = max(self._step_share(step), min(time_share, 1.0))
        last = config.final_learning_rate_ratio
        if config.schedule == "linear":
            return config.learning_rate * (1.0 - (1.0 - last) * progress)
        return config.learning_rate * (last + (1.0 - last) * 0.5 * (1.0 + math.cos(math.pi * progress)))

    def evaluated(self, loss: float) -> None:
        """Take note of a validation loss; `plateau` lowers the rate when it has stood still too long."""
        if loss < self._best:
            self._best, self._waited = loss, 0
            return
        self._waited += 1
        if self._waited > self.config.plateau_patience:
            self._factor *= self.config.plateau_factor
            self._waited = 0

    def state_dict(self) -> dict[str, Any]:
        return {"factor": self._factor, "best": self._best, "waited": self._waited}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._factor, self._best, self._waited = state["factor"], state["best"], state["waited"]

    def _step_share(self, step: int) -> float:
        first = max(self.config.warmup_steps, 1)
        if self.total is None or self.total <= first:
            return 0.0
        return min(max((step - first) / (self.total - first), 0.0), 1.0)
