"""What the training loop asks of a system: batches, a loss, an evaluation, and what is carried from batch to batch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, Self, runtime_checkable

import torch
from torch import Tensor, nn

__all__ = [
    "Batch",
    "Batches",
    "Evaluation",
    "ExampleTask",
    "Loss",
    "PartedTask",
    "Task",
    "part_parameters",
    "part_rates",
]


class Batch(Protocol):
    """What the loop asks of a batch."""

    @property
    def weight(self) -> float:
        """Its share among the batches of one step: the number of things that its loss is the mean over."""
        ...

    @property
    def units(self) -> int:
        """What the speed of training is counted in, such as tokens."""
        ...

    @property
    def rate_scale(self) -> float:
        """The factor on the learning rate of its step; 1 for almost everything."""
        ...

    def to(self, device: torch.device) -> Self:
        """The batch on a device."""
        ...


class Batches(Protocol):
    """The training batches of one process, epoch after epoch, and the exact place among them."""

    @property
    def epoch_number(self) -> int:
        """The epoch, from 0, that the next batch belongs to."""
        ...

    def steps_in_epoch(self, epoch: int) -> int:
        """Batches of an epoch."""
        ...

    def epoch(self, number: int) -> Iterator[Any]:
        """The batches of one epoch; of the epoch in progress, those that are left."""
        ...

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any]) -> None: ...


class Loss(NamedTuple):
    """`objective` is minimised; `reported` is the loss that people see, without regularisers. Both scalars, means."""

    objective: Tensor
    reported: Tensor


class Evaluation(NamedTuple):
    """What an evaluation found, of the validation data of all processes together.

    Attributes:
        loss: in the unit of the system's measure `loss`.
        measures: the other measures of the system, by name.
        samples: what the model makes of some of the data, each a mapping that JSON can hold, with `text` for people.
    """

    loss: float
    measures: Mapping[str, float | None] = {}
    samples: Sequence[Mapping[str, Any]] = ()


class Task(Protocol):
    """What the loop trains."""

    model: nn.Module
    batches: Batches

    @property
    def header(self) -> Mapping[str, str]:
        """What the header of model.safetensors says of the model, beside its system and cell."""
        ...

    def loss(self, model: nn.Module, batch: Any) -> Loss:
        """The loss of one batch under `model`, which is the task's own, perhaps wrapped for several processes."""
        ...

    def evaluate(self) -> Evaluation:
        """The loss on the validation data; called in evaluation mode, without gradients."""
        ...

    def measures(self, loss: float) -> Mapping[str, float | None]:
        """Measures that follow from a loss on the training data."""
        ...

    def carried(self) -> dict[str, Any]:
        """What goes from batch to batch beside the place among them, in a form that `checkpoint.pack` takes."""
        ...

    def carry(self, state: dict[str, Any]) -> None:
        """Take up what `carried` gave, or was given to `carried` by an older recurra."""
        ...


class ExampleTask:
    """What tasks that learn from examples have in common: every batch is read from its beginning."""

    def measures(self, loss: float) -> Mapping[str, float | None]:
        """Nothing more follows from a training loss."""
        return {}

    def carried(self) -> dict[str, Any]:
        """Nothing goes from batch to batch."""
        return {}

    def carry(self, state: dict[str, Any]) -> None:
        """Take up nothing."""


@runtime_checkable
class PartedTask(Protocol):
    """What a task has besides, if parts of its model have learning rates of their own."""

    def part_parameters(self) -> Sequence[Sequence[Tensor]]:
        """The parameters of each part, all of the model's together; nothing if all have the same rate."""
        ...

    def part_rates(self, epoch: int) -> Sequence[float]:
        """The factor on the learning rate of each part in an epoch from 0; a part with 0 stays as it is."""
        ...


def part_parameters(task: Any) -> Sequence[Sequence[Tensor]]:
    """The parts of a task's model; none, if it is trained as a whole."""
    return task.part_parameters() if isinstance(task, PartedTask) else ()


def part_rates(task: Any, epoch: int) -> Sequence[float]:
    """The factor on the learning rate of each part; 1 for a model that is trained as a whole."""
    return task.part_rates(epoch) if isinstance(task, PartedTask) else (1.0,)
