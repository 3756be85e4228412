"""Attention weights of tokens as alignments of words, in the form of the Pharaoh decoder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["align_words", "pharaoh", "word_places", "word_weights"]


def align_words(
    weights: npt.NDArray[np.floating[Any]],
    source: str,
    source_pieces: Sequence[str],
    target: str,
    target_pieces: Sequence[str],
) -> list[tuple[int, int]]:
    """Which source word each target word attends to most, as `pharaoh` gives it.

    Args:
        weights: (target tokens, source tokens), ends left out.
        source, target: normalised sentences; white space parts their words.
        source_pieces, target_pieces: the text of each token.
    """
    places = [
        word_places(" ".join(text.split()), pieces)
        for text, pieces in ((source, source_pieces), (target, target_pieces))
    ]
    return pharaoh(word_weights(weights, *places))


def word_places(text: str, pieces: Sequence[str]) -> list[int | None]:
    """Which word of a text, counted between white space from 0, each token belongs to; None: white space alone.

    Args:
        text: normalised, with single spaces and none at its ends.
        pieces: the text of each token in order. Where tokens hold the white space themselves, they alone tell; where
            none does, as with word tokens, they are looked up in the text.
    """
    if any(piece != piece.strip() for piece in pieces):
        return _places_by_spaces(pieces)
    places: list[int | None] = []
    cursor = 0
    for piece in pieces:
        found = text.find(piece, cursor)
        # What the text does not hold, such as an unknown token, goes with the word before it.
        if found < 0 or not piece:
            places.append(places[-1] if places else 0)
            continue
        places.append(text[:found].count(" "))
        cursor = found + len(piece)
    return places


def _places_by_spaces(pieces: Sequence[str]) -> list[int | None]:
    places: list[int | None] = []
    word, begins = -1, True
    for piece in pieces:
        if not piece.strip():
            begins = True
            places.append(None)
            continue
        word += begins or piece[0].isspace()
        begins = piece[-1].isspace()
        places.append(word)
    return places


def word_weights(
    weights: npt.NDArray[np.floating[Any]], source_places: Sequence[int | None], target_places: Sequence[int | None]
) -> npt.NDArray[np.floating[Any]]:
    """Weights between words: over a source word's tokens they add up, over a target word's they are averaged.

    Args:
        weights: (target tokens, source tokens), ends left out.
        source_places, target_places: as `word_places` gives them.

    Returns:
        (target words, source words).
    """
    source_words = max((place for place in source_places if place is not None), default=-1) + 1
    target_words = max((place for place in target_places if place is not None), default=-1) + 1
    summed = np.zeros((len(target_places), source_words))
    for column, place in enumerate(source_places):
        if place is not None:
            summed[:, place] += weights[:, column]
    result = np.zeros((target_words, source_words))
    counts = np.zeros(target_words)
    for row, place in enumerate(target_places):
        if place is not None:
            result[place] += summed[row]
            counts[place] += 1
    return result / np.maximum(counts, 1)[:, None]


def pharaoh(weights: npt.NDArray[np.floating[Any]]) -> list[tuple[int, int]]:
    """(source word, target word) for each target word, the source word being the one that it attends to most.

    Args:
        weights: (target words, source words), as `word_weights` gives them.
    """
    if not weights.size:
        return []
    return [(int(row.argmax()), target) for target, row in enumerate(weights) if row.any()]
