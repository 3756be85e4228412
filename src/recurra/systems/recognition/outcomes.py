"""What a recogniser makes of each utterance, for comparing two recognisers utterance by utterance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy.typing as npt

from ...measures.error_rates import error_counts
from .predict import SpeechRecogniser

__all__ = ["utterance_outcomes"]


def utterance_outcomes(predictor: SpeechRecogniser, files: Sequence[str]) -> Mapping[str, npt.NDArray[Any]]:
    """Of each utterance the errors in words and the words, and the same of characters, (N, 2); and 1 if it has none.

    Raises:
        DataError: if a file or a recording cannot be read, or there is no utterance in it.
    """
    found = predictor.evaluate(list(files))
    references = map(predictor.transcripts.reference, found.references)
    counts = error_counts(references, [each.text for each in found.transcripts])
    return {
        "word_error_rate": counts[:, :2],
        "character_error_rate": counts[:, 2:4],
        "exact": 1.0 - counts[:, 4],
    }
