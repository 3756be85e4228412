"""What the training loop asks of a task: batches, a loss, an evaluation, and a state to save."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from torch import Tensor, nn

__all__ = ["Batch", "Evaluation", "Loss", "Task"]


class Batch(Protocol):
    """What the loop asks of a batch: its weight among those of one step, and the factor that its step's rate takes."""

    @property
    def tokens(self) -> int: ...

    @property
    def rate_scale(self) -> float: ...


class Loss(NamedTuple):
    """`objective` is minimised; `nats` is what is reported: the mean per token without regularisers. Both scalars."""

    objective: Tensor
    nats: Tensor


class Evaluation(NamedTuple):
    """What an evaluation found.

    Attributes:
        nats, tokens, characters: sums over this process's share of the validation data; no characters: 0.
        metrics: what else was measured, of all processes' shares together.
        criterion: what the best weights are chosen by, the lower the better, on all processes the same; None: the loss.
        samples: what the model makes of some of the data, each a mapping that JSON can hold, with `text` for people.
    """

    nats: float
    tokens: int
    characters: int = 0
    metrics: Mapping[str, float] = {}
    criterion: float | None = None
    samples: Sequence[Mapping[str, Any]] = ()


class Task(Protocol):
    """What the loop trains. The task keeps its data position and whatever it carries from batch to batch."""

    model: nn.Module
    characters_per_token: float
    """Of the training data; 0 when it is not text."""

    def steps_in_epoch(self, epoch: int) -> int:
        """Batches of the given epoch (from 0) on one process."""

    @property
    def epoch_done(self) -> bool:
        """Whether the last batch of the epoch in progress has been handed out."""

    def batches(self) -> Iterator[Any]:
        """The rest of the epoch in progress, or the whole next one when that is done."""

    def loss(self, model: nn.Module, batch: Any) -> Loss:
        """The loss of one batch under `model`, which is the task's own, perhaps wrapped for several processes."""

    def evaluate(self) -> Evaluation:
        """The loss on the validation data; called in evaluation mode, without gradients."""

    def state_dict(self) -> dict[str, Any]:
        """Data position and carried state, in what `checkpoint.pack` takes."""

    def load_state_dict(self, state: dict[str, Any]) -> None: ...
