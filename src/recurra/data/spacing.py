"""Where a space stands between two word tokens: by rules of spelling, and by what the training text does instead.

The rules (`words.joins_tightly`, and quotation marks by turns) know that no space stands before a comma. They cannot
know that a text writes `AT&T`, `http://a.b/c?d` or `3 : 45`, so these are counted while the vocabulary is learnt, and
what differs from the rules is kept in a small table.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Any, TypeVar

from .words import UNKNOWN, BoundedCounter, han_pattern, is_spaceless, joins_tightly, word_pattern

__all__ = ["Spacing", "SpacingCounter", "WordWriter"]

_QUOTES = ('"', "'")
_CONTEXTS = 4
_MOST_PAIRS = 10_000
"""Pairs of tokens in a table, and as many tokens on either side: at most about 400 kB in the file."""
_ELECTED = 3
"""By how many votes symbols overrule the rules of spelling in a context."""
_MOST_COUNTED = 200_000
"""Different gaps that are held while counting, about 200 bytes each."""
_PARTED = "\x1c"  # white space to the pattern; stands where none was in the text
_KEYS = ("space", "before", "after", "pairs")

Gap = tuple[str, str, bool, bool, bool]
"""Left token, right token, whether a space stands before the left one, whether quotation marks ask for no space between
the two, and whether a space stands between them."""

_Key = TypeVar("_Key", int, tuple[int, int])


@dataclass(frozen=True)
class _Context:
    """What the training text does in one context.

    Attributes:
        space: whether a space is usual.
        before: tokens before which the opposite is usual.
        after: tokens after which the opposite is usual.
        pairs: pairs of tokens between which stands the opposite of what their tokens have usually.
    """

    space: bool
    before: frozenset[int] = frozenset()
    after: frozenset[int] = frozenset()
    pairs: frozenset[tuple[int, int]] = frozenset()

    def spaced(self, left: int, right: int) -> bool:
        space = self.space != (right in self.before or left in self.after)
        return space != ((left, right) in self.pairs)


class Spacing:
    """Whether a space stands between two tokens of one line, for each of four contexts.

    The context of two tokens is whether the rules of spelling ask for a space between them, and whether a space stands
    before the left one: `a-b` and `a - b` show that the second tells much about the third. In each context one answer
    is usual. Exceptions are tokens that have the other answer on their left or right mostly, and pairs of tokens that
    differ from what these tokens do.

    Between two words of a script that has spaces there is always one: without it they would have been one token.
    """

    def __init__(self, contexts: Sequence[_Context] | None = None) -> None:
        self._contexts = tuple(contexts or map(_by_spelling, range(_CONTEXTS)))
        self.is_spelling = all(context == _by_spelling(index) for index, context in enumerate(self._contexts))
        """Whether the rules of spelling alone decide."""

    def spaced(self, left: int, right: int, before: bool, by_spelling: bool) -> bool:
        """Whether a space stands between two tokens.

        Args:
            left, right: their ids.
            before: whether a space, or nothing, stands before the left one.
            by_spelling: what the rules of spelling say.
        """
        return self._contexts[_context(before, by_spelling)].spaced(left, right)

    @classmethod
    def learn(cls, gaps: Mapping[Gap, int], strings: Sequence[str]) -> Spacing:
        """The table that writes most of the counted gaps as they stood in the text.

        Args:
            gaps: how often each occurs.
            strings: the words by id; others have the id 0.
        """
        vocabulary = {string: token for token, string in enumerate(strings)}
        counts: list[defaultdict[tuple[int, int], list[int]]] = [defaultdict(lambda: [0, 0]) for _ in range(_CONTEXTS)]
        for (left_word, right_word, before, tight, space), count in gaps.items():
            left, right = vocabulary.get(left_word, 0), vocabulary.get(right_word, 0)
            by_spelling = not (tight or joins_tightly(strings[left], strings[right]))
            counts[_context(before, by_spelling)][left, right][space] += count
        plain = frozenset(token for token, string in enumerate(strings) if _is_plain(string))
        return cls([_learn(table, bool(index & 1), plain) for index, table in enumerate(counts)])

    def tree(self) -> list[dict[str, Any]]:
        """The table as JSON has it."""
        return [
            {
                "space": context.space,
                "before": sorted(context.before),
                "after": sorted(context.after),
                "pairs": [list(pair) for pair in sorted(context.pairs)],
            }
            for context in self._contexts
        ]

    @classmethod
    def read(cls, tree: Any, tokens: int) -> Spacing:
        """The table that `tree` gave, for a vocabulary of so many tokens.

        Raises:
            ValueError: if it is damaged.
        """
        if not isinstance(tree, list) or len(tree) != _CONTEXTS:
            raise ValueError(f"the table of spaces has not {_CONTEXTS} contexts")
        return cls([_read_context(part, index, tokens) for index, part in enumerate(tree)])


class SpacingCounter:
    """Counts the gaps between the words of a text, in bounded memory.

    Attributes:
        gaps: how often each gap occurs; gaps between two words, where a space must stand, are left out.
    """

    def __init__(self) -> None:
        self._counter: BoundedCounter[Gap] = BoundedCounter(_MOST_COUNTED)

    @property
    def gaps(self) -> Counter[Gap]:
        return self._counter.counts

    def words(self, text: str) -> list[str]:
        """Count the gaps of a text, and return its words as `WordTokenizer.split` does."""
        words: list[str] = []
        gaps: list[Gap] = []
        quotation = _Quotation()
        left, left_plain, before = "\n", False, True
        for white, right in _spaced_words(text):
            words.append(right)
            plain = _is_plain(right)
            space = white != "" and white.strip(_PARTED) != ""
            tight = (left in _QUOTES or right in _QUOTES) and quotation.joins(left, right)
            if left == "\n" or right == "\n":
                if right == "\n":
                    quotation = _Quotation()
                space = True
            elif not (plain and left_plain):
                gaps.append((left, right, before, tight, space))
            left, left_plain, before = right, plain, space
        self._counter.update(gaps)
        return words


class WordWriter:
    """Writes a text word by word, each with the space that stands before it.

    Args:
        spacing: what the training text does.
    """

    def __init__(self, spacing: Spacing) -> None:
        self._spacing = spacing
        self._left = ("\n", 0)
        self._before = True
        self._quotation = _Quotation()

    def write(self, word: str, token: int) -> str:
        """The word, after a space where one stands.

        Args:
            word: its text.
            token: its id, or the unknown token's.
        """
        left, left_token = self._left
        self._left = (word, token)
        tight = self._quotation.joins(left, word)
        if word == "\n":
            self._quotation = _Quotation()
        if left == "\n" or word == "\n":
            self._before = True
            return word
        space = not (tight or joins_tightly(left, word))
        if not (_is_plain(left) and _is_plain(word)):
            space = self._spacing.spaced(left_token, token, self._before, space)
        self._before = space
        return f" {word}" if space else word


class _Quotation:
    """Straight quotation marks of one line, which open and close by turns."""

    def __init__(self) -> None:
        self._open: set[str] = set()

    def joins(self, left: str, right: str) -> bool:
        """Whether the left token is an opening mark or the right one a closing mark; the right one is then read."""
        joins = left in self._open or right in self._open
        if right in _QUOTES:
            self._open ^= {right}
        return joins


def _context(before: bool, by_spelling: bool) -> int:
    return 2 * before + by_spelling


def _by_spelling(index: int) -> _Context:
    return _Context(space=bool(index & 1))


def _is_plain(word: str) -> bool:
    """Whether it is a word of a script that has spaces between words; an unknown word is taken for one."""
    first = word[0]
    if first.isalnum() or first == "_":
        return not (is_spaceless(first) or is_spaceless(word[-1]))
    return word == UNKNOWN


@cache
def _spaced_word_pattern() -> re.Pattern[str]:
    return re.compile(rf"([^\S\n]*)({word_pattern().pattern})")


def _spaced_words(text: str) -> list[tuple[str, str]]:
    """The words of a text, each with the white space before it."""
    if not text.isascii() and han_pattern().search(text):
        text = han_pattern().sub(rf"{_PARTED}\g<0>{_PARTED}", text)
    return _spaced_word_pattern().findall(text)


def _learn(table: Mapping[tuple[int, int], Sequence[int]], by_spelling: bool, plain: frozenset[int]) -> _Context:
    """The exceptions of one context.

    Args:
        table: of each pair of tokens, how often it stands without and with a space.
        by_spelling: what the rules say in this context.
        plain: tokens that are words.
    """
    # Each symbol has one vote for its left and one for its right, so that a common symbol is not taken for all others.
    margins: defaultdict[tuple[int, int], int] = defaultdict(int)
    total = 0
    for pair, (without, spaced) in table.items():
        total += spaced - without
        for side, token in enumerate(pair):
            if token not in plain:
                margins[side, token] += spaced - without
    votes = sum((margin > 0) - (margin < 0) for margin in margins.values())
    if by_spelling:
        total, votes = -total, -votes
    usual = by_spelling != (total > 0 and votes >= _ELECTED)
    # A single occurrence makes no habit of a token.
    before = _unusual(((right, counts) for (_, right), counts in table.items()), lambda token: usual, 2)
    rest = ((left, counts) for (left, right), counts in table.items() if right not in before)
    after = _unusual(rest, lambda token: usual, 2)
    context = _Context(usual, before, after)
    return _Context(usual, before, after, _unusual(table.items(), lambda pair: context.spaced(*pair), 1))


def _unusual(
    counted: Iterable[tuple[_Key, Sequence[int]]], usual: Callable[[_Key], bool], least: int
) -> frozenset[_Key]:
    """The keys whose majority, by at least so many, differs from the usual; of too many those of largest majority."""
    margins: defaultdict[_Key, int] = defaultdict(int)
    for key, (without, spaced) in counted:
        margins[key] += spaced - without
    found = [key for key, margin in margins.items() if abs(margin) >= least and (margin > 0) != usual(key)]
    return frozenset(sorted(found, key=lambda key: (-abs(margins[key]), key))[:_MOST_PAIRS])


def _read_context(part: Any, index: int, tokens: int) -> _Context:
    where = f"context {index} of the table of spaces"
    if not isinstance(part, dict) or set(part) != set(_KEYS) or not isinstance(part["space"], bool):
        raise ValueError(f"{where} is damaged")
    before, after = (
        _checked(part[key], lambda token: _is_token(token, tokens), f"{key} in {where}") for key in ("before", "after")
    )
    pairs = _checked(
        part["pairs"],
        lambda pair: isinstance(pair, list) and len(pair) == 2 and all(_is_token(token, tokens) for token in pair),
        f"pairs in {where}",
    )
    return _Context(
        part["space"], frozenset(before), frozenset(after), frozenset((left, right) for left, right in pairs)
    )


def _checked(found: Any, fits: Callable[[Any], bool], where: str) -> list[Any]:
    if not isinstance(found, list) or len(found) > _MOST_PAIRS or not all(map(fits, found)):
        raise ValueError(f"{where} are damaged")
    # Written in order; otherwise the same table could have several fingerprints.
    if any(first >= second for first, second in pairwise(found)):
        raise ValueError(f"{where} are not in order")
    return found


def _is_token(token: Any, tokens: int) -> bool:
    return type(token) is int and 0 <= token < tokens
