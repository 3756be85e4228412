"""How a tagger reads a sentence, for whoever looks at its states."""

from __future__ import annotations

import re

import numpy as np

from ..reading import Reader, Reading, Side
from .predict import TaggerPredictor

__all__ = ["READER"]


def _read(predictor: TaggerPredictor, text: str, most: int) -> Reading:
    """A sentence of words between white space; the layers that read the characters of a word are not looked at."""
    found = list(re.finditer(r"\S+", text))[:most]
    words = [word[0] for word in found]
    places = np.array([word.span() for word in found], np.int64).reshape(-1, 2)
    return Reading(
        predictor.model, (Side("text", text, places, "recurrent"),), lambda: predictor.tag([words], marginals=True)[0]
    )


READER = Reader(_read)
