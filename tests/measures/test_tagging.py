"""Accuracies of tags on all words, on unknown ones and by frequency, and confusions, counted by hand."""

from __future__ import annotations

from collections import Counter

import pytest

from recurra.measures.tagging import BANDS, Accuracy, accuracy, accuracy_by_frequency, accuracy_on_unknown, confusions

WORDS = [["the", "cat", "sat"], ["a", "dog", "ran", "off"], []]
GOLD = [["DET", "NOUN", "VERB"], ["DET", "NOUN", "VERB", "ADP"], []]
PREDICTED = [["DET", "NOUN", "NOUN"], ["DET", "VERB", "NOUN", "ADV"], []]
SEEN = Counter({"the": 100, "a": 99, "cat": 10, "dog": 9, "sat": 4, "ran": 1, "off": 0})


def test_accuracies_are_counted() -> None:
    assert accuracy(GOLD, PREDICTED) == (3, 7)
    assert accuracy(GOLD, PREDICTED).share == pytest.approx(3 / 7)
    assert accuracy_on_unknown(WORDS, GOLD, PREDICTED, {"the", "a", "dog", "ran"}) == (1, 3)
    assert accuracy_on_unknown(WORDS, GOLD, PREDICTED, {word for words in WORDS for word in words}) == (0, 0)
    assert accuracy([], []).share is None is Accuracy(0, 0).share


def test_bands_begin_and_end_where_they_say() -> None:
    assert accuracy_by_frequency(WORDS, GOLD, PREDICTED, SEEN) == {
        "0": (0, 1), "1": (0, 1), "2-4": (0, 1), "5-9": (0, 1), "10-99": (2, 2), "100+": (1, 1),
    }  # fmt: skip
    counts = [0, 1, 2, 4, 5, 9, 10, 99, 100, 10**9]
    words = [[str(count) for count in counts]]
    found = accuracy_by_frequency(words, words, words, {str(count): count for count in counts})
    assert list(found) == list(BANDS)
    assert [total for _, total in found.values()] == [1, 1, 2, 2, 2, 2]
    assert accuracy_by_frequency([["new"]], [["X"]], [["X"]], {})["0"] == (1, 1)


def test_confusions_are_in_order_of_their_numbers() -> None:
    assert confusions(GOLD, PREDICTED) == [("VERB", "NOUN", 2), ("ADP", "ADV", 1), ("NOUN", "VERB", 1)]
    assert confusions(GOLD, PREDICTED, most=1) == [("VERB", "NOUN", 2)]
    assert len(confusions(GOLD, PREDICTED, most=None)) == 3
    assert confusions(GOLD, GOLD) == []


def test_sides_that_do_not_match_are_refused() -> None:
    with pytest.raises(ValueError, match="sentence 1 has 1 and 2 words or tags"):
        accuracy([["A"]], [["A", "B"]])
    with pytest.raises(ValueError, match="sentence 1 has 1 and 1 and 2 words or tags"):
        accuracy_on_unknown([["a"]], [["A"]], [["A", "B"]], set())
    with pytest.raises(ValueError, match="shorter"):
        confusions([["A"]], [])
