"""Error rates against a definition by recursion, and against texts that were counted by hand."""

from __future__ import annotations

import random
from functools import cache

import pytest

from recurra.measures.error_rates import edit_distance, error_counts, error_rates, right_words


def by_recursion(reference: str, hypothesis: str) -> int:
    @cache
    def distance(up: int, across: int) -> int:
        if not up or not across:
            return up + across
        changed = distance(up - 1, across - 1) + (reference[up - 1] != hypothesis[across - 1])
        return min(changed, distance(up - 1, across) + 1, distance(up, across - 1) + 1)

    return distance(len(reference), len(hypothesis))


def drawn(count: int) -> list[tuple[str, str]]:
    choose = random.Random(1)
    return [tuple("".join(choose.choices("abc", k=choose.randrange(8))) for _ in "xy") for _ in range(count)]  # type: ignore[misc]


@pytest.mark.parametrize(("reference", "hypothesis"), drawn(60))
def test_distance_is_that_of_the_definition(reference: str, hypothesis: str) -> None:
    assert edit_distance(reference, hypothesis) == by_recursion(reference, hypothesis)


@pytest.mark.parametrize(("reference", "hypothesis"), drawn(60))
def test_the_right_items_explain_the_distance(reference: str, hypothesis: str) -> None:
    right = right_words(reference, hypothesis)
    kept = [item for item, good in zip(hypothesis, right, strict=True) if good]
    # They stand in the reference in this order, and no alignment without errors beside them has fewer.
    rest = iter(reference)
    assert all(item in rest for item in kept)
    assert by_recursion(reference, hypothesis) >= max(len(reference), len(hypothesis)) - sum(right)
    assert by_recursion(reference, hypothesis) <= len(reference) + len(hypothesis) - 2 * sum(right)


def test_rates_of_counted_texts() -> None:
    references = ["one two three", "four", ""]
    hypotheses = ["one too three", "four  five", ""]
    # One word of four is changed and one added; one character changed and five added of 17.
    rates = error_rates(references, hypotheses)
    assert rates.words == pytest.approx(2 / 4) and rates.characters == pytest.approx(6 / 17)
    assert rates.exact == pytest.approx(1 / 3)
    assert error_counts(references, hypotheses).tolist() == [[1, 3, 1, 13, 1], [1, 1, 5, 4, 1], [0, 0, 0, 0, 0]]


def test_words_where_nothing_was_said_are_errors() -> None:
    assert error_rates([""], ["one two"]) == (2.0, 7.0, 0.0)
    assert error_rates([], []) == (0.0, 0.0, 1.0)
