"""How a language model reads a text, for whoever looks at its states."""

from __future__ import annotations

from ...data.places import token_places
from ..reading import Reader, Reading, Side
from .predict import LanguageModelPredictor

__all__ = ["READER"]


def _read(predictor: LanguageModelPredictor, text: str, most: int) -> Reading:
    tokenizer = predictor.tokenizer
    tokens = [int(token) for token in tokenizer.encode(text)[:most]]
    # A text begins after a line end.
    side = Side("text", text, token_places(tokenizer, text)[:most], "recurrent", before=1)
    return Reading(predictor.model, (side,), lambda: predictor.begin(tokens)[0])


READER = Reader(_read, by_line=False)
