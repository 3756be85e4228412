"""Where in a text, as it was given, each of its tokens stands."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from .tokenizer import Tokenizer

__all__ = ["Places", "token_places"]

Places = npt.NDArray[np.int64]
"""(tokens, 2): the first character of each token, counted from 0, and the first one after it."""


def token_places(tokenizer: Tokenizer, text: str, characters: Sequence[tuple[int, int]] | None = None) -> Places:
    """The place of each token of `tokenizer.encode(text)` in the text, of which the tokenizer reads a normal form.

    A token that is part of a character, as a byte is, has the place of the whole character.

    Args:
        tokenizer: of any kind.
        text: as it was given.
        characters: the place of each character of `text` in another text, from which `text` was made; None: `text`
            itself is the text that places are counted in.
    """
    if characters is None:
        characters = [(place, place + 1) for place in range(len(text))]
    normal: list[str] = []
    origins: list[tuple[int, int]] = []
    for start, stop in _pieces(text, tokenizer.normalize):
        normal.append(tokenizer.normalize(text[start:stop]))
        origins += [(characters[start][0], characters[stop - 1][1])] * len(normal[-1])
    written = "".join(normal).encode()
    # The character that each byte is part of.
    owner = np.repeat(np.arange(len(origins)), [len(character.encode()) for part in normal for character in part])
    found = np.zeros((0, 2), np.int64)
    places: list[tuple[int, int]] = []
    cursor = 0
    for token in tokenizer.text_bytes(text):
        # Between the tokens of words there are spaces.
        at = written.find(token, cursor)
        cursor = at + len(token)
        places.append((origins[owner[at]][0], origins[owner[cursor - 1]][1]))
    return np.array(places, np.int64) if places else found


def _pieces(text: str, normalize: Callable[[str], str]) -> list[tuple[int, int]]:
    """The smallest parts of a text that can be normalised one by one, or the whole text if they cannot."""
    cuts = [0] if text else []
    for place in range(1, len(text)):
        before, here = text[place - 1], text[place]
        if before.isascii() and here.isascii():
            if before == "\r" and here == "\n":
                continue
        elif unicodedata.combining(here):
            continue
        else:
            part = text[cuts[-1] : place]
            if normalize(part + here) != normalize(part) + normalize(here):
                continue
        cuts.append(place)
    pieces = list(pairwise([*cuts, len(text)])) if text else []
    if "".join(normalize(text[start:stop]) for start, stop in pieces) != normalize(text):
        return [(0, len(text))]
    return pieces
