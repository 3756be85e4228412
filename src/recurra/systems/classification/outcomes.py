"""What a classifier makes of each labelled text, for comparing two classifiers text by text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ...errors import DataError
from .predict import Classifier, Judged

__all__ = ["most_frequent_label", "text_outcomes"]


def text_outcomes(predictor: Classifier, files: Sequence[str]) -> Mapping[str, npt.NDArray[Any]]:
    """Of each text 1 if all its labels are right and else 0, (N,); or of numbers the squared error and 1, (N, 2).

    Raises:
        DataError: if a file cannot be read, or there is no text in it.
    """
    found = predictor.evaluate(list(files))
    if not found.examples:
        raise DataError(f"{', '.join(files)}: has no labelled text; name another file.")
    if predictor.label_set.kind == "regression":
        right = np.array([example.number for example in found.examples], np.float64)
        squares = (found.verdict.chances[:, 0] - right) ** 2
        return {"rmse": np.stack([squares, np.ones_like(squares)], axis=1)}
    name = "exact" if predictor.label_set.kind == "multi-label" else "accuracy"
    return {name: _right(predictor.labels, found)}


def root_of_mean(sums: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The root of the first sum over the second: (..., 2) to (...)."""
    found: npt.NDArray[Any] = np.sqrt(sums[..., 0] / sums[..., 1])
    return found


def most_frequent_label(
    predictor: Classifier, files: Sequence[str]
) -> tuple[str, Mapping[str, npt.NDArray[Any]]] | None:
    """The name and the outcomes of giving every text the most frequent label of the training texts, or their mean.

    None for texts of several labels, of which no such guess is the simple one.
    """
    found = predictor.evaluate(list(files))
    if predictor.label_set.kind == "regression":
        right = np.array([example.number for example in found.examples], np.float64)
        squares = (right - predictor.label_set.mean) ** 2
        return "mean of the training texts", {"rmse": np.stack([squares, np.ones_like(squares)], axis=1)}
    if predictor.label_set.kind == "multi-label":
        return None
    place = int(predictor.model.prior.argmax())
    label = predictor.labels[place]
    given = np.array([float(Counter(example.labels) == {label: 1}) for example in found.examples])
    return f"most frequent label ({label})", {"accuracy": given}


def _right(names: Sequence[str], found: Judged) -> npt.NDArray[Any]:
    rows = [{names[int(place)] for place in np.flatnonzero(row)} for row in found.verdict.given]
    return np.array([float(set(example.labels) == row) for example, row in zip(found.examples, rows, strict=True)])
