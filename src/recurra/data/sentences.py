"""Single sentences as tokens and back, for systems that read or write a sentence at a time."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property

import numpy as np

from ..config.sections import TokenizerConfig
from .places import Places, token_places
from .store_format import Rows
from .tokenizer import IdArray, Tokenizer
from .tokenizer_word import WordTokenizer
from .words import continues_word

__all__ = ["SentenceTokenizer"]


class SentenceTokenizer:
    """A `Tokenizer` applied to sentences, which have no line end of their own.

    Subword tokenizers keep a space with the word after it, so a sentence is read as if a space stood before it: its
    first word has then the same tokens as anywhere else.

    Args:
        tokenizer: trained by `train`, or loaded.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        self._start = _start(tokenizer.kind)
        self._words = tokenizer if isinstance(tokenizer, WordTokenizer) else None

    @classmethod
    def train(cls, sentences: Iterable[str], config: TokenizerConfig) -> SentenceTokenizer:
        """Learn a vocabulary; see `Tokenizer.train`."""
        start = _start(config.kind)
        return cls(Tokenizer.train((f"{start}{sentence}\n" for sentence in sentences), config))

    @property
    def vocab_size(self) -> int:
        return self.tokenizer.vocab_size

    @property
    def eos_id(self) -> int:
        """The token that ends a sentence, and stands before the first of a target."""
        return self.tokenizer.eos_id

    @property
    def unk_id(self) -> int | None:
        """The token of what the vocabulary lacks, if there is such a thing."""
        return self.tokenizer.unk_id

    def encode(self, sentence: str) -> IdArray:
        """The ids of a sentence, without an end; line ends inside it are spaces."""
        return self.tokenizer.encode(self._started(sentence))

    def encode_all(self, sentences: Iterable[str]) -> Rows:
        """The ids of each sentence, as `encode` gives them, in 0.3 (characters) to 0.7 (words) of the time."""
        ids = self.tokenizer.encode("".join(f"{self._started(sentence)}\n" for sentence in sentences))
        # No sentence has a line end inside.
        ends = ids == self.eos_id
        places = np.flatnonzero(ends)
        return Rows(ids[~ends], np.concatenate([[0], places - np.arange(len(places))]))

    def decode(self, ids: Sequence[int], unknown: Mapping[int, str] | None = None) -> str:
        """The text of ids, without spaces at its ends.

        Args:
            ids: without the end.
            unknown: for places in `ids`, what is written there in place of an unknown token.
        """
        if not unknown:
            return self.tokenizer.decode(ids).strip()
        texts = [unknown.get(place, self.piece(token)) for place, token in enumerate(ids)]
        return ("".join(texts) if self._words is None else self._words.join(texts)).strip()

    def reference(self, sentence: str) -> str:
        """A sentence as a translation without fault would be written, to compare translations with.

        Normalised, and for word tokens spaced as `decode` spaces them, as those do not know the spaces of a text.
        """
        text = self.tokenizer.normalize(" ".join(sentence.split()))
        return text if self._words is None else self._words.join(self._words.split(text)).strip()

    @property
    def form(self) -> str:
        """What `reference` and `words` do to a text, in a word for each, such as "nfc+lowercase"."""
        done: list[str] = [] if self.tokenizer.normalization == "none" else [self.tokenizer.normalization]
        done += ["lowercase"] if self.tokenizer.lowercase else []
        return "+".join(done + (["spaces"] if self._words is None else ["words"]))

    def words(self, text: str) -> str:
        """A text with spaces between its words: for word tokens between these, as `decode` writes punctuation close."""
        return text if self._words is None else " ".join(self._words.split(text))

    def pieces(self, sentence: str) -> list[str]:
        """The text of each token of `encode(sentence)`, unknown ones as they stand in the sentence."""
        text = self.tokenizer.normalize(self._started(sentence))
        if self._words is not None:
            return self._words.split(text)
        if self.tokenizer.kind == "character":
            return list(text)
        return [self.piece(int(token)) for token in self.tokenizer.encode_normalized(text)]

    def text_bytes(self, sentence: str) -> list[bytes]:
        """What each token of `encode(sentence)` stands for; see `Tokenizer.text_bytes`."""
        return self.tokenizer.text_bytes(self._started(sentence))

    def places(self, sentence: str) -> Places:
        """Where in the sentence, as it is given, each token of `encode(sentence)` stands."""
        characters: list[tuple[int, int]] = []
        for word in re.finditer(r"\S+", sentence):
            if characters:
                characters.append((characters[-1][1], word.start()))
            elif self._start:
                characters.append((word.start(), word.start()))
            characters += [(place, place + 1) for place in range(*word.span())]
        return token_places(self.tokenizer, self._started(sentence), characters)

    @cached_property
    def joints(self) -> tuple[frozenset[int], frozenset[int]]:
        """The tokens that may go on with a word, and those that a word may go on after; none where all are words.

        For `recurra.decoding.constraints.WordJoints`.
        """
        if self._words is not None:
            return frozenset(), frozenset()
        last = {token: self.piece(token)[-1:] for token in range(self.vocab_size)}
        return (
            frozenset(token for token, boundary in enumerate(self.tokenizer.boundary_mask) if not boundary),
            # Loose bytes are parts of letters mostly.
            frozenset(t for t, c in last.items() if c == "\N{REPLACEMENT CHARACTER}" or (c and continues_word(c))),
        )

    def _started(self, sentence: str) -> str:
        bare = " ".join(sentence.split())
        # A start alone would be a token of a sentence that has none.
        return self._start + bare if bare else ""

    def piece(self, token: int) -> str:
        """The text of one token, as it stands in a sentence; loose bytes are U+FFFD."""
        return self.tokenizer.token_bytes(token).decode("utf-8", "replace")


def _start(kind: str) -> str:
    return " " if kind in ("bpe", "unigram") else ""
