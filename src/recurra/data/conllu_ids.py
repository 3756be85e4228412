"""The order of the IDs in a sentence of CoNLL-U: words 1, 2, 3, multiword tokens 2-3, empty nodes 2.1."""

from __future__ import annotations

import re

__all__ = ["IdOrder"]

_ID = re.compile(r"([0-9]{1,9})(?:-([0-9]{1,9})|\.([0-9]{1,9}))?")


class IdOrder:
    """Takes the IDs of one sentence one by one, and tells what is wrong with one of them.

    Words are counted from 1. A multiword token stands before its first word, and two of them have no word in common.
    Empty nodes stand after the word whose number they begin with (0 before the first), in rising order.

    Attributes:
        is_word: whether the last ID was that of a word.
    """

    def __init__(self) -> None:
        self.is_word = False
        self._words = 0
        self._node = 0
        self._token = (0, 0)

    def problem(self, given: str) -> str | None:
        """What is wrong with the next ID, and what to do; None if it is right."""
        found = _ID.fullmatch(given)
        self.is_word = found is not None and found[2] is found[3] is None
        if found is None:
            return f"the ID {given!r} is not like 8, 8-9 or 8.1; mend the line, or name the format that the file has"
        number = int(found[1])
        if found[3] is not None:
            node, before = int(found[3]), self._node
            self._node = node
            return None if number == self._words and node > before else self._misplaced(given)
        if found[2] is not None:
            right = number == self._words + 1 and number > self._token[1] and int(found[2]) >= number
            self._token = number, int(found[2])
            return None if right else self._misplaced(given)
        if number != self._words + 1:
            return self._misplaced(given)
        self._words, self._node = number, 0
        return None

    def problem_at_end(self) -> str | None:
        """What is wrong once the last ID was taken; None if nothing is."""
        first, last = self._token
        if last <= self._words:
            return None
        return f"the multiword token {first}-{last} goes beyond the sentence's last word, {self._words}; mend its ID"

    def _misplaced(self, given: str) -> str:
        return (
            f"the ID {given} is out of order after word {self._words}; mend the IDs, or put an empty line between two "
            "sentences"
        )
