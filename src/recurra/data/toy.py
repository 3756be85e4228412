"""Made-up pairs whose right alignment is known: rows of letters, reversed or copied."""

from __future__ import annotations

import random
import string

from .parallel import Pair

__all__ = ["toy_pairs"]

LETTERS = string.ascii_lowercase
LONGEST = 12


def toy_pairs(kind: str, count: int, seed: int) -> list[Pair]:
    """Pairs of 1 to 12 random letters and the same letters backwards ("reverse") or as they are ("copy").

    Args:
        kind: reverse or copy.
        count: how many.
        seed: the same seed gives the same pairs.
    """
    choose = random.Random(seed)
    pairs = []
    for _ in range(count):
        letters = choose.choices(LETTERS, k=choose.randint(1, LONGEST))
        pairs.append(Pair(" ".join(letters), " ".join(letters[::-1] if kind == "reverse" else letters)))
    return pairs
