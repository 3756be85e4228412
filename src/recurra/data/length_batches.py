"""Epochs of batches of examples of like lengths, for every system that learns from examples."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Generic, TypeVar

import numpy as np
import numpy.typing as npt

from ..errors import DataError, RunError

__all__ = ["LengthBatches", "cut_points", "group_by_length"]

Batch = TypeVar("Batch")


def cut_points(lengths: npt.NDArray[np.int64], bound: int) -> npt.NDArray[np.int64]:
    """Where to cut a row of examples into batches whose longest example times their number is at most a bound.

    Args:
        lengths: (examples,), each at least 1, in the order of the examples; those of like length side by side.
        bound: a longer example is a batch of its own.

    Returns:
        The places at which the second batch and the later ones begin.
    """
    cuts: list[int] = []
    start = 0
    while True:
        # No batch reaches further: each of its examples is at least 1 long.
        most = max(1, bound // max(1, int(lengths[start]))) + 1 if start < len(lengths) else 0
        ahead = lengths[start : start + most]
        sizes = np.maximum.accumulate(ahead) * np.arange(1, len(ahead) + 1)
        start += max(1, int(np.searchsorted(sizes, bound, side="right")))
        if start >= len(lengths):
            return np.array(cuts, np.int64)
        cuts.append(start)


def group_by_length(
    order: npt.NDArray[np.int64], lengths: npt.NDArray[np.int64], bound: int
) -> list[npt.NDArray[np.int64]]:
    """An order of examples cut into batches at its `cut_points`.

    Args:
        order: numbers of examples, those of like length side by side.
        lengths: of every example, each at least 1.
        bound: on the longest example of a batch times its number of examples.
    """
    return np.split(order, cut_points(lengths[order], bound)) if len(order) else []


class LengthBatches(Generic[Batch]):
    """Batches of examples for training: each example once an epoch, like lengths side by side, in random order.

    An epoch's order depends on seed and number of the epoch alone: examples are shuffled, sorted by length, cut by
    `cut_points`, and the batches shuffled. Rank r takes every world_size-th batch from the r-th on; the few that would
    leave ranks with different numbers go to no one in that epoch. An epoch is held as one order of all examples and the
    places where it is cut, 16 bytes an example.

    Args:
        lengths: (examples,), each at least 1.
        collate: makes a batch of the numbers of its examples.
        bound: most that the longest example of a batch times its number of examples may be.
        then_by: (examples,), sorts examples of equal length; None: they stay in random order.
        seed: of the orders.
        rank, world_size: this process and how many share the examples.
        noun: what the examples are called in messages.
        setting: the key of the configuration that the bound comes from, for messages.

    Raises:
        DataError: if there are fewer batches than processes.
    """

    def __init__(
        self,
        lengths: npt.NDArray[np.int64],
        collate: Callable[[npt.NDArray[np.int64]], Batch],
        bound: int,
        *,
        then_by: npt.NDArray[np.int64] | None = None,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
        noun: str = "examples",
        setting: str = "training.batch_tokens",
    ) -> None:
        self._lengths, self._then_by = lengths, then_by
        self._collate = collate
        self._bound = bound
        self._seed = seed
        self._rank, self._world_size = rank, world_size
        self._noun = noun
        # Of sorted lengths, which are the same in every epoch's order, so the batches are as large in each.
        self._cuts = np.concatenate([[0], cut_points(np.sort(lengths), bound), [len(lengths)]])
        self._epoch = self._step = 0
        self._drawn_epoch = -1
        self._order = self._turns = np.empty(0, np.int64)
        if not self.steps_in_epoch():
            raise DataError(
                f"The {len(lengths)} training {noun} make fewer batches than the {world_size} processes that share "
                f"them; lower {setting} or start fewer."
            )

    @property
    def epoch_number(self) -> int:
        """The epoch, from 0, that the next batch belongs to."""
        return self._epoch

    def steps_in_epoch(self, epoch: int = 0) -> int:
        """Batches of this rank in an epoch; all epochs have as many."""
        return (len(self._cuts) - 1) // self._world_size

    def epoch(self, number: int) -> Iterator[Batch]:
        """The batches of one epoch; of the current one, those that are left."""
        if number != self._epoch:
            self._epoch, self._step = number, 0
        while self._epoch == number:
            chosen = self._chosen(number, self._step * self._world_size + self._rank)
            self._step += 1
            if self._step == self.steps_in_epoch():
                self._epoch, self._step = number + 1, 0
            yield self._collate(chosen)

    def state_dict(self) -> dict[str, int]:
        """The place of the next batch, and of what examples and settings it is the place."""
        return {
            "epoch": self._epoch,
            "step": self._step,
            # Named after pairs, the first examples there were, as older checkpoints have it.
            "pairs": len(self._lengths),
            "batch_tokens": self._bound,
            "seed": self._seed,
        }

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Go to the place of a state.

        Raises:
            RunError: if the state belongs to other examples, another batch size or another seed.
        """
        for name, value in self.state_dict().items():
            if name not in ("epoch", "step") and state.get(name) != value:
                raise RunError(
                    f"The saved place in the {self._noun} belongs to a run with {name} {state.get(name)}, but it is "
                    f"now {value}; resume with the data and settings that the run began with."
                )
        self._epoch, self._step = state["epoch"], state["step"]

    def _chosen(self, epoch: int, number: int) -> npt.NDArray[np.int64]:
        """The examples of a batch, by its turn in an epoch."""
        if self._drawn_epoch != epoch:
            random = np.random.default_rng((self._seed, epoch))
            order = random.permutation(len(self._lengths))
            keys = [self._lengths] if self._then_by is None else [self._then_by, self._lengths]
            # The sort leaves examples of equal lengths in random order.
            self._order = order[np.lexsort([key[order] for key in keys])]
            self._turns = random.permutation(len(self._cuts) - 1)
            self._drawn_epoch = epoch
        turn = self._turns[number]
        return self._order[self._cuts[turn] : self._cuts[turn + 1]]
