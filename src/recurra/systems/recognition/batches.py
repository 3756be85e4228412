"""Batches of frames with their labels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ...data.length_batches import LengthBatches
from ...data.moving import moved

__all__ = ["RecognitionBatch", "RecognitionBatches", "joined_labels", "padded_frames"]


class RecognitionBatch(NamedTuple):
    """Examples side by side, time first; what lies beyond a length is zero.

    Attributes:
        frames: (T, B, I) float32.
        lengths: (B,) int64 on the CPU.
        labels: of all examples one after another, (all labels,) int64.
        label_lengths: (B,) int64 on the CPU.
    """

    frames: Tensor
    lengths: Tensor
    labels: Tensor
    label_lengths: Tensor
    rate_scale: float = 1.0

    @property
    def units(self) -> int:
        """Frames."""
        return int(self.lengths.sum())

    @property
    def weight(self) -> int:
        """Labels; an example without any counts as one."""
        return int(self.label_lengths.clamp(min=1).sum())

    def to(self, device: torch.device) -> RecognitionBatch:
        """The batch on a device; the lengths stay on the CPU, as packing needs them."""
        return self._replace(frames=moved(self.frames, device), labels=moved(self.labels, device))


class RecognitionBatches(LengthBatches[RecognitionBatch]):
    """Batches that tell the epoch to whatever draws the changes of their examples.

    Attributes:
        drawn_epoch: the epoch, from 0, of the batch that is being made.
    """

    drawn_epoch = 0

    def epoch(self, number: int) -> Iterator[RecognitionBatch]:
        """The batches of one epoch; of the current one, those that are left."""
        self.drawn_epoch = number
        yield from super().epoch(number)


def padded_frames(rows: Sequence[npt.NDArray[np.float32]]) -> tuple[Tensor, Tensor]:
    """Rows of frames (frames, I) as (T, B, I), zero beyond their lengths, and the lengths (B,)."""
    lengths = np.array([len(row) for row in rows], np.int64)
    table = np.zeros((int(lengths.max()), len(rows), rows[0].shape[1]), np.float32)
    for place, row in enumerate(rows):
        table[: len(row), place] = row
    return torch.from_numpy(table), torch.from_numpy(lengths)


def joined_labels(rows: Sequence[npt.NDArray[Any]]) -> tuple[Tensor, Tensor]:
    """Labels of all examples one after another, and how many each has, (B,)."""
    lengths = torch.tensor([len(row) for row in rows], dtype=torch.int64)
    return torch.from_numpy(np.concatenate([np.empty(0, np.int64), *rows]).astype(np.int64)), lengths
