"""What a search found on its way: attention and log-probability of every step, followed back from an output's end."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

__all__ = ["Trail"]

_FIRST = 32
"""Steps that there is room for at first."""


class Trail:
    """The attention weights of every step, the log-probability of each row before it, and the rows' origins.

    The origin of a row is the row of the step before that it goes on from.

    A hypothesis' weights are gathered only when it is given out: to carry those of all steps along with every live one
    would cost the square of the length. They lie in one buffer that doubles when it is full, since small blocks that
    stay, one a step, would keep the C library from using again the large ones that come and go between them: a sentence
    of 1,000 tokens then took gigabytes.
    """

    def __init__(self) -> None:
        self._steps = 0
        self._weights: Tensor | None = None
        self._origins: list[npt.NDArray[np.int32]] = []
        self._totals: list[npt.NDArray[np.float64]] = []

    def add(self, weights: Tensor | None, origins: Tensor, totals: Tensor) -> None:
        """Keep a step.

        Args:
            weights: (rows, S); None at every step where there is no attention.
            origins: (rows,) int64, the row of the step before that each goes on from; at the first step of no meaning.
            totals: (rows,) float64, the log-probability of what each row has written before this step.
        """
        if weights is not None:
            rows = len(weights)
            if self._weights is None or self._steps == len(self._weights) or rows > self._weights.shape[1]:
                self._grow(rows, weights)
            assert self._weights is not None
            self._weights[self._steps, :rows] = weights
        self._origins.append(origins.numpy().astype(np.int32))
        self._totals.append(totals.numpy())
        self._steps += 1

    def follow(self, step: int, row: int, length: int | None) -> Tensor | None:
        """The weights (step + 1, length) up to a step, counted from 0, of the hypothesis that one of its rows is."""
        if self._weights is None:
            return None
        rows = torch.from_numpy(self._rows(step, row))
        return self._weights[torch.arange(step + 1, device="cpu"), rows, :length]

    def gains(self, step: int, row: int, total: float) -> list[float]:
        """The log-probability (step + 1) of each token of the hypothesis that a row ends at a step.

        Args:
            total: its log-probability, the end included.
        """
        before = [self._totals[at][row] for at, row in enumerate(self._rows(step, row))]
        return [float(gain) for gain in np.diff(before, append=total)]

    def _rows(self, step: int, row: int) -> npt.NDArray[np.int64]:
        """The row that a hypothesis was in each step, from its row in the last."""
        rows = np.empty(step + 1, np.int64)
        for at in range(step, -1, -1):
            rows[at] = row
            row = self._origins[at][row]
        return rows

    def _grow(self, rows: int, like: Tensor) -> None:
        old = self._weights
        wide = rows if old is None else max(rows, old.shape[1])
        steps = _FIRST if old is None else max(2 * self._steps, _FIRST)
        weights = torch.empty((steps, wide, like.shape[1]), dtype=like.dtype, device="cpu")
        if old is not None:
            weights[: self._steps, : old.shape[1]] = old[: self._steps]
        self._weights = weights
