"""The simple baseline of language models: an n-gram model of the same tokens and the same texts."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ..data.text import expand_paths, read_text
from .ngram import best_order

__all__ = ["ngram_baseline"]


def ngram_baseline(predictor: Any, files: Sequence[str]) -> tuple[str, Mapping[str, npt.NDArray[Any]]]:
    """The name of an n-gram model, and its outcomes for each line of files that has text.

    It is trained on the training text of the predictor's run; its order is the best one on the validation text, or on
    the last lines of the training text where no validation text is named.

    Args:
        predictor: of a language model.
        files: as its system's `outcomes` takes them.

    Raises:
        DataError: if a text cannot be read.
    """
    data, tokenizer = predictor.config.data, predictor.tokenizer
    train, test = _lines(data.train), _lines(files)
    if data.valid:
        valid = _lines(data.valid)
    else:
        held = max(1, round(len(train) * data.validation_fraction))
        train, valid = train[:-held], train[-held:]
    ids = [[tokenizer.encode(line) for line in lines] for lines in (train, valid, test)]
    model = best_order(ids[0], ids[1], tokenizer.vocab_size, tokenizer.eos_id)
    nats = np.array([[each.sum(), len(each)] for each in model.nats(ids[2])])
    bits = np.array([[total / math.log(2), len(line) + 1] for (total, _), line in zip(nats, test, strict=True)])
    return f"{model.order}-gram (Witten-Bell)", {"loss": nats, "bits_per_character": bits}


def _lines(files: Sequence[str]) -> list[str]:
    return [line for line in "".join(read_text(expand_paths(files))).split("\n") if line.strip()]
