"""How far recognised texts are from what was said or written: errors in words and in characters."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from typing import NamedTuple

import numpy as np

__all__ = ["ErrorRates", "edit_distance", "error_counts", "error_rates", "right_words"]


class ErrorRates(NamedTuple):
    """Of a list of texts; a rate may be above 1, because words may be added.

    Attributes:
        words: word error rate: words that must be changed, left out or added, over all words of the references.
        characters: character error rate: the same of characters, the spaces between words among them.
        exact: share of the texts that have no error.
    """

    words: float
    characters: float
    exact: float


def edit_distance(reference: Sequence[Hashable], hypothesis: Sequence[Hashable]) -> int:
    """The fewest items to change, leave out and add until a hypothesis is its reference (Levenshtein 1966)."""
    numbers: dict[Hashable, int] = {}
    wanted, found = (
        np.array([numbers.setdefault(item, len(numbers)) for item in side], np.int64)
        for side in (reference, hypothesis)
    )
    places = np.arange(len(found) + 1)
    row = places
    for number, item in enumerate(wanted, start=1):
        row = _next_row(row, number, item != found, places)
    return int(row[-1])


def right_words(reference: Sequence[Hashable], hypothesis: Sequence[Hashable]) -> list[bool]:
    """Of each item of a hypothesis, whether an alignment of fewest errors has an equal item of the reference there.

    Of several such alignments always the same one is taken.
    """
    places = np.arange(len(hypothesis) + 1)
    rows = [places]
    for number, item in enumerate(reference, start=1):
        rows.append(_next_row(rows[-1], number, np.array([item != each for each in hypothesis], bool), places))
    right = [False] * len(hypothesis)
    up, across = len(reference), len(hypothesis)
    while up and across:
        wrong = int(reference[up - 1] != hypothesis[across - 1])
        if rows[up][across] == rows[up - 1][across - 1] + wrong:
            up, across = up - 1, across - 1
            right[across] = not wrong
        elif rows[up][across] == rows[up][across - 1] + 1:
            across -= 1
        else:
            up -= 1
    return right


def error_counts(references: Iterable[str], hypotheses: Iterable[str]) -> np.ndarray:
    """Of each text (texts, 5): errors in words, words, errors in characters, characters, and 1 if there is an error.

    Words are parted by white space, of which single spaces count as characters.
    """
    rows = []
    for reference, hypothesis in zip(references, hypotheses, strict=True):
        wanted, found = reference.split(), hypothesis.split()
        spelt, written = " ".join(wanted), " ".join(found)
        errors = edit_distance(wanted, found), edit_distance(spelt, written)
        rows.append([errors[0], len(wanted), errors[1], len(spelt), int(spelt != written)])
    return np.array(rows, np.float64).reshape(-1, 5)


def error_rates(references: Iterable[str], hypotheses: Iterable[str]) -> ErrorRates:
    """The error rates of texts; where no reference has a word, each word that was added counts as one whole error."""
    counts = error_counts(references, hypotheses)
    words, all_words, characters, all_characters, wrong = counts.sum(axis=0).tolist()
    return ErrorRates(
        words / max(1.0, all_words), characters / max(1.0, all_characters), 1.0 - wrong / max(1, len(counts))
    )


def _next_row(row: np.ndarray, number: int, wrong: np.ndarray, places: np.ndarray) -> np.ndarray:
    """The distances of all beginnings of the hypothesis to a beginning of the reference that is an item longer."""
    best = np.concatenate([[number], np.minimum(row[:-1] + wrong, row[1:] + 1)])
    # An added item costs 1, so a minimum of costs less their places goes over all numbers of added items at once.
    found: np.ndarray = np.minimum.accumulate(best - places) + places
    return found
