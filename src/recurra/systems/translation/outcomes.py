"""What a translation system makes of each pair, for comparing two systems sentence by sentence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ...data.parallel import read_pairs
from ...errors import ConfigError, DataError
from ...measures.translation import bleu_counts
from .predict import Translator

__all__ = ["pair_outcomes"]


def pair_outcomes(predictor: Translator, files: Sequence[str]) -> Mapping[str, npt.NDArray[Any]]:
    """Of each pair nats and tokens of its target, (N, 2), and the counts that BLEU is made of, (N, 10).

    Args:
        predictor: asked with the beam and the penalties of its configuration.
        files: one file of pairs, or a file of sources and one of their targets.

    Raises:
        ConfigError: for another number of files, or if sacreBLEU is not installed.
        DataError: if a file cannot be read, or no pair has two sides.
    """
    if len(files) not in (1, 2):
        raise ConfigError("--test: translation takes one file of pairs, or a file of sources and one of targets.")
    data, training = predictor.config.data, predictor.config.training
    source, target, together = (*files, None) if len(files) == 2 else (None, None, files[0])
    empty = "keep" if data.empty_lines == "drop" else "error"
    pairs, _ = read_pairs(source, target, together, columns=data.columns, keys=data.keys, empty=empty)
    whole = [pair for pair in pairs if pair.source and pair.target]
    if not whole:
        raise DataError(f"{files[0]}: no pair has two sides with text; give a file with sentences.")
    sources, targets = [pair.source for pair in whole], [pair.target for pair in whole]
    scores = predictor.score(sources, targets)
    texts = [answer.best for answer in predictor.translate(sources)]
    form = predictor.target_tokenizer if training.references == "normalized" else None
    return {
        "loss": np.array([[-score.log_probability, score.tokens] for score in scores]),
        "bleu": bleu_counts(texts, targets, training.bleu_tokenizer, form),
    }
