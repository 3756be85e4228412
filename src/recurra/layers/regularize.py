"""The random masks of recurrent regularisation."""

from __future__ import annotations

from torch import Tensor

__all__ = ["keep_mask", "locked_mask"]


def locked_mask(like: Tensor, p: float, shape: tuple[int, ...]) -> Tensor:
    """A dropout mask of 0 and 1/(1-p), drawn once for all steps of a sequence (Gal & Ghahramani 2016).

    Args:
        like: gives dtype and device.
        p: probability of 0.
        shape: of the mask.
    """
    return like.new_empty(shape).bernoulli_(1 - p).div_(1 - p)


def keep_mask(like: Tensor, p: float, shape: tuple[int, ...]) -> Tensor:
    """A zoneout mask, True with probability p, where a unit keeps its old value (Krueger et al. 2017)."""
    return like.new_empty(shape).bernoulli_(p).bool()
