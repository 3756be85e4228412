"""Norms as natural logarithms, which neither underflow nor overflow, and their mean over several sequences."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

__all__ = ["FLOAT32_NOTHING", "Averaged", "averaged", "log_norm", "log_spectral_norm", "numbers"]

FLOAT32_NOTHING = -150 * math.log(2)
"""The logarithm of half of float32's smallest positive number: a vector whose norm is below it is zero in float32."""


@dataclass(frozen=True)
class Averaged:
    """Norms of several sequences at each lag, taken together.

    Attributes:
        log_mean: the mean of the natural logarithms, that is the logarithm of the geometric mean; -inf where the norm
            of any sequence is exactly zero, NaN where no sequence has this lag.
        log_spread: the sample standard deviation of the logarithms, zero for one sequence; NaN where a norm is zero.
        log_median: the median of the logarithms.
    """

    log_mean: npt.NDArray[np.float64]
    log_spread: npt.NDArray[np.float64]
    log_median: npt.NDArray[np.float64]


def averaged(logs: npt.NDArray[np.float64]) -> Averaged:
    """Means over the sequences.

    Args:
        logs: (lags, sequences) natural logarithms; NaN where a sequence has no such lag.
    """
    lags = len(logs)
    mean, spread, median = (np.full(lags, np.nan) for _ in range(3))
    for lag, row in enumerate(logs):
        known = row[~np.isnan(row)]
        if not len(known):
            continue
        median[lag] = np.median(known)
        mean[lag] = -np.inf if np.isneginf(known).any() else known.mean()
        if np.isfinite(mean[lag]):
            spread[lag] = known.std(ddof=1) if len(known) > 1 else 0.0
    return Averaged(mean, spread, median)


def log_norm(values: Tensor, dims: int | tuple[int, ...] = -1) -> Tensor:
    """The natural logarithm of the Euclidean norm over some dimensions; -inf for zeros.

    The values are divided by the largest of them first, because the squares of small numbers underflow.
    """
    largest = values.abs().amax(dims, keepdim=True)
    safe = torch.where(largest > 0, largest, torch.ones_like(largest))
    shape = torch.linalg.vector_norm(values / safe, dim=dims)
    return shape.log() + safe.log().reshape(shape.shape)


def log_spectral_norm(matrices: Tensor) -> Tensor:
    """The natural logarithm of the largest singular value of (..., N, M); -inf for zeros."""
    largest = matrices.abs().amax((-2, -1), keepdim=True)
    safe = torch.where(largest > 0, largest, torch.ones_like(largest))
    return torch.linalg.matrix_norm(matrices / safe, ord=2).log() + safe.log()[..., 0, 0]


def numbers(values: Tensor) -> npt.NDArray[np.float64]:
    """A tensor as NumPy's doubles."""
    return np.asarray(values.detach().cpu().double())
