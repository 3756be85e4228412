"""Means over the steps since the last report: of the loss, of the gradient's norm, and the speed."""

from __future__ import annotations

import math
import time
from typing import Any

import torch
from torch import Tensor

from ..run.state_shape import check_like
from .processes import Processes
from .task import Batch

__all__ = ["Means"]


class Means:
    """Sums on the device of a training, so that no step waits for them to be read.

    Attributes:
        steps: optimiser steps that are summed.
        began: when the first of these began, on the clock of `time.monotonic`; move it to leave time out.
    """

    def __init__(self, processes: Processes) -> None:
        self._processes = processes
        self.reset()

    def reset(self) -> None:
        """Begin anew."""
        device = self._processes.device
        kind = torch.float32 if device.type == "mps" else torch.float64
        self._loss = torch.zeros((), dtype=kind, device=device)
        self._norm = torch.zeros((), dtype=kind, device=device)
        self._weight = 0.0
        self._units = 0
        self.steps = 0
        self.began = time.monotonic()

    def add_batch(self, loss: Tensor, batch: Batch) -> None:
        """Count the mean loss of a batch."""
        self._loss += loss.detach() * batch.weight
        self._weight += batch.weight
        self._units += batch.units

    def add_step(self, norm: Tensor) -> None:
        """Count an optimiser step with the norm of its gradient."""
        self._norm += norm
        self.steps += 1

    def finite(self, *, norms: bool) -> bool:
        """Whether all losses, and where asked all norms, were finite; waits for the device."""
        return math.isfinite(float(self._loss + self._norm if norms else self._loss))

    def over_processes(self) -> tuple[float, float, float]:
        """Loss, norm of the gradient, and units a second, of all processes."""
        totals = torch.stack(
            [self._loss, self._loss.new_tensor(self._weight), self._loss.new_tensor(float(self._units))]
        )
        loss, weight, units = self._processes.sum(totals).tolist()
        seconds = max(time.monotonic() - self.began, 1e-9)
        return loss / weight, float(self._norm) / self.steps, units / seconds

    @property
    def seconds_per_step(self) -> float:
        """Of one process."""
        return (time.monotonic() - self.began) / self.steps

    def state(self) -> list[Any]:
        """The sums, for a checkpoint."""
        return [self._loss, self._norm, self._weight, self.steps, self._units]

    def load(self, state: list[Any]) -> None:
        """Take up what `state` gave; older checkpoints counted speed in the weights of batches."""
        loss, norm, weight, steps, units = state if len(state) == 5 else [*state, state[2]]
        check_like([weight, steps, units], [0.0, 0, 0], "sums")
        self._loss.copy_(loss)
        self._norm.copy_(norm)
        self._weight, self.steps, self._units = weight, steps, units
