"""What a word is, in any script: one definition for word tokens and for the search for a next word.

A word is a run of letters, digits and underscores with the marks that follow them (vowel signs, accents), with
apostrophes inside (don't) and points inside numbers (3.14). A Han ideograph is a word of its own, as those texts have
no spaces. Any other character that is not white space is a symbol, with its variation selectors, skin tones and the
emoji that a zero-width joiner ties to it.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Hashable, Iterable
from functools import cache
from itertools import groupby
from typing import Generic, TypeVar

__all__ = [
    "LIBRARY_HAN",
    "LIBRARY_WORD",
    "UNKNOWN",
    "BoundedCounter",
    "continues_word",
    "count_bounded",
    "han_pattern",
    "is_spaceless",
    "joins_tightly",
    "unit_pattern",
    "word_pattern",
]

UNKNOWN = "<unk>"
"""What stands in a vocabulary for all that it does not hold."""

_HAN = "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_JOINERS = "\u200c\u200d\U0001f3fb-\U0001f3ff"
_FLAG = "[\U0001f1e6-\U0001f1ff]{2}"


def _pattern(letter: str, extend: str, space: str) -> str:
    word = f"[{letter}][{letter}{extend}]*"
    words = f"{word}(?:(?:['’]|(?<=[0-9])[.,](?=[0-9])){word})*"
    symbol = f"[^{letter}{space}][{extend}]*"
    return f"\n|{words}|{_FLAG}|{symbol}(?:(?<=\u200d){symbol})*"


# The same patterns for the tokenizers library, whose \s lacks the four information separators that Python's has.
LIBRARY_WORD = _pattern(r"\p{L}\p{N}_", r"\p{M}" + _JOINERS, "\\s\x1c-\x1f")
LIBRARY_HAN = rf"[{_HAN}][\p{{M}}{_JOINERS}]*"

_NO_SPACE_BEFORE = frozenset(".,;:!?)]}%…’”»›、。，．：；！？）］｝」』】》〉،؛؟۔।॥")
_NO_SPACE_AFTER = frozenset("([{“‘«‹¡¿$£€#@（［｛「『【《〈")
_SPACELESS = (
    ("\u3000", "\u30ff"),
    ("\u3400", "\u4dbf"),
    ("\u4e00", "\u9fff"),
    ("\uf900", "\ufaff"),
    ("\uff00", "\uffef"),
    ("\U00020000", "\U0003ffff"),
)
_TIGHT = frozenset("-/~^\\·")

_Counted = TypeVar("_Counted", bound=Hashable)


@cache
def _extend() -> str:
    """A character class of all combining marks and joiners; Python's `re` has no class for marks."""
    marks = [code for code in (*range(0x20000), *range(0xE0000, 0xE0200)) if unicodedata.category(chr(code))[0] == "M"]
    ranges = []
    for _, group in groupby(enumerate(marks), key=lambda pair: pair[1] - pair[0]):
        codes = [code for _, code in group]
        ranges.append(f"{chr(codes[0])}-{chr(codes[-1])}")
    return "".join(ranges) + _JOINERS


@cache
def word_pattern(ascii: bool = False) -> re.Pattern[str]:
    """Matches one word, symbol or line feed; text is to be parted at ideographs first.

    Args:
        ascii: whether the text is ASCII, which has no combining marks: they take 0.1 s to gather.
    """
    return re.compile(_pattern(r"\w", _JOINERS if ascii else _extend(), r"\s"))


@cache
def unit_pattern() -> re.Pattern[str]:
    """Matches what no subword crosses, as the subword tokenizers split it but for letters that are new in Unicode."""
    letters = rf"[^\W\d]+(?:[{_extend()}]+[^\W\d]*)*"
    return re.compile(rf"\n| ?{letters}(?:['’]{letters})*| ?\d{{1,3}}| ?[^\w\s]+|[^\S\n]+(?!\S)|[^\S\n]")


@cache
def han_pattern() -> re.Pattern[str]:
    """Matches one Han ideograph with its variation selector."""
    return re.compile(f"[{_HAN}][{_extend()}]*")


@cache
def _continuing() -> re.Pattern[str]:
    return re.compile(rf"(?![{_HAN}])[\w{_extend()}'’]")


def continues_word(character: str) -> bool:
    """Whether a character right after a word may still belong to it: letters, digits, marks and apostrophes do."""
    return _continuing().match(character) is not None


def joins_tightly(left: str, right: str) -> bool:
    """Whether two tokens of one line stand together without a space, as far as spelling tells."""
    if left[-1] in _NO_SPACE_AFTER or right[0] in _NO_SPACE_BEFORE:
        return True
    if left in _TIGHT or right in _TIGHT:
        return True
    return is_spaceless(left[-1]) and is_spaceless(right[0])


@cache
def is_spaceless(character: str) -> bool:
    """Whether the character belongs to a script written without spaces: ideographs, kana and their punctuation."""
    return any(first <= character <= last for first, last in _SPACELESS)


def count_bounded(streams: Iterable[Iterable[str]], limit: int) -> Counter[str]:
    """Count strings while holding at most about `limit` different ones.

    See `BoundedCounter`.
    """
    counter: BoundedCounter[str] = BoundedCounter(limit)
    for strings in streams:
        counter.update(strings)
    return counter.counts


class BoundedCounter(Generic[_Counted]):
    """Counts while holding at most about `limit` different things.

    Whenever there are more, the rarest are forgotten, and the bar rises (after lossy counting, Manku & Motwani 2002).
    Below the limit counts are exact; above it those of rare things may be too low.

    Attributes:
        counts: how often each was seen.
    """

    def __init__(self, limit: int) -> None:
        self.counts: Counter[_Counted] = Counter()
        self._limit = limit
        self._bar = 0

    def update(self, things: Iterable[_Counted]) -> None:
        """Count more things."""
        self.counts.update(things)
        while len(self.counts) > self._limit:
            self._bar += 1
            self.counts = Counter({thing: count for thing, count in self.counts.items() if count > self._bar})
