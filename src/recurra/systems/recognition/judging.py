"""How good recognised texts are, and how far the confidences of their words can be believed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ...measures.classification import reliability
from ...measures.error_rates import error_rates, right_words
from .transcripts import Transcripts

__all__ = ["Confidences", "calibrated", "fit_confidence", "judge", "word_confidences"]

Array = npt.NDArray[np.float64]

_EDGE = 1e-6
"""A confidence is taken to be so far from 0 and 1 at least, where its log-odds would be infinite."""


class Confidences(NamedTuple):
    """Of words that were recognised: how sure each is, before calibration, and whether it is right, (words,) each."""

    values: Array
    right: npt.NDArray[np.bool_]


def word_confidences(
    transcripts: Transcripts, references: Sequence[str], words: Sequence[Sequence[tuple[str, float]]]
) -> Confidences:
    """Which of the recognised words are right, by an alignment of fewest errors with the reference.

    Args:
        transcripts: of the run.
        references: texts as they were given.
        words: of each text the recognised words, with their confidences.
    """
    values: list[float] = []
    right: list[bool] = []
    for reference, found in zip(references, words, strict=True):
        wanted = transcripts.reference(reference)
        # Where nothing marks the beginnings of words, the whole text is one.
        expected = wanted.split() if transcripts.marks is not None else [wanted]
        values += [confidence for _, confidence in found]
        right += right_words(expected, [word for word, _ in found])
    return Confidences(np.array(values, np.float64), np.array(right, np.bool_))


def calibrated(values: Array, slope: float, offset: float) -> Array:
    """Confidences as probabilities of being right: a straight line of log-odds (Platt 1999)."""
    odds = slope * _log_odds(values) + offset
    return np.exp(-np.logaddexp(0.0, -odds))


def fit_confidence(confidences: Confidences) -> tuple[float, float]:
    """The slope and the offset that make the right and the wrong words likeliest, by Newton's method.

    A few words do not tell how sure one may be of others. So both have a normal prior of deviation 1 around those of
    confidences that stay as they are, a slope of 1 and an offset of 0. The slope is at least 0.
    """
    odds = _log_odds(confidences.values)
    rows = np.stack([odds, np.ones_like(odds)], 1)
    right = confidences.right.astype(np.float64)
    start = np.array([1.0, 0.0])
    found = start.copy()

    def badness(line: Array) -> float:
        scores = rows @ line
        return float((np.logaddexp(0.0, scores) - right * scores).sum() + ((line - start) ** 2).sum() / 2)

    for _ in range(100):
        chances = np.exp(-np.logaddexp(0.0, -(rows @ found)))
        gradient = rows.T @ (chances - right) + (found - start)
        curvature = (rows * (chances * (1 - chances))[:, None]).T @ rows + np.eye(2)
        step = np.linalg.solve(curvature, gradient)
        size, before = 1.0, badness(found)
        while badness(found - size * step) > before and size > 1e-6:
            size /= 2
        found = found - size * step
        if np.abs(size * step).max() < 1e-9:
            break
    return max(0.0, float(found[0])), float(found[1])


def judge(
    transcripts: Transcripts,
    references: Sequence[str],
    hypotheses: Sequence[str],
    confidences: Confidences,
    line: tuple[float, float],
) -> dict[str, float | None]:
    """The measures of recognised texts, beside the loss.

    Args:
        transcripts: of the run; references are compared in the form in which it writes texts.
        references: texts as they were given.
        hypotheses: recognised texts.
        confidences: of their words.
        line: slope and offset of the calibration.
    """
    rates = error_rates(map(transcripts.reference, references), hypotheses)
    error = None
    if len(confidences.values):
        error = reliability(calibrated(confidences.values, *line), confidences.right.astype(np.float64)).error
    return {
        "word_error_rate": rates.words,
        "character_error_rate": rates.characters,
        "exact": rates.exact,
        "calibration_error": error,
    }


def _log_odds(values: Array) -> Array:
    inside = np.clip(values, _EDGE, 1 - _EDGE)
    found: Array = np.log(inside) - np.log1p(-inside)
    return found
