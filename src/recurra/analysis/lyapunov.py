"""Lyapunov exponents of a recurrent layer: how fast small changes of its state grow or shrink in the long run."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.autograd import forward_ad

from ..errors import ConfigError
from .layer_steps import LayerSteps
from .log_norms import numbers

__all__ = ["LyapunovExponents", "lyapunov_exponents"]


@dataclass(frozen=True)
class LyapunovExponents:
    """The largest exponents.

    Attributes:
        exponents: (k, B), in nats per step, the largest first: a change of the state grows by exp(exponent) a step,
            and one of -inf is wiped out. Below zero the layer forgets how it began; above zero it is chaotic.
        steps: over how many steps after the warm-up.
    """

    exponents: npt.NDArray[np.float64]
    steps: int


def lyapunov_exponents(
    steps: LayerSteps, count: int = 1, *, warm_up: int | None = None, seed: int = 0
) -> LyapunovExponents:
    """The `count` largest Lyapunov exponents of the whole state, of an LSTM h and c together.

    Tangent vectors are pushed through each step by forward-mode derivatives and made orthonormal again by a QR
    decomposition, in the warm-up too, so that they have turned into the directions of growth before anything is
    counted; an exponent is the mean of log |R_ii| (Benettin et al. 1980, Meccanica 15, part 2; for LSTMs and GRUs
    Vogt et al. 2022, arXiv:2006.14123).

    Args:
        steps: of a layer; the longer, the nearer to the limit that an exponent is.
        count: k, at most the width of the state.
        warm_up: how many steps come before those that are counted; None: a tenth of all.
        seed: of the first tangent vectors.

    Raises:
        ConfigError: if k is more than the state has, or no step is left after the warm-up.
    """
    size = sum(steps.widths)
    if not 1 <= count <= size:
        raise ConfigError(f"exponents: a state of {size:,} units has from 1 to {size:,}, not {count:,}.")
    skipped = steps.length // 10 if warm_up is None else warm_up
    if not 0 <= skipped < steps.length:
        raise ConfigError(f"warm_up: must be from 0 to below the {steps.length:,} steps, not {skipped:,}.")
    batch, generator = steps.batch, torch.Generator().manual_seed(seed)
    first = torch.randn(batch, size, count, generator=generator, dtype=torch.float64).to(steps.input)
    tangents = torch.linalg.qr(first)[0]
    total = first.new_zeros((batch, count))
    with torch.no_grad():
        for t, product in enumerate(steps.products.unbind(0)):
            pushed = _pushed(steps, product, steps.vectors[t], tangents)
            tangents, upper = torch.linalg.qr(pushed)
            if t >= skipped:
                total += upper.diagonal(dim1=-2, dim2=-1).abs().log()
    counted = steps.length - skipped
    # The QR decomposition keeps the order of the vectors, and so the largest exponent comes first but for short runs.
    exponents = (total / counted).sort(dim=-1, descending=True).values
    return LyapunovExponents(numbers(exponents.T), counted)


def _pushed(steps: LayerSteps, product: Tensor, vector: Tensor, tangents: Tensor) -> Tensor:
    """The step's Jacobian times the tangent vectors, (B, S, k), all vectors as rows of one batch."""
    count = tangents.shape[-1]
    rows = tangents.transpose(1, 2).reshape(-1, tangents.shape[1])
    with forward_ad.dual_level():
        dual = forward_ad.make_dual(vector.repeat_interleave(count, 0), rows)
        new = steps.step_vector(product.repeat_interleave(count, 0), dual)
        moved = forward_ad.unpack_dual(new).tangent
    if moved is None:
        moved = torch.zeros_like(rows)
    return moved.reshape(-1, count, rows.shape[1]).transpose(1, 2)
