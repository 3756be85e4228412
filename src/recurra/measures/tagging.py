"""How many words were tagged right: of all, of unknown ones, of rare and frequent ones; and which tags were mixed up.

All functions take the tags sentence by sentence, a gold tag and a predicted tag for each word.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from typing import NamedTuple

__all__ = ["BANDS", "Accuracy", "Confusion", "accuracy", "accuracy_by_frequency", "accuracy_on_unknown", "confusions"]

Sentences = Iterable[Sequence[str]]
"""For each sentence a string for each word: the word itself, or its tag."""

BANDS = {"0": 0, "1": 1, "2-4": 2, "5-9": 5, "10-99": 10, "100+": 100}
"""The bands of `accuracy_by_frequency`, and how often a word of each was seen at least."""


class Accuracy(NamedTuple):
    """How many of some words were tagged right.

    Attributes:
        correct: words with the right tag.
        total: all these words.
    """

    correct: int
    total: int

    @property
    def share(self) -> float | None:
        """The accuracy, 0 to 1; None if there are no such words."""
        return self.correct / self.total if self.total else None


class Confusion(NamedTuple):
    """Words that should have one tag and got another.

    Attributes:
        gold: the right tag.
        predicted: the tag that was given.
        times: to how many words.
    """

    gold: str
    predicted: str
    times: int


def accuracy(gold: Sentences, predicted: Sentences) -> Accuracy:
    """How many words were tagged right.

    Raises:
        ValueError: if the two sides have not as many sentences, or a sentence has not as many tags.
    """
    counts = Counter(right == given for right, given in _words(gold, predicted))
    return Accuracy(counts[True], counts.total())


def accuracy_on_unknown(words: Sentences, gold: Sentences, predicted: Sentences, known: Container[str]) -> Accuracy:
    """How many of the words were tagged right that the training data do not have.

    Args:
        words: of each sentence.
        gold, predicted: the tags of the words.
        known: the words of the training data.

    Raises:
        ValueError: if the sides have not as many sentences, or a sentence has not as many words and tags.
    """
    return _banded(words, gold, predicted, lambda word: word not in known).get(True, Accuracy(0, 0))


def accuracy_by_frequency(
    words: Sentences, gold: Sentences, predicted: Sentences, seen: Mapping[str, int]
) -> dict[str, Accuracy]:
    """How many words were tagged right, by how often a word is in the training data; every band of `BANDS` in order.

    Args:
        words: of each sentence.
        gold, predicted: the tags of the words.
        seen: how often each word is in the training data; 0 times if it is not named.

    Raises:
        ValueError: if the sides have not as many sentences, or a sentence has not as many words and tags.
    """
    falling = [*reversed(BANDS.items())]
    found = _banded(
        words, gold, predicted, lambda word: next(band for band, least in falling if seen.get(word, 0) >= least)
    )
    return {band: found.get(band, Accuracy(0, 0)) for band in BANDS}


def confusions(gold: Sentences, predicted: Sentences, most: int | None = 20) -> list[Confusion]:
    """The most frequent confusions of two tags, the most frequent first; equally frequent ones by their names.

    Args:
        gold, predicted: the tags of each sentence.
        most: how many to give; None: all.

    Raises:
        ValueError: if the two sides have not as many sentences, or a sentence has not as many tags.
    """
    counts = Counter((right, given) for right, given in _words(gold, predicted) if right != given)
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return [Confusion(right, given, count) for (right, given), count in ordered[:most]]


def _words(*sides: Sentences) -> Iterable[tuple[str, ...]]:
    """What each side has for each word."""
    for number, sentence in enumerate(zip(*sides, strict=True), start=1):
        if len({*map(len, sentence)}) > 1:
            raise ValueError(f"sentence {number} has {' and '.join(str(len(side)) for side in sentence)} words or tags")
        yield from zip(*sentence, strict=True)


def _banded(
    words: Sentences, gold: Sentences, predicted: Sentences, band: Callable[[str], object]
) -> dict[object, Accuracy]:
    """The accuracy on the words of each band."""
    total: Counter[object] = Counter()
    correct: Counter[object] = Counter()
    for word, right, given in _words(words, gold, predicted):
        its = band(word)
        total[its] += 1
        correct[its] += right == given
    return {its: Accuracy(correct[its], count) for its, count in total.items()}
