"""Made-up pairs whose right alignment is known: rows of letters, reversed or copied."""

from __future__ import annotations

import random
import string
from collections.abc import Collection

from ...data.parallel import Pair

__all__ = ["toy_pairs"]

LETTERS = string.ascii_lowercase
LONGEST = 12


def toy_pairs(kind: str, count: int, seed: int, without: Collection[Pair] = ()) -> list[Pair]:
    """Pairs of 1 to 12 random letters and the same letters backwards ("reverse") or as they are ("copy").

    Args:
        kind: reverse or copy.
        count: how many.
        seed: the same seed gives the same pairs.
        without: pairs that are left out.
    """
    choose = random.Random(seed)
    pairs: list[Pair] = []
    while len(pairs) < count:
        letters = choose.choices(LETTERS, k=choose.randint(1, LONGEST))
        pair = Pair(" ".join(letters), " ".join(letters[::-1] if kind == "reverse" else letters))
        if pair not in without:
            pairs.append(pair)
    return pairs
