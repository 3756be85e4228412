"""How good answers about texts are: accuracy, F1, calibration, correlation; and what is fitted to validation data."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

__all__ = [
    "ClassScores",
    "Reliability",
    "brier",
    "class_scores",
    "fit_temperature",
    "fit_thresholds",
    "log_loss",
    "macro_f1",
    "micro_f1",
    "pearson",
    "probabilities",
    "reliability",
]

Array = npt.NDArray[Any]

_COLDEST, _HOTTEST = 0.05, 20.0
"""Between these a temperature is looked for."""
BINS = 15


class ClassScores(NamedTuple):
    """Of each of K labels, (K,): how good the answers are.

    Attributes:
        precision: share of the answers with this label that are right; 0 where there is none.
        recall: share of the texts with this label that were given it; 0 where there is none.
        f1: their harmonic mean, 0 where both are.
        support: texts with this label.
        predicted: answers with this label.
    """

    precision: Array
    recall: Array
    f1: Array
    support: Array
    predicted: Array


class Reliability(NamedTuple):
    """How often answers are right among those of like probability (Guo et al. 2017, section 2).

    Attributes:
        error: expected calibration error, the mean distance of probability and share of right answers.
        confidence, right, answers: of each bin of probabilities, (bins,): mean probability, share of right answers
            (both nan where the bin is empty), answers.
    """

    error: float
    confidence: Array
    right: Array
    answers: Array


def probabilities(logits: Array, temperature: float = 1.0, *, several: bool = False) -> npt.NDArray[np.float64]:
    """Probabilities of labels: softmax of logits (N, K) over a temperature, or where texts have several, a sigmoid."""
    scaled = np.asarray(logits, np.float64) / temperature
    if several:
        return np.exp(-np.logaddexp(0.0, -scaled))
    scaled = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    result: npt.NDArray[np.float64] = scaled / scaled.sum(axis=1, keepdims=True)
    return result


def log_loss(logits: Array, target: Array, temperature: float = 1.0) -> float:
    """Mean of -log P(labels of a text), in nats.

    Args:
        logits: (N, K).
        target: (N,) places of labels, or (N, K) of 0 and 1, whose terms are summed over the labels.
    """
    scaled = np.asarray(logits, np.float64) / temperature
    if target.ndim == 2:
        return float((np.logaddexp(0.0, scaled) - scaled * target).sum(axis=1).mean())
    top = scaled.max(axis=1)
    total = top + np.log(np.exp(scaled - top[:, None]).sum(axis=1))
    return float((total - scaled[np.arange(len(scaled)), target]).mean())


def fit_temperature(logits: Array, target: Array) -> float:
    """The temperature that makes texts likeliest (Guo et al. 2017, section 4.2), between 1/20 and 20.

    A few texts, or ones that are all answered rightly, do not tell how sure one may be of others. So the logarithm of
    the temperature has a normal prior of deviation 1/2 around 0, which some hundred texts outweigh.
    """
    ends = [math.log(_COLDEST), math.log(_HOTTEST)]
    share = (5**0.5 - 1) / 2

    def badness(logarithm: float) -> float:
        return len(logits) * log_loss(logits, target, math.exp(logarithm)) + 2.0 * logarithm**2

    low, high = ends
    inner = [high - share * (high - low), low + share * (high - low)]
    found = [badness(each) for each in inner]
    while high - low > 1e-4:
        if found[0] <= found[1]:
            high, inner[1], found[1] = inner[1], inner[0], found[0]
            inner[0] = high - share * (high - low)
            found[0] = badness(inner[0])
        else:
            low, inner[0], found[0] = inner[0], inner[1], found[1]
            inner[1] = low + share * (high - low)
            found[1] = badness(inner[1])
    return math.exp((low + high) / 2)


def fit_thresholds(chances: Array, target: Array) -> npt.NDArray[np.float64]:
    """For each label the probability from which on it is given, so that its F1 is highest; 1/2 where no text has it.

    A threshold lies in the middle between two neighbouring probabilities. Of equally good ones the nearest to 1/2 wins.

    Args:
        chances, target: (N, K).
    """
    found = np.full(chances.shape[1], 0.5)
    for label, (column, right) in enumerate(zip(chances.T, target.T, strict=True)):
        if not right.any():
            continue
        order = np.argsort(-column, kind="stable")
        ordered, hits = column[order], np.cumsum(right[order])
        f1 = 2 * hits / (np.arange(1, len(column) + 1) + right.sum())
        below = np.append(ordered[1:], 0.0 if ordered[-1] > 0 else -1.0)
        # Between equal probabilities there is no place for a threshold.
        f1[ordered == below] = -1.0
        middles = np.maximum((ordered + below) / 2, 0.0)
        best = np.flatnonzero(f1 >= f1.max() - 1e-12)
        found[label] = middles[best[np.argmin(np.abs(middles[best] - 0.5))]]
    return found


def class_scores(target: Array, answer: Array) -> ClassScores:
    """Precision, recall and F1 of each label, from (N, K) of 0 and 1: what is right and what was answered."""
    both, support, predicted = (table.sum(axis=0) for table in (target * answer, target, answer))
    precision, recall = both / np.maximum(predicted, 1), both / np.maximum(support, 1)
    f1 = 2 * both / np.maximum(support + predicted, 1)
    return ClassScores(precision, recall, f1, support, predicted)


def macro_f1(scores: ClassScores) -> float:
    """The mean F1 of the labels that occur, among what is right or among the answers; 1 where none does."""
    occurs = (scores.support + scores.predicted) > 0
    return float(scores.f1[occurs].mean()) if occurs.any() else 1.0


def micro_f1(target: Array, answer: Array) -> float:
    """F1 of all labels of all texts together, from (N, K) of 0 and 1."""
    total = target.sum() + answer.sum()
    return float(2 * (target * answer).sum() / total) if total else 1.0


def reliability(confidence: Array, right: Array, bins: int = BINS) -> Reliability:
    """How far probabilities of answers are from how often these are right.

    Args:
        confidence: (N,), the probability of each answer.
        right: (N,) of 0 and 1.
        bins: of equal width.
    """
    place = np.minimum((confidence * bins).astype(np.int64), bins - 1)
    count = np.bincount(place, minlength=bins)
    sums = [np.bincount(place, weights=values, minlength=bins) for values in (confidence, right)]
    error = float(np.abs(sums[0] - sums[1]).sum() / max(len(confidence), 1))
    with np.errstate(invalid="ignore"):
        return Reliability(error, sums[0] / count, sums[1] / count, count)


def brier(chances: Array, target: Array) -> float:
    """The mean over texts of the squared distance between probabilities and what is right (Brier 1950), (N, K) each."""
    return float(((chances - target) ** 2).sum(axis=1).mean())


def pearson(first: Array, second: Array) -> float:
    """The correlation of two rows of numbers; 0 where one of them is constant."""
    one, other = first - first.mean(), second - second.mean()
    norm = float(np.sqrt((one @ one) * (other @ other)))
    return float(one @ other) / norm if norm else 0.0
