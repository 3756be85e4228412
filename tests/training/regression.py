"""A small regression task, so that tests of the loop depend on no system."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from recurra.config.sections import LoggingConfig, TrainingConfig
from recurra.registry import Measure, System
from recurra.run.directory import Run
from recurra.training.processes import Processes
from recurra.training.task import Evaluation, Loss

SYSTEM = System(
    name="regression",
    summary="a straight line",
    schema="",
    prepare="",
    predictor="",
    build="",
    network="",
    describe="",
    options=(),
    verbs=(),
    measures=(
        Measure("loss", "loss", unit="square metres", best="lowest"),
        Measure("rmse", "RMSE", "{:.3f}", "metres", "lowest", "RMSE {:.3f} m"),
        Measure("fit", "fit", "{:.1%}", "", "highest"),
    ),
    unit="rows",
    files=((),),
    pipeline="",
    example="",
)
"""Losses are in a unit of their own, and nothing is counted in tokens."""


class Config(NamedTuple):
    """The sections of a configuration that the loop reads."""

    training: TrainingConfig
    logging: LoggingConfig
    task: str = "regression"


def opened(folder: Path, logging: LoggingConfig, training: TrainingConfig | None = None) -> Run:
    """A run in a folder, without config.yaml and lock."""
    return Run(folder, Config(training or TrainingConfig(), logging), SYSTEM)


class Rows(NamedTuple):
    x: Tensor
    y: Tensor
    rate_scale: float = 1.0

    @property
    def weight(self) -> int:
        return len(self.x)

    @property
    def units(self) -> int:
        return len(self.x)

    def to(self, device: torch.device) -> Rows:
        return self


class Regression:
    """Linear regression in float64 over 40 rows, with dropout and a carried running mean to make state matter."""

    def __init__(
        self, rows: int = 4, dropout: float = 0.2, processes: Processes | None = None, count: int = 40
    ) -> None:
        generator = torch.Generator().manual_seed(0)
        self.model = nn.Linear(5, 1, dtype=torch.float64)
        with torch.no_grad():
            # DDP starts every process from the first one's weights.
            self.model.weight.fill_(0.5 + (processes.rank if processes else 0))
            self.model.bias.fill_(-0.5)
        x = torch.randn(count, 5, generator=generator, dtype=torch.float64)
        y = x @ torch.arange(5.0, dtype=torch.float64)[:, None] + 1
        mine = slice(None) if processes is None else slice(processes.rank, None, processes.world_size)
        self.x, self.y = x[mine], y[mine]
        self.rows, self.dropout, self.processes = rows, dropout, processes
        self.epoch_number = self.position = 0
        self.mean = torch.zeros((), dtype=torch.float64)
        self.after_batch: Any = lambda number: None
        self.validation: list[float] | None = None

    # Of the task itself.

    header: Mapping[str, str] = {}

    @property
    def batches(self) -> Regression:
        return self

    def loss(self, model: nn.Module, batch: Rows) -> Loss:
        predicted = model(nn.functional.dropout(batch.x, self.dropout)) + 0.01 * self.mean
        self.mean = 0.9 * self.mean + predicted.mean().detach()
        loss = (predicted - batch.y).square().mean()
        self.after_batch(self.position or len(self.x))
        return Loss(loss, loss.detach())

    def evaluate(self) -> Evaluation:
        assert not self.model.training and not torch.is_grad_enabled()
        if self.validation is not None:
            loss = self.validation.pop(0)
        else:
            mine = [float((self.model(self.x) - self.y).square().sum()), float(len(self.x))]
            total, count = mine if self.processes is None else self.processes.total(mine)
            loss = total / count
        return Evaluation(loss, {**self.measures(loss), "fit": 1 / (1 + loss)})

    def measures(self, loss: float) -> Mapping[str, float | None]:
        return {"rmse": loss**0.5}

    def carried(self) -> dict[str, Any]:
        return {"mean": self.mean}

    def carry(self, state: dict[str, Any]) -> None:
        self.mean = state["mean"]

    # Of its batches.

    def steps_in_epoch(self, epoch: int) -> int:
        return -(-len(self.x) // self.rows)

    def epoch(self, number: int) -> Iterator[Rows]:
        if number != self.epoch_number:
            self.epoch_number, self.position = number, 0
        while self.epoch_number == number:
            rows = slice(self.position, self.position + self.rows)
            self.position += self.rows
            if self.position >= len(self.x):
                self.epoch_number, self.position = number + 1, 0
            yield Rows(self.x[rows], self.y[rows])

    def state_dict(self) -> dict[str, Any]:
        return {"epoch": self.epoch_number, "position": self.position}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.epoch_number, self.position = state["epoch"], state["position"]
