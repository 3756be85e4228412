"""How much a loss at the end depends on the states of earlier steps: the gradients of all states, read at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ..errors import ConfigError
from .layer_steps import LayerSteps
from .log_norms import log_norm, numbers

__all__ = ["GradientFlow", "gradient_flow", "lag_norms", "random_projection"]


@dataclass(frozen=True)
class GradientFlow:
    """|dL/ds| for every state s of every step.

    It is the whole derivative: through all later steps, and for a state that another state of the same step is made of,
    such as an LSTM's c_t, through that state too. So |dL/dc_t| counts c_t -> h_t, as the equations of backpropagation
    through time do (Greff et al. 2015, arXiv:1503.04069, section on the backward pass); but not with zoneout, which
    mixes old and new values of each state after h_t has been made of c_t.

    Attributes:
        log_norms: for each state of the cell (T+1, B), the natural logarithm of the Euclidean norm, by the lag, which
            is the number of steps from the state to the last one: place 0 is the state after the last step, place T
            the state before the first. -inf where the gradient is exactly zero, which in float64 is below 5e-324.
    """

    log_norms: Mapping[str, npt.NDArray[np.float64]]


def random_projection(steps: LayerSteps, seed: int = 0) -> Callable[[Tensor], Tensor]:
    """L = u . h_T, summed over the sequences, with a random direction u of length one for each.

    The mean of |dL/dh_t|^2 over all directions u is the squared Frobenius norm of dh_T/dh_t over the width of h.

    Args:
        steps: whose h is projected.
        seed: of the directions.
    """
    generator = torch.Generator().manual_seed(seed)
    direction = torch.randn(steps.batch, steps.widths[0], generator=generator, dtype=torch.float64)
    direction = (direction / direction.norm(dim=-1, keepdim=True)).to(steps.input)

    def loss(outputs: Tensor) -> Tensor:
        return (direction * outputs[-1]).sum()

    return loss


def gradient_flow(steps: LayerSteps, loss: Callable[[Tensor], Tensor] | None = None, *, seed: int = 0) -> GradientFlow:
    """The gradients of a loss with respect to every state, exact, in one forward and one backward pass.

    Args:
        steps: of a layer.
        loss: from h of all steps, (T, B, H), to a scalar; one that sums over the sequences gives each sequence its own
            gradient. None: a random projection of the last h, see `random_projection`.
        seed: of the random projection.

    Raises:
        ConfigError: if the states or the gradients overflow.
    """
    states = tuple(state.detach().requires_grad_() for state in steps.first)
    kept = [states]
    with torch.enable_grad():
        for product in steps.products.unbind(0):
            states = steps.step(product, states)
            kept.append(states)
        value = (loss or random_projection(steps, seed))(torch.stack([each[0] for each in kept[1:]]))
        wanted = [state for each in kept for state in each]
        gradients = torch.autograd.grad(value, wanted, allow_unused=True)
    if not bool(value.isfinite()) or any(each is not None and not each.isfinite().all() for each in gradients):
        raise ConfigError(
            f"the states or gradients of the layer overflow within {steps.length:,} steps; look at fewer lags, or at "
            "smaller weights."
        )
    count = len(steps.first)
    return GradientFlow(
        {name: lag_norms(wanted[i::count], gradients[i::count]) for i, name in enumerate(steps.cell.states)}
    )


def lag_norms(states: list[Tensor], gradients: tuple[Tensor | None, ...]) -> npt.NDArray[np.float64]:
    """(steps, B) logarithms of the norms of one state's gradients, the last step first.

    Args:
        states: (B, H) of each step.
        gradients: of each step; None where the loss does not depend on the state.
    """
    found = [
        torch.zeros_like(state) if gradient is None else gradient
        for state, gradient in zip(states, gradients, strict=True)
    ]
    return numbers(log_norm(torch.stack(found[::-1])))
