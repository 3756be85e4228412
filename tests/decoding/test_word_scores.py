"""Words get the log-probabilities of the tokens that they are made of, and nothing is lost."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recurra.decoding.word_scores import score_words


@pytest.mark.parametrize(
    ("tokens", "expected"),
    [
        # (tokens, words with the numbers of their tokens; the end is number 0)
        ([" the", " pe", "ar"], [("the", [1]), ("pear", [2, 3]), ("<eos>", [0])]),
        (list("a  bc"), [("a", [1]), ("bc", [2, 3, 4, 5]), ("<eos>", [0])]),
        (["\u3000", "é", "a", " "], [("éa", [1, 2, 3]), ("<eos>", [4, 0])]),
        ([" "], [("<eos>", [1, 0])]),
        ([], [("<eos>", [0])]),
    ],
)
def test_each_word_has_its_own_tokens(tokens: list[str], expected: list[tuple[str, list[int]]]) -> None:
    gains = [*(-float(2**number) for number in range(1, len(tokens) + 1)), -1.0]
    found = score_words([token.encode() for token in tokens], gains, False)
    assert found == [(word, -float(sum(2**number for number in numbers))) for word, numbers in expected]


def test_loose_bytes_of_a_character_count_for_its_word() -> None:
    first, second, third = "배".encode()[:1], "배".encode()[1:2], "배".encode()[2:]
    ideographic = "\u3000".encode()
    tokens = [first, second, third, ideographic[:2], ideographic[2:], first]
    assert score_words(tokens, [-1.0, -2.0, -4.0, -8.0, -16.0, -32.0, -64.0], False) == [
        ("배", -7.0),
        ("\ufffd", -56.0),
        ("<eos>", -64.0),
    ]


def test_tokens_that_are_words_stay_apart() -> None:
    assert score_words([b"pear", b",", b"\n"], [-1.0, -2.0, -3.0, -4.0], True) == [
        ("pear", -1.0),
        (",", -2.0),
        ("\n", -3.0),
        ("<eos>", -4.0),
    ]


@given(st.text(max_size=30))
def test_the_words_of_any_text_add_up_to_it(text: str) -> None:
    whole = text.encode("utf-8", "replace")
    tokens = [whole[at : at + 1] for at in range(len(whole))]
    gains = [-float(number) for number in range(len(tokens) + 1)]
    found = score_words(tokens, gains, False)
    assert [word for word, _ in found] == [*whole.decode().split(), "<eos>"]
    assert math.fsum(value for _, value in found) == math.fsum(gains)
