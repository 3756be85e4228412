"""What clipping by the norm does to the gradient of recurrent weights, and what the single steps contribute to it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ..errors import ConfigError
from ..kernels.known_cells import register
from ..kernels.reference import Stepper
from .flow import random_projection
from .layer_steps import LayerSteps
from .log_norms import log_norm, numbers

__all__ = ["ClippedGradient", "clipped_gradient"]

_MOST_NUMBERS = 1 << 26
# What is less than this share of a sum is lost when float32 adds it.
_ROUNDING = 2.0**-24


@dataclass(frozen=True)
class ClippedGradient:
    """dL/dW of `weight_hh`, the sum of what each step contributes, before and after clipping (Pascanu et al. 2013).

    Clipping multiplies the sum by one factor (arXiv:1211.5063, section 3.2), so it bounds the length of a training step
    and leaves the direction as it is: the steps' shares of the sum are the same before and after.

    Attributes:
        max_norm: that it is clipped to.
        log_norm_before: the natural logarithm of the norm before; a product of many steps may be large.
        norm_after: min(norm before, max_norm).
        log_factor: the natural logarithm of what it is multiplied by; 0: it is left as it is.
        log_contributions: (T,) the natural logarithm of the norm of each step's contribution before clipping, by the
            lag from 0, the last step.
        surviving: the share of the steps whose contribution has at least 2^-24 of the norm of the sum. What is smaller
            changes nothing when the contributions are added in float32.
        steps_of_half: how many steps, the largest contributions first, have half of the sum of all norms.
    """

    max_norm: float
    log_norm_before: float
    norm_after: float
    log_factor: float
    log_contributions: npt.NDArray[np.float64]
    surviving: float
    steps_of_half: int


def clipped_gradient(
    steps: LayerSteps, max_norm: float, loss: Callable[[Tensor], Tensor] | None = None, *, seed: int = 0
) -> ClippedGradient:
    """Clip the gradient of a layer's `weight_hh`; the loss is the mean over the sequences.

    Args:
        steps: of a layer.
        max_norm: the norm to clip to, above 0.
        loss, seed: as for `gradient_flow`.

    Raises:
        ConfigError: if the norm is not above 0, the gradient overflows, or the gradients of all steps together are too
            many numbers.
    """
    if not max_norm > 0:
        raise ConfigError(f"clip_norm: must be above 0, not {max_norm}.")
    weight = steps.weights["weight_hh"]
    if steps.length * weight.numel() > _MOST_NUMBERS:
        raise ConfigError(
            f"clip_norm: {steps.length:,} steps of {weight.numel():,} recurrent weights are too many to be kept apart; "
            "look at fewer lags or units."
        )
    states, copies, outputs = steps.first, [], []
    with torch.enable_grad():
        for product in steps.products.unbind(0):
            # The same numbers as a leaf of its own, whose gradient is what this step contributes.
            copies.append(weight.detach().requires_grad_())
            stepper = Stepper(steps.cell, {**steps.weights, "weight_hh": copies[-1]}, register(steps.cell))
            states = steps.step(product, states, stepper)
            outputs.append(states[0])
        value = (loss or random_projection(steps, seed))(torch.stack(outputs)) / steps.batch
        gradients = torch.stack(torch.autograd.grad(value, copies))
    total = float(log_norm(gradients.sum(0), (-2, -1)))
    contributions = numbers(log_norm(gradients, (-2, -1)))[::-1].copy()
    if not np.isfinite(total) and total != -np.inf:
        raise ConfigError(f"the gradient overflows within {steps.length:,} steps; look at fewer lags.")
    log_factor = min(0.0, float(np.log(max_norm)) - total)
    sizes = np.sort(np.exp(contributions - contributions.max()))[::-1] if np.isfinite(total) else np.zeros(0)
    return ClippedGradient(
        max_norm,
        total,
        float(np.exp(total + log_factor)),
        log_factor,
        contributions,
        float((contributions >= total + np.log(_ROUNDING)).mean()) if np.isfinite(total) else 0.0,
        int(np.searchsorted(sizes.cumsum(), sizes.sum() / 2) + 1) if len(sizes) else 0,
    )
