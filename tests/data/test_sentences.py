"""Single sentences as tokens, for every kind of tokenizer."""

from __future__ import annotations

import pytest

from recurra.config.sections import TokenizerConfig
from recurra.data.sentences import SentenceTokenizer

KINDS = ("character", "word", "whitespace", "bpe", "unigram")
SENTENCES = ["the dog sees a cat .", "two cats , one dog"] * 20


@pytest.fixture(params=KINDS)
def tokenizer(request: pytest.FixtureRequest) -> SentenceTokenizer:
    size = 300 if request.param in ("bpe", "unigram") else 100
    return SentenceTokenizer.train(SENTENCES, TokenizerConfig(kind=request.param, vocab_size=size))


def test_what_is_empty_has_no_tokens(tokenizer: SentenceTokenizer) -> None:
    for sentence in ("", " ", "\t \u2028\r"):
        assert not len(tokenizer.encode(sentence)) and tokenizer.pieces(sentence) == []
        assert tokenizer.reference(sentence) == "" and tokenizer.decode(tokenizer.encode(sentence)) == ""


def test_tokens_and_pieces_are_the_sentence(tokenizer: SentenceTokenizer) -> None:
    for sentence in ("the dog sees a cat .", "  two\tcats , one  dog "):
        ids, pieces = tokenizer.encode(sentence), tokenizer.pieces(sentence)
        assert len(ids) == len(pieces)
        assert tokenizer.decode(ids) == tokenizer.reference(sentence)
        assert "".join(pieces).replace(" ", "") == "".join(sentence.split())
