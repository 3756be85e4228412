"""A recogniser that may say only words of a list: which labels may follow, and where a hypothesis may end."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from ..errors import ConfigError
from .label_scoring import Floats

__all__ = ["Lexicon"]

# Gains that are kept at a time; they are made again when they are asked for again.
_MOST_ROWS = 4096


class Lexicon:
    """Only words of a list come out: no words at all, or words with the separator between them.

    The words stand in a trie. Without a separator one word follows another at once, and labels may be read as words in
    several ways; so a state is the set of all places of the trie where the labels so far may lead.

    Args:
        words: the labels of each word.
        size: V, labels of the recogniser with the blank.
        separator: the label between two words; None: there is none.

    Raises:
        ConfigError: if there are no words, a word has no labels, or a label is not one of 0 to V - 1.
    """

    def __init__(self, words: Iterable[Sequence[int]], size: int, separator: int | None = None) -> None:
        self._size, self._separator = size, separator
        self._children: list[dict[int, int]] = [{}]
        self._complete: set[int] = set()
        for word in words:
            if not word or not all(0 <= label < size for label in word):
                raise ConfigError(f"a word of the lexicon must have labels from 0 to {size - 1}, not {list(word)}.")
            place = 0
            for label in word:
                place = self._children[place].setdefault(label, len(self._children))
                if place == len(self._children):
                    self._children.append({})
            self._complete.add(place)
        if not self._complete:
            raise ConfigError("the lexicon has no words.")
        # After a separator a word must follow, but nothing need follow the start; so the start has a state of its own.
        self._states: list[frozenset[int]] = [frozenset({0})]
        self._numbers: dict[frozenset[int], int] = {}
        self._next: list[dict[int, int]] = [{}]
        self._gains: dict[int, Floats] = {}

    def begin(self) -> tuple[Floats, int]:
        """The gains of the first label: zero where a word begins with it, and minus infinity elsewhere."""
        return self._row(0), 0

    def advance(self, labels: Sequence[int], states: Sequence[int]) -> tuple[list[Floats], list[int]]:
        """Read one label in each hypothesis."""
        reached = [self._follow(state, label) for label, state in zip(labels, states, strict=True)]
        return [self._row(state) for state in reached], reached

    def ending(self, state: int) -> float:
        """Zero at the start and at the end of a word, and minus infinity elsewhere."""
        return 0.0 if state == 0 or self._at_end(state) else -np.inf

    def _at_end(self, state: int) -> bool:
        return not self._complete.isdisjoint(self._states[state])

    def _follow(self, state: int, label: int) -> int:
        known = self._next[state].get(label)
        if known is not None:
            return known
        places = {self._children[place][label] for place in self._states[state] if label in self._children[place]}
        if self._at_end(state):
            if label == self._separator:
                places.add(0)
            elif self._separator is None and label in self._children[0]:
                places.add(self._children[0][label])
        if not places:
            raise ValueError(f"label {label} follows no word or beginning of a word of the lexicon here")
        key = frozenset(places)
        number = self._numbers.setdefault(key, len(self._states))
        if number == len(self._states):
            self._states.append(key)
            self._next.append({})
        self._next[state][label] = number
        return number

    def _row(self, state: int) -> Floats:
        row = self._gains.get(state)
        if row is None:
            row = np.full(self._size, -np.inf)
            for place in self._states[state]:
                row[list(self._children[place])] = 0.0
            if self._at_end(state):
                row[list(self._children[0]) if self._separator is None else self._separator] = 0.0
            if len(self._gains) == _MOST_ROWS:
                self._gains.clear()
            self._gains[state] = row
        return row
