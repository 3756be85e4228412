"""The Jacobian of the last state with respect to earlier ones: everything that the recurrence can carry."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ..errors import ConfigError
from .layer_steps import LayerSteps
from .log_norms import log_norm, log_spectral_norm, numbers

__all__ = ["WIDEST_STATE", "JacobianNorms", "jacobian_norms", "looked_at"]

WIDEST_STATE = 4096
"""The most units of all states together whose Jacobian is computed; it has the square of it."""


@dataclass(frozen=True)
class JacobianNorms:
    """Norms of d(state after step T)/d(state after step t), with the inputs held fixed, as natural logarithms.

    A large gradient of the weights can hide a vanished flow, because the latest steps alone may make it large. These
    norms cannot: they bound the gradient that any loss at the end sends back to step t.

    The states of a step are taken as independent of one another here: a change of c_t leaves h_t as it is.

    Attributes:
        h_frobenius: (T+1, B) for dh_T/dh_t, by the lag T - t from 0 on.
        state_frobenius: (T+1, B) for the whole state, of an LSTM d(h_T, c_T)/d(h_t, c_t).
        spectral_lags: the lags at which the spectral norm, the largest singular value, was computed.
        h_spectral, state_spectral: (lags, B) at these lags.
    """

    h_frobenius: npt.NDArray[np.float64]
    state_frobenius: npt.NDArray[np.float64]
    spectral_lags: tuple[int, ...]
    h_spectral: npt.NDArray[np.float64]
    state_spectral: npt.NDArray[np.float64]


def looked_at(length: int, count: int = 48) -> list[int]:
    """Lags from 0 to `length`, about `count` of them, closer to one another where they are small."""
    spaced = np.unique(np.geomspace(1, max(length, 1), count).round().astype(int))
    return [0, *[int(lag) for lag in spaced if lag <= length]]


def jacobian_norms(steps: LayerSteps, spectral_lags: Sequence[int] | None = None) -> JacobianNorms:
    """The norms at all lags.

    The Jacobians of the steps are multiplied from the last step back, J_T J_T-1 ... J_t+1, and the product is divided
    by its largest number after each factor, whose logarithm is kept: the norms neither underflow nor overflow.

    Args:
        steps: of a layer; takes time and memory with the square of its state's width S.
        spectral_lags: where to compute the spectral norm, which takes a singular value decomposition each; None: some
            50 lags.

    Raises:
        ConfigError: if the state has more than `WIDEST_STATE` units.
    """
    size, width, length = sum(steps.widths), steps.widths[0], steps.length
    if size > WIDEST_STATE:
        raise ConfigError(f"a state of {size:,} units has too large a Jacobian; at most {WIDEST_STATE:,} can be had.")
    wanted = sorted({lag for lag in (looked_at(length) if spectral_lags is None else spectral_lags) if lag <= length})
    product = torch.eye(size, dtype=steps.input.dtype).repeat(steps.batch, 1, 1).to(steps.input.device)
    scale = product.new_zeros(steps.batch)
    frobenius: list[tuple[Tensor, Tensor]] = []
    spectral: list[tuple[Tensor, Tensor]] = []

    def look(lag: int) -> None:
        of_h = product[:, :width, :width]
        frobenius.append((log_norm(of_h, (-2, -1)) + scale, log_norm(product, (-2, -1)) + scale))
        if lag in wanted:
            spectral.append((log_spectral_norm(of_h) + scale, log_spectral_norm(product) + scale))

    look(0)
    for t, jacobian in steps.jacobians():
        product = product @ jacobian
        largest = product.abs().amax((-2, -1))
        largest = torch.where(largest > 0, largest, torch.ones_like(largest))
        product = product / largest[:, None, None]
        scale = scale + largest.log()
        look(length - t)
    h, state = (numbers(torch.stack(each)) for each in zip(*frobenius, strict=True))
    h_spectral, state_spectral = (numbers(torch.stack(each)) for each in zip(*spectral, strict=True))
    return JacobianNorms(h, state, tuple(wanted), h_spectral, state_spectral)
