"""Where words and characters begin and end, for models whose tokens may be smaller."""

from __future__ import annotations

import unicodedata

import torch

from ..data.tokenizer import Tokenizer
from ..data.words import continues_word, joins_tightly
from .characters import WholeCharacters
from .word_search import TokenKinds

__all__ = ["join_words", "last_word_can_go_on", "space_starts", "token_kinds", "whole_characters"]

# Scripts that write words without spaces between them and that `joins_tightly` does not know, by Unicode names.
_UNSPACED = ("THAI", "LAO", "KHMER", "MYANMAR")


def token_kinds(tokenizer: Tokenizer) -> TokenKinds:
    """What each token of a vocabulary does to a word, from its text and the tokenizer's own boundaries."""
    line_end = tokenizer.eos_id
    texts = [text.decode("utf-8", "replace") for text in tokenizer.vocabulary_bytes]
    space = torch.tensor([text.isspace() and token != line_end for token, text in enumerate(texts)], device="cpu")
    mark = torch.tensor([token == line_end or _is_mark(text) for token, text in enumerate(texts)], device="cpu")
    return TokenKinds(torch.from_numpy(tokenizer.boundary_mask.copy()), space, mark)


def space_starts(tokenizer: Tokenizer) -> torch.Tensor:
    """Tokens that are a space with something after it, bool (V,); the lone space where there is none."""
    strings = tokenizer.vocabulary_bytes
    starts = torch.tensor([string.startswith(b" ") and not string.isspace() for string in strings], device="cpu")
    return starts if bool(starts.any()) else torch.tensor([string == b" " for string in strings], device="cpu")


def whole_characters(tokenizer: Tokenizer) -> WholeCharacters | None:
    """What keeps its outputs to whole characters; None where every token is made of such."""
    table = WholeCharacters(tokenizer.vocabulary_bytes, tokenizer.eos_id)
    return table if table.needed else None


def last_word_can_go_on(text: str) -> bool:
    """Whether the text ends in a word that one more letter would continue."""
    return bool(text) and continues_word(text[-1])


def join_words(text: str, word: str) -> str:
    """The text with a word after it, with a space between them where their scripts have one."""
    word = word.strip()
    if not text or not word or text[-1].isspace() or joins_tightly(text[-1], word[0]):
        return text + word
    if _unspaced(text[-1]) and _unspaced(word[0]):
        return text + word
    return f"{text} {word}"


def _is_mark(text: str) -> bool:
    # U+FFFD stands for a part of a character's bytes, which may turn out to be a letter.
    return bool(text.strip()) and not any(c == "\N{REPLACEMENT CHARACTER}" or continues_word(c) for c in text)


def _unspaced(character: str) -> bool:
    return unicodedata.name(character, "").startswith(_UNSPACED)
