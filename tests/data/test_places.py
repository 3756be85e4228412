"""Places of tokens in the text that was given, for every kind of tokenizer."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recurra.config.sections import TokenizerConfig
from recurra.data.places import token_places
from recurra.data.sentences import SentenceTokenizer
from recurra.data.tokenizer import Tokenizer

KINDS = ["character", "word", "whitespace", "bpe", "unigram"]
TEXT = "the Pear and the pair, peeled (twice).\n사과와 배 샐러드를 만든다.\ncafé ŉ ﬁg 🍐\n" * 4


def tokenizer(kind: str, **options: object) -> Tokenizer:
    return Tokenizer.train([TEXT], TokenizerConfig(kind=kind, vocab_size=300, **options))  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", KINDS)
def test_a_token_stands_where_its_text_is_found(kind: str) -> None:
    made = tokenizer(kind)
    text = "the Pear,  and\tthe\r\npair"
    places = token_places(made, text)
    assert len(places) == len(made.encode(text))
    for (start, stop), token in zip(places, made.text_bytes(text), strict=True):
        assert text[start:stop].replace("\r\n", "\n") == token.decode()
    assert (places[1:, 0] >= places[:-1, 1]).all()


def test_composed_letters_stand_where_their_parts_stood() -> None:
    made = tokenizer("character")
    text = "cafe\u0301 \u1112\u1161\u11ab!"
    assert token_places(made, text).tolist() == [[0, 1], [1, 2], [2, 3], [3, 5], [5, 6], [6, 9], [9, 10]]


def test_a_letter_that_becomes_several_is_their_place() -> None:
    made = tokenizer("character", normalization="nfkc")
    assert token_places(made, "aﬁb").tolist() == [[0, 1], [1, 2], [1, 2], [2, 3]]


def test_bytes_of_a_character_have_its_place() -> None:
    made = tokenizer("bpe")
    text = "a\u2603"
    places = token_places(made, text)
    assert len(places) > 2 and places[0].tolist() == [0, 1] and (places[1:] == [1, 2]).all()


@pytest.mark.parametrize("kind", KINDS)
def test_no_tokens_have_no_places(kind: str) -> None:
    assert token_places(tokenizer(kind), "").shape == (0, 2)


@pytest.mark.parametrize("kind", KINDS)
def test_sentences_are_read_without_their_outer_spaces(kind: str) -> None:
    made = SentenceTokenizer(tokenizer(kind))
    sentence = "  the \n Pear, peeled  "
    places = made.places(sentence)
    assert len(places) == len(made.encode(sentence))
    shown = [" ".join(sentence[start:stop].split()) for start, stop in places]
    assert "".join(shown) == "thePear,peeled"
    assert all(token.decode().strip() == part for token, part in zip(made.text_bytes(sentence), shown, strict=True))


@settings(max_examples=150)
@given(
    text=st.text(st.characters() | st.sampled_from("\r\n e\u0301\u0327\u1100\u1161\u11a8Σİﬁ\u09c7\u09be")),
    form=st.sampled_from(["nfc", "nfkc", "none"]),
    lowercase=st.booleans(),
)
def test_any_text_is_covered_in_order(text: str, form: str, lowercase: bool) -> None:
    made = tokenizer("character", normalization=form, lowercase=lowercase)
    places = token_places(made, text)
    normal = made.normalize(text)
    assert len(places) == len(normal)
    covered = sorted({(int(start), int(stop)) for start, stop in places})
    # Every character of the text is part of exactly one place, unless nothing is left of it.
    assert all(first[1] <= second[0] for first, second in pairwise(covered))
    for start, stop in covered:
        own = "".join(c for c, (a, b) in zip(normal, places, strict=True) if (a, b) == (start, stop))
        assert made.normalize(text[start:stop]) == own
    # Places are small: a text of letters that do not join has one for each.
    if text.isascii() and "\r" not in text:
        assert len(covered) == len(text)
