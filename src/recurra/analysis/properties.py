"""What can be said of each token of a text without a model, to find units that follow it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from ..data.places import Places
from ..data.words import continues_word
from .recording import SideRecord

__all__ = ["BUILT_IN", "Property", "properties"]


@dataclass(frozen=True)
class Property:
    """A number or a yes or no for each token.

    Attributes:
        name: such as "quotes".
        values: (T,), NaN where it says nothing; a yes is 1 and a no 0.
        yes_no: whether there is nothing else than yes and no.
    """

    name: str
    values: npt.NDArray[np.float64]
    yes_no: bool


def _place_in_line(text: str) -> npt.NDArray[np.float64]:
    place, found = 0, []
    for character in text:
        place = 0 if character in "\r\n" else place + 1
        found.append(place)
    return np.array(found, np.float64)


def _quotes(text: str) -> npt.NDArray[np.float64]:
    closing = {"“": "”", "„": "“”", "«": "»", '"': '"', "「": "」", "『": "』"}
    ends, found, before = "", [], ""
    for character in text:
        if ends and (character in ends or (character == "\n" and before == "\n")):
            ends = ""
        elif not ends:
            ends = closing.get(character, "")
        found.append(bool(ends))
        before = character if character != "\r" else before
    return np.array(found, np.float64)


def _brackets(text: str) -> npt.NDArray[np.float64]:
    depth, found = 0, []
    for character in text:
        depth = max(depth + (character in "([{（［｛") - (character in ")]}）］｝"), 0)
        found.append(depth)
    return np.array(found, np.float64)


def _spaces(text: str) -> npt.NDArray[np.float64]:
    return np.array([character.isspace() for character in text], np.float64)


def _word_starts(text: str) -> npt.NDArray[np.float64]:
    inside = [continues_word(character) for character in text]
    return np.array([here and not before for before, here in zip([False, *inside], inside, strict=False)], np.float64)


@dataclass(frozen=True)
class _Kind:
    of: Callable[[str], npt.NDArray[np.float64]]
    yes_no: bool
    anywhere: bool
    about: str


_KINDS = {
    "line": _Kind(_place_in_line, False, False, "characters since the last line end"),
    "quotes": _Kind(_quotes, True, False, "inside quotation marks; an empty line ends them too"),
    "brackets": _Kind(_brackets, False, False, "how many brackets are open"),
    "spaces": _Kind(_spaces, True, False, "the token ends with white space"),
    "word-starts": _Kind(_word_starts, True, True, "a word begins in the token"),
}

BUILT_IN = {name: kind.about for name, kind in _KINDS.items()}
"""The properties that need nothing but the text, and what they say."""


def properties(side: SideRecord, names: list[str]) -> list[Property]:
    """Built-in properties of each token of a text, as they are once the token has been read.

    A token has the value of its last character; "word-starts" is a yes if any of its characters begins a word.
    """
    found = []
    for name in names:
        kind = _KINDS[name]
        of_characters = np.concatenate([kind.of(text) for text in _texts(side)])
        reduce = np.max if kind.anywhere else _last
        found.append(Property(name, _of_tokens(of_characters, side.places, reduce), kind.yes_no))
    return found


def _texts(side: SideRecord) -> list[str]:
    """The texts of a side one by one, so that nothing is carried from a text to the next one."""
    begins = [0, *(int(side.places[start, 0]) for start in side.starts[1:]), len(side.text)]
    return [side.text[start:stop] for start, stop in pairwise(begins)]


def _last(values: npt.NDArray[np.float64]) -> float:
    return float(values[-1])


def _of_tokens(
    values: npt.NDArray[np.float64], places: Places, reduce: Callable[[npt.NDArray[np.float64]], float]
) -> npt.NDArray[np.float64]:
    # A token of no characters, such as a space before a text, is as the character that follows.
    spans = ((min(start, len(values) - 1), stop) for start, stop in places.tolist())
    return np.array([reduce(values[start : max(stop, start + 1)]) for start, stop in spans], np.float64)
