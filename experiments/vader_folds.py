"""The five folds of the VADER sentences that every result on them uses, and the reader of their two files.

    from vader_folds import folds, read_ratings

    sentences = read_ratings(path)
    fold = folds([sentence.group for sentence in sentences])

The files have no split of their own, so each fold is the test part once. A film sentence is a review of its own; the
product sentences come from 300 reviews, and those of one review stay together, or a model would be asked about reviews
that it has read parts of.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

__all__ = ["FOLDS", "SEED", "Sentence", "folds", "read_ratings"]

FOLDS, SEED = 5, 1


class Sentence(NamedTuple):
    """One sentence and what its raters said.

    Attributes:
        id: the file's own, such as 17, or 117_3 for the third sentence of review 117.
        rating: the mean of at least 20 raters, between -4 and 4. Its sign gives two classes.
        text: the sentence.
        group: the review that it comes from.
    """

    id: str
    rating: float
    text: str
    group: str


def read_ratings(path: Path) -> list[Sentence]:
    """The sentences of movieReviewSnippets_GroundTruth.txt or amazonReviewSnippets_GroundTruth.txt, in their order."""
    sentences = []
    # Only \n ends a line: some texts hold other signs that Python counts as ends of lines.
    for number, line in enumerate(path.read_bytes().decode("utf-8").split("\n"), start=1):
        if not line.strip():
            continue
        fields = line.rstrip("\r").split("\t")
        if len(fields) != 3:
            raise SystemExit(f"{path.name}, line {number}: {len(fields)} fields; expected id, mean rating and text.")
        name, rating, text = fields
        sentences.append(Sentence(name, float(rating), text, name.partition("_")[0]))
    return sentences


def folds(groups: Sequence[str], count: int = FOLDS, seed: int = SEED) -> list[int]:
    """The fold of each sentence, from the name of each sentence's group.

    Groups come in the order of the SHA-256 of seed:name, which looks random and is the same for everyone, whatever the
    language or version. Each goes to the fold that has fewest sentences so far, and of equals to the first.
    """
    sizes = Counter(groups)
    filled = [0] * count
    fold_of: dict[str, int] = {}
    for group in sorted(sizes, key=lambda name: hashlib.sha256(f"{seed}:{name}".encode()).digest()):
        fold_of[group] = filled.index(min(filled))
        filled[fold_of[group]] += sizes[group]
    return [fold_of[group] for group in groups]
