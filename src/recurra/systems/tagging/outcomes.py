"""How a tagger tags each sentence, for comparing two taggers sentence by sentence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ...errors import DataError
from ...measures.spans import span_scores
from .predict import TaggerPredictor

__all__ = ["sentence_outcomes"]


def sentence_outcomes(predictor: TaggerPredictor, files: Sequence[str]) -> Mapping[str, npt.NDArray[Any]]:
    """Of each sentence how many tags are right and how many there are, (N, 2), by measure.

    `accuracy` is of all columns together, `unknown_accuracy` of words that no training sentence has. `span_f1` is of
    the columns that mark spans: twice the right spans, and the spans of both sides, whose ratio is F1.

    Raises:
        DataError: if a file cannot be read, or has no sentence.
    """
    vocabulary, data = predictor.vocabulary, predictor.config.data
    rows, unknown, spans = [], [], []
    marked = [name for name in predictor.columns if data.marks_spans(name)]
    for sentence, tags in predictor.compared(files):
        strange = [vocabulary.key(vocabulary.normal(word)) not in vocabulary.seen for word in sentence.words]
        right = np.array([[one == other for one, other in zip(*pair, strict=True)] for pair in tags.values()])
        rows.append([right.sum(), right.size])
        unknown.append([right[:, strange].sum(), len(tags) * sum(strange)])
        found = [span_scores([tags[name][0]], [tags[name][1]], data.scheme).all for name in marked]
        spans.append([sum(2 * each.correct for each in found), sum(each.predicted + each.gold for each in found)])
    if not rows:
        raise DataError(f"{', '.join(files)}: has no tagged sentence; name another file.")
    outcomes = {"accuracy": rows}
    if any(total for _, total in unknown):
        outcomes["unknown_accuracy"] = unknown
    if any(total for _, total in spans):
        outcomes["span_f1"] = spans
    return {name: np.array(each, dtype=np.float64) for name, each in outcomes.items()}
