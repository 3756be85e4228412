"""Words and phrases that a recogniser is to expect: a bonus for each time that one of them comes out whole."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Sequence

import numpy as np

from ..errors import ConfigError
from .label_scoring import Floats
from .recognized import WordMarks

__all__ = ["Hotwords"]

# A part of a high bonus would push hypotheses out of the beam that are right if the phrase breaks off.
_MOST_LENT = 5.0
# Gains that are kept at a time; they are made again when they are asked for again.
_MOST_ROWS = 4096


class Hotwords:
    """A bonus for words and phrases, by the automaton of Aho & Corasick (1975), which finds all of them at once.

    A hypothesis is lent a part of the bonus with each label on the way into a phrase, so that the beam does not lose it
    before the end; it is 5 nats at most. If the phrase breaks off, or the input ends within it, the part is taken back
    in the same step. So in the end a hypothesis has exactly the bonus of each phrase as often as the phrase is in it.
    With word marks a phrase counts only as whole words: "cat" gets nothing in "concatenate". A bonus is for the whole
    phrase, however many labels it has.

    Args:
        phrases: labels and bonus, in nats above 0, of each; where one stands twice the greater bonus counts.
        size: V, labels of the recogniser with the blank.
        marks: where words begin; None: phrases count anywhere.

    Raises:
        ConfigError: if a phrase has no labels, a label is not one of 0 to V - 1, or a bonus is not above 0.
    """

    def __init__(
        self, phrases: Iterable[tuple[Sequence[int], float]], size: int, marks: WordMarks | None = None
    ) -> None:
        self._size, self._marks = size, marks
        # A word's start and end are a symbol of their own, beyond the labels.
        self._boundary = size
        self._next: list[dict[int, int]] = [{}]
        self._bonus: list[float] = [0.0]
        self._lent: list[float] = [0.0]
        for labels, bonus in phrases:
            self._add(labels, bonus)
        self._fallback = [0] * len(self._next)
        self._link()
        self._rows: dict[int, tuple[Floats, list[int]]] = {}
        self._start = self._move(0, self._boundary)[0] if marks else 0

    def begin(self) -> tuple[Floats, int]:
        """The gains of the first label, and the state there."""
        return self._row(self._start)[0], self._start

    def advance(self, labels: Sequence[int], states: Sequence[int]) -> tuple[list[Floats], list[int]]:
        """Read one label in each hypothesis."""
        reached = [self._row(state)[1][label] for label, state in zip(labels, states, strict=True)]
        return [self._row(state)[0] for state in reached], reached

    def ending(self, state: int) -> float:
        """The bonus of what the end completes, less what was lent."""
        completed = self._move(state, self._boundary)[1] if self._marks else 0.0
        return completed - self._lent[state]

    def _add(self, labels: Sequence[int], bonus: float) -> None:
        if not 0 < bonus < math.inf:
            raise ConfigError(f"the bonus of a hotword must be above 0, not {bonus}.")
        if not labels or not all(0 <= label < self._size for label in labels):
            raise ConfigError(f"a hotword must have labels from 0 to {self._size - 1}, not {list(labels)}.")
        symbols = [symbol for label in labels for symbol in self._symbols(label)]
        if self._marks:
            symbols = [self._boundary, *symbols, self._boundary]
            symbols = [s for i, s in enumerate(symbols) if not i or s != self._boundary or symbols[i - 1] != s]
        # Nothing is lent for the boundary before a phrase, at which every word begins.
        free = 1 if self._marks else 0
        if len(symbols) <= free + 1 and self._marks:
            raise ConfigError(f"a hotword must have labels besides separators, not {list(labels)}.")
        place = 0
        for depth, symbol in enumerate(symbols, start=1):
            place = self._next[place].setdefault(symbol, len(self._next))
            if place == len(self._next):
                self._next.append({})
                self._bonus.append(0.0)
                self._lent.append(0.0)
            if depth < len(symbols):
                part = min(bonus, _MOST_LENT) * (depth - free) / (len(symbols) - free)
                self._lent[place] = max(self._lent[place], part)
        self._bonus[place] = max(self._bonus[place], bonus)

    def _symbols(self, label: int) -> list[int]:
        if self._marks is not None:
            if label == self._marks.separator:
                return [self._boundary]
            if label in self._marks.beginning:
                return [self._boundary, label]
        return [label]

    def _link(self) -> None:
        """Find for each place the longest ending of it that is a place too, and all phrases that end there."""
        waiting = deque(self._next[0].values())
        while waiting:
            place = waiting.popleft()
            for symbol, child in self._next[place].items():
                self._fallback[child] = self._goto(self._fallback[place], symbol)
                waiting.append(child)
            shorter = self._fallback[place]
            self._bonus[place] += self._bonus[shorter]
            self._lent[place] = max(self._lent[place], self._lent[shorter])

    def _goto(self, place: int, symbol: int) -> int:
        while symbol not in self._next[place] and place:
            place = self._fallback[place]
        return self._next[place].get(symbol, 0)

    def _move(self, place: int, symbol: int) -> tuple[int, float]:
        """The next place, and the bonus of all phrases that end there."""
        reached = self._goto(place, symbol)
        return reached, self._bonus[reached]

    def _row(self, state: int) -> tuple[Floats, list[int]]:
        """The gains of all labels after a state, and the states that they lead to."""
        found = self._rows.get(state)
        if found is None:
            gains, reached = np.zeros(self._size), []
            for label in range(self._size):
                place, completed = state, 0.0
                for symbol in self._symbols(label):
                    place, bonus = self._move(place, symbol)
                    completed += bonus
                gains[label] = completed + (self._lent[place] - self._lent[state])
                reached.append(place)
            if len(self._rows) == _MOST_ROWS:
                self._rows.clear()
            found = self._rows[state] = gains, reached
        return found
