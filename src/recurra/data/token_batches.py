"""Batches of pairs with about as many tokens each, of sentences of like length."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ..errors import DataError, RunError
from .moving import moved
from .parallel import ParallelCorpus

__all__ = ["IGNORED", "PairBatch", "TokenBatches", "collate", "group_by_length", "pad"]

IGNORED = -100
"""The target of padding, which losses pass over."""


class PairBatch(NamedTuple):
    """Side by side, time first; what lies beyond a row's length is padding.

    Attributes:
        source: (S, B) int64, each with its end.
        lengths: (B,) int64, of the sources with their ends.
        before: (T, B) int64, what stands before each target token: an end, then the target.
        target: (T, B) int64, the target and its end; `IGNORED` beyond.
        tokens: of the targets, ends included.
        epoch: the epoch, from 0, that the batch is of.
    """

    source: Tensor
    lengths: Tensor
    before: Tensor
    target: Tensor
    tokens: int
    epoch: int = 0

    @property
    def units(self) -> int:
        """Target tokens."""
        return self.tokens

    @property
    def weight(self) -> int:
        """Target tokens."""
        return self.tokens

    @property
    def rate_scale(self) -> float:
        """Every step takes the schedule's rate."""
        return 1.0

    def to(self, device: torch.device) -> PairBatch:
        """The batch on a device; the lengths stay on the CPU, as packing needs them."""
        source, before, target = (moved(tensor, device) for tensor in (self.source, self.before, self.target))
        return self._replace(source=source, before=before, target=target)


def pad(rows: Sequence[npt.NDArray[np.uint32]], end: int, fill: int, *, first: int | None = None) -> Tensor:
    """Rows of ids as a tensor (longest, B), each followed by `end`, or led by `first` instead, padded with `fill`."""
    longest = max(map(len, rows)) + 1
    table = np.full((len(rows), longest), fill, np.int64)
    for row, ids in zip(table, rows, strict=True):
        if first is None:
            row[: len(ids)], row[len(ids)] = ids, end
        else:
            row[0], row[1 : len(ids) + 1] = first, ids
    return torch.from_numpy(table.T.copy())


def collate(
    pairs: Sequence[tuple[npt.NDArray[np.uint32], npt.NDArray[np.uint32]]], source_eos: int, target_eos: int
) -> PairBatch:
    """Pairs of ids as one batch."""
    sources, targets = ([pair[side] for pair in pairs] for side in (0, 1))
    return PairBatch(
        pad(sources, source_eos, source_eos),
        torch.tensor([len(ids) + 1 for ids in sources], device="cpu"),
        pad(targets, target_eos, target_eos, first=target_eos),
        pad(targets, target_eos, IGNORED),
        sum(len(ids) + 1 for ids in targets),
    )


def group_by_length(
    order: npt.NDArray[np.int64], lengths: npt.NDArray[np.int64], batch_tokens: int
) -> list[npt.NDArray[np.int64]]:
    """Cut an order of pairs into batches whose longest row times their rows is at most `batch_tokens`.

    Args:
        order: indices of pairs, those of like length side by side.
        lengths: of every pair, ends included.
        batch_tokens: bound; a longer pair is a batch of its own.
    """
    batches, start, longest = [], 0, 0
    for place, index in enumerate(order):
        longest = max(longest, int(lengths[index]))
        if place > start and longest * (place - start + 1) > batch_tokens:
            batches.append(order[start:place])
            start, longest = place, int(lengths[index])
    if len(order):
        batches.append(order[start:])
    return batches


class TokenBatches:
    """Batches of a corpus for training: every pair once an epoch, of like lengths side by side, in random order.

    An epoch's order depends on seed and number of the epoch alone: pairs are shuffled, sorted by the length of their
    longer side and then of their target, cut by `group_by_length`, and the batches shuffled. Rank r takes every
    world_size-th batch from the r-th on; the few that would leave ranks with different numbers go to no one in that
    epoch.

    Args:
        corpus: the training pairs.
        batch_tokens: most tokens of a batch on its longer side, padding and ends included.
        source_eos, target_eos: the ends.
        seed: of the orders.
        rank, world_size: this process and how many share the corpus.

    Raises:
        DataError: if there are fewer batches than processes.
    """

    def __init__(
        self,
        corpus: ParallelCorpus,
        batch_tokens: int,
        source_eos: int,
        target_eos: int,
        *,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self._corpus = corpus
        self._batch_tokens = batch_tokens
        self._ends = (source_eos, target_eos)
        self._seed = seed
        self._rank, self._world_size = rank, world_size
        self._lengths = np.maximum(corpus.source_lengths, corpus.target_lengths) + 1
        # Of sorted lengths, which are the same in every epoch's order, so the batches are as large in each.
        places = np.arange(len(corpus))
        groups = group_by_length(places, np.sort(self._lengths), batch_tokens)
        self._cuts = np.array([group[0] for group in groups[1:]], np.int64)
        self._epoch = self._step = 0
        self._drawn_epoch = -1
        self._drawn: list[npt.NDArray[np.int64]] = []
        if not self.steps_in_epoch():
            raise DataError(
                f"The {len(corpus)} training pairs make fewer batches than the {world_size} processes that share them; "
                "lower training.batch_tokens or start fewer."
            )

    @property
    def epoch_number(self) -> int:
        """The epoch, from 0, that the next batch belongs to."""
        return self._epoch

    def steps_in_epoch(self, epoch: int = 0) -> int:
        """Batches of this rank in an epoch; all epochs have as many."""
        return (len(self._cuts) + 1) // self._world_size

    def epoch(self, number: int) -> Iterator[PairBatch]:
        """The batches of one epoch; of the current one, those that are left."""
        if number != self._epoch:
            self._epoch, self._step = number, 0
        while self._epoch == number:
            chosen = self._batches(number)[self._step * self._world_size + self._rank]
            self._step += 1
            if self._step == self.steps_in_epoch():
                self._epoch, self._step = number + 1, 0
            batch = collate([self._corpus.pair(int(index)) for index in chosen], *self._ends)
            yield batch._replace(epoch=number)

    def state_dict(self) -> dict[str, int]:
        """The place of the next batch, and of what corpus and settings it is the place."""
        return {
            "epoch": self._epoch,
            "step": self._step,
            "pairs": len(self._corpus),
            "batch_tokens": self._batch_tokens,
            "seed": self._seed,
        }

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Go to the place of a state.

        Raises:
            RunError: if the state belongs to another corpus, batch size or seed.
        """
        for name, value in self.state_dict().items():
            if name not in ("epoch", "step") and state.get(name) != value:
                raise RunError(
                    f"The saved place in the pairs belongs to a run with {name} {state.get(name)}, but it is now "
                    f"{value}; resume with the data and settings that the run began with."
                )
        self._epoch, self._step = state["epoch"], state["step"]

    def _batches(self, epoch: int) -> list[npt.NDArray[np.int64]]:
        if self._drawn_epoch != epoch:
            random = np.random.default_rng((self._seed, epoch))
            order = random.permutation(len(self._corpus))
            # Stable sorts, so that pairs of equal lengths stay in random order.
            order = order[np.argsort(self._corpus.target_lengths[order], kind="stable")]
            order = order[np.argsort(self._lengths[order], kind="stable")]
            batches = np.split(order, self._cuts)
            self._drawn = [batches[index] for index in random.permutation(len(batches))]
            self._drawn_epoch = epoch
        return self._drawn
