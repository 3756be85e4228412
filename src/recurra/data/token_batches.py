"""Batches of pairs with about as many tokens each, of sentences of like length."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from .length_batches import LengthBatches, group_by_length
from .moving import moved
from .pair_corpus import ParallelCorpus
from .pair_store import PairStore

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


class TokenBatches(LengthBatches[PairBatch]):
    """Batches of pairs for training, of like lengths of the longer side and then of the target; see `LengthBatches`.

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
        corpus: ParallelCorpus | PairStore,
        batch_tokens: int,
        source_eos: int,
        target_eos: int,
        *,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        def made(chosen: npt.NDArray[np.int64]) -> PairBatch:
            return collate([corpus.pair(int(index)) for index in chosen], source_eos, target_eos)

        super().__init__(
            np.maximum(corpus.source_lengths, corpus.target_lengths) + 1,
            made,
            batch_tokens,
            then_by=corpus.target_lengths,
            seed=seed,
            rank=rank,
            world_size=world_size,
            noun="pairs",
        )

    def epoch(self, number: int) -> Iterator[PairBatch]:
        """The batches of one epoch; of the current one, those that are left."""
        for batch in super().epoch(number):
            yield batch._replace(epoch=number)
