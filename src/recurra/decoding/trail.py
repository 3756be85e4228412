"""Where a search attended: the weights of every step once, and the way back through them from an output's end."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

__all__ = ["Trail"]

_FIRST = 32
"""Steps that there is room for at first."""


class Trail:
    """The attention weights of every step, and which row of the step before each of its rows goes on from.

    A hypothesis' weights are gathered only when it is given out: to carry those of all steps along with every live one
    would cost the square of the length. They lie in one buffer that doubles when it is full, since small blocks that
    stay, one a step, would keep the C library from using again the large ones that come and go between them: a sentence
    of 1,000 tokens then took gigabytes.
    """

    def __init__(self) -> None:
        self._steps = 0
        self._weights: Tensor | None = None
        self._origins = np.empty((0, 0), np.int32)

    def add(self, weights: Tensor | None, origins: Tensor) -> None:
        """Keep a step.

        Args:
            weights: (rows, S); None at every step where there is no attention.
            origins: (rows,) int64, the row of the step before that each goes on from; at the first step of no meaning.
        """
        if weights is None:
            return
        rows = len(weights)
        if self._weights is None or self._steps == len(self._weights) or rows > self._weights.shape[1]:
            self._grow(rows, weights)
        assert self._weights is not None
        self._weights[self._steps, :rows] = weights
        self._origins[self._steps, :rows] = origins.numpy()
        self._steps += 1

    def follow(self, step: int, row: int, length: int | None) -> Tensor | None:
        """The weights (step + 1, length) up to a step, counted from 0, of the hypothesis that one of its rows is."""
        if self._weights is None:
            return None
        rows = np.empty(step + 1, np.int64)
        for at in range(step, -1, -1):
            rows[at] = row
            row = self._origins[at, row]
        return self._weights[torch.arange(step + 1, device="cpu"), torch.from_numpy(rows), :length]

    def _grow(self, rows: int, like: Tensor) -> None:
        old = self._weights
        wide = rows if old is None else max(rows, old.shape[1])
        steps = _FIRST if old is None else max(2 * self._steps, _FIRST)
        weights = torch.empty((steps, wide, like.shape[1]), dtype=like.dtype, device="cpu")
        origins = np.empty((steps, wide), np.int32)
        if old is not None:
            weights[: self._steps, : old.shape[1]] = old[: self._steps]
            origins[: self._steps, : old.shape[1]] = self._origins[: self._steps]
        self._weights, self._origins = weights, origins
