"""From a hypothesis to what a translator answers: text, source words in place of unknown ones, and alignment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ...data.sentences import SentenceTokenizer
from ...decoding.alignment import align_words
from ...decoding.hypothesis import Hypothesis
from ...decoding.word_scores import WordScore, score_words
from .answers import TranslatedText

__all__ = ["TranslationWriter"]

_LINE_BREAKS = str.maketrans(dict.fromkeys("\n\r\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029", " "))


@dataclass(frozen=True)
class TranslationWriter:
    """How translations are written.

    Attributes:
        source, target: the tokenizers.
        replace_unknown: whether <unk> becomes the source word that it attends to.
        copies: whether the model copies source tokens.
    """

    source: SentenceTokenizer
    target: SentenceTokenizer
    replace_unknown: bool
    copies: bool

    def write(self, sentence: str, found: Hypothesis, text: str | None = None) -> TranslatedText:
        """A hypothesis as an answer.

        Args:
            sentence: that it translates.
            found: its tokens, score and attention.
            text: what it reads as, where that is known.
        """
        source, target = self.source, self.target
        if found.weights is None:
            written = target.decode(found.tokens) if text is None else text
            return TranslatedText(
                _one_line(written),
                found.log_probability,
                found.score,
                len(found.tokens),
                words=self._words(found, text, {}),
            )
        weights = found.weights.float().numpy()
        read = weights.shape[1] - 1
        pieces = source.pieces(sentence)[:read]
        unknown: dict[int, str] = {}
        if text is None and self.replace_unknown and target.unk_id in found.tokens and read:
            candidates = self._unknown_sources(sentence, read)
            for place, token in enumerate(found.tokens):
                if token == target.unk_id:
                    unknown[place] = pieces[candidates[int(weights[place, candidates].argmax())]]
        if text is None:
            written = target.decode(found.tokens, unknown)
            own = [unknown.get(place, target.piece(token)) for place, token in enumerate(found.tokens)]
        else:
            written, own = text, target.pieces(text)
        aligned = align_words(weights[: len(own), :read], source.tokenizer.normalize(sentence), pieces, written, own)
        return TranslatedText(
            _one_line(written),
            found.log_probability,
            found.score,
            len(found.tokens),
            aligned,
            [*pieces, "<eos>"],
            [*own, "<eos>"],
            weights,
            self._words(found, text, unknown),
        )

    def _words(self, found: Hypothesis, text: str | None, unknown: Mapping[int, str]) -> list[WordScore]:
        """The words that a hypothesis is written with; none where the gains of its tokens are not known."""
        if not found.gains:
            return []
        own = self.target.tokenizer
        if text is not None:
            tokens = self.target.text_bytes(text)
        else:
            tokens = [own.token_bytes(token) for token in found.tokens]
            for place, word in unknown.items():
                tokens[place] = word.encode()
        return score_words(tokens, found.gains, own.tokens_are_words)

    def _unknown_sources(self, sentence: str, read: int) -> npt.NDArray[np.int64]:
        """Places of the source whose word may stand for an unknown token.

        A copying model gives <unk> the weights of the source's own unknown tokens, so one of these was copied.
        """
        if self.copies:
            ids = self.source.encode(sentence)[:read]
            places = np.flatnonzero(ids == self.source.unk_id)
            if len(places):
                return places
        return np.arange(read)


def _one_line(text: str) -> str:
    """The text without line breaks of any kind, so that a line stays a line."""
    return text.translate(_LINE_BREAKS)
