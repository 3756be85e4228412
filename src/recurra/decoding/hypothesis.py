"""What a search over output sequences works with: one step of a model, and the hypotheses that it finds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from .state import State

__all__ = ["Hypothesis", "Step", "StepOutput", "length_penalty", "penalized_score"]


class StepOutput(NamedTuple):
    """What one step gives for N rows.

    Attributes:
        log_probabilities: (N, V) of the next token; may be written over.
        state: after the step.
        weights: (N, S), where the step attended, or None.
    """

    log_probabilities: Tensor
    state: State
    weights: Tensor | None = None


Step = Callable[[Tensor, State], StepOutput]
"""Read one token a row, (N,) int64, from a state of N rows."""


class Hypothesis(NamedTuple):
    """A whole output.

    Attributes:
        tokens: without the end.
        log_probability: natural logarithm of P(tokens and end), in nats.
        score: what hypotheses are ranked by.
        weights: (tokens + 1, S) on the CPU, where each step attended, the end's included; None without attention.
        gains: the natural logarithm of each token's probability after those before it, the end's included.
    """

    tokens: list[int]
    log_probability: float
    score: float
    weights: Tensor | None = None
    gains: Sequence[float] = ()


def length_penalty(length: int, alpha: float) -> float:
    """((5 + length) / 6)^alpha, by which a log-probability is divided (Wu et al. 2016, equation 14).

    Args:
        length: in tokens, the end included.
        alpha: 0 leaves log-probabilities as they are; 1 comes close to the mean a token.
    """
    return float(((5.0 + length) / 6.0) ** alpha)


def penalized_score(
    log_probability: float, length: int, weights: Tensor | None, length_alpha: float, coverage_beta: float
) -> float:
    """What hypotheses are ranked by (Wu et al. 2016, equation 14).

    log P / length_penalty + beta * sum_i log(min(sum_j w_ij, 1)) over source positions i and steps j.

    Args:
        log_probability: of the whole output, in nats.
        length: in tokens, the end included.
        weights: (length, S), where each step attended; None without attention, and then nothing is said of coverage.
        length_alpha: see `length_penalty`.
        coverage_beta: the weight of the second term; 0: none.
    """
    score = log_probability / length_penalty(length, length_alpha)
    if coverage_beta and weights is not None:
        attended = weights.double().sum(0).clamp(min=torch.finfo(torch.float32).tiny, max=1.0)
        score += coverage_beta * float(attended.log().sum())
    return score
