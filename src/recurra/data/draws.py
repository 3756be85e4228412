"""Random numbers for one example in one epoch, so that a resumed training draws what it would have drawn."""

from __future__ import annotations

import zlib

import numpy as np

__all__ = ["draws"]


def draws(seed: int, epoch: int, example: int, purpose: str) -> np.random.Generator:
    """A generator of its own for each example, epoch and purpose.

    Nothing that is drawn elsewhere moves it: the order of the examples, the number of processes, and whether another
    augmentation is on.

    Args:
        seed, epoch, example: 0 or more.
        purpose: a name, such as "noise".
    """
    return np.random.default_rng((seed, epoch, example, zlib.crc32(purpose.encode())))
