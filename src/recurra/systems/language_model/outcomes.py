"""What a language model says of each line of a text, for comparing two models line by line."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ...data.text import expand_paths, read_text
from .predict import LanguageModelPredictor

__all__ = ["line_outcomes"]


def line_outcomes(predictor: LanguageModelPredictor, files: Sequence[str]) -> Mapping[str, npt.NDArray[Any]]:
    """Of each line, read as the first of a text: nats and tokens, (N, 2), and bits and characters, (N, 2).

    Line ends count as tokens and characters; blank lines are passed over.

    Raises:
        DataError: if a file cannot be read, or has no text.
    """
    text = "".join(read_text(expand_paths(files)))
    scores = predictor.score([line for line in text.split("\n") if line.strip()])
    nats = np.array([-score.log_probability for score in scores])
    tokens = np.array([score.tokens for score in scores], dtype=np.float64)
    characters = np.array([len(score.text) + 1 for score in scores], dtype=np.float64)
    return {
        "loss": np.stack([nats, tokens], axis=1),
        "bits_per_character": np.stack([nats / math.log(2), characters], axis=1),
    }
