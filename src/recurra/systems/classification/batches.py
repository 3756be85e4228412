"""Batches of tokenised texts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ...data.moving import moved

__all__ = ["TextBatch", "padded"]


class TextBatch(NamedTuple):
    """Texts side by side, time first, each led by the token of a text's end; what lies beyond a length is padding.

    Attributes:
        tokens: (T, B) int64.
        lengths: (B,) int64 on the CPU.
        target: what the loss compares with; see `Targets`.
        epoch: the epoch, from 0, that the batch is of.
    """

    tokens: Tensor
    lengths: Tensor
    target: Tensor
    epoch: int = 0
    rate_scale: float = 1.0

    @property
    def units(self) -> int:
        """Texts."""
        return len(self.lengths)

    @property
    def weight(self) -> int:
        """Texts."""
        return len(self.lengths)

    def to(self, device: torch.device) -> TextBatch:
        """The batch on a device; the lengths stay on the CPU, as packing needs them."""
        return self._replace(tokens=moved(self.tokens, device), target=moved(self.target, device))


def padded(rows: Sequence[npt.NDArray[Any]], first: int) -> tuple[Tensor, Tensor]:
    """Rows of ids, each led by `first`, as tokens (T, B) and lengths (B,)."""
    lengths = np.array([len(ids) + 1 for ids in rows], np.int64)
    table = np.full((len(rows), lengths.max()), first, np.int64)
    for row, ids in zip(table, rows, strict=True):
        row[1 : len(ids) + 1] = ids
    return torch.from_numpy(table.T.copy()), torch.from_numpy(lengths)
