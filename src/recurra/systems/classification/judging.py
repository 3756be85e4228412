"""What a classifier's logits say of texts, and how good that is."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ...measures.classification import (
    ClassScores,
    Reliability,
    brier,
    class_scores,
    log_loss,
    macro_f1,
    micro_f1,
    pearson,
    probabilities,
    reliability,
)
from .labels import Labels, Targets

__all__ = ["Verdict", "judge", "nothing_known"]

Array = npt.NDArray[Any]


class Verdict(NamedTuple):
    """What was answered to texts of which the labels are known.

    Attributes:
        loss: nats a text before calibration, or the squared error in deviations of the training texts.
        measures: by the names of the system's record.
        answers: of each text, for people.
        chances: (texts, K), calibrated; or (texts, 1), the numbers that were answered.
        given: (texts, K) of 0 and 1, the labels that were answered.
        reliability, classes: None where numbers are predicted.
    """

    loss: float
    measures: dict[str, float]
    answers: list[str]
    chances: Array
    given: Array
    reliability: Reliability | None
    classes: ClassScores | None


def judge(labels: Labels, logits: Array, targets: Targets, temperature: float, thresholds: Array) -> Verdict:
    """Compare what a network says with what is right.

    A text with a label that no training text had is answered wrongly whatever the answer, and is left out of the loss.
    Such labels count in F1 as ones that are never answered.

    Args:
        labels: that it was trained with.
        logits: (texts, K).
        targets: as `Labels.targets` gives them.
        temperature, thresholds: of the calibration.
    """
    if labels.kind == "regression":
        return _numbers(labels, logits[:, 0].astype(np.float64), np.asarray(targets.values, np.float64))
    several, known = labels.kind == "multi-label", targets.known
    chances = probabilities(logits, temperature, several=several)
    one = np.eye(len(labels.names))
    table = np.asarray(targets.values, np.float64) if several else one[targets.values] * known[:, None]
    given = (chances >= thresholds).astype(np.float64) if several else one[chances.argmax(1)]
    right = (given == table).all(axis=1) & known
    whole = np.concatenate([table, targets.strange], axis=1)
    answered = np.concatenate([given, np.zeros_like(targets.strange)], axis=1)
    measures = {"exact" if several else "accuracy": float(right.mean())}
    measures["macro_f1"] = macro_f1(class_scores(whole, answered))
    if several:
        measures["micro_f1"] = micro_f1(whole, answered)
        found = reliability(chances.ravel(), table.ravel())
    else:
        found = reliability(chances.max(axis=1), right.astype(np.float64))
    measures |= {"calibration_error": found.error, "brier": brier(chances, table), "temperature": temperature}
    answers = [_named(labels, row, odds) for row, odds in zip(given, chances, strict=True)]
    loss = log_loss(logits[known], targets.values[known]) if known.any() else float("nan")
    return Verdict(loss, measures, answers, chances, given, found, class_scores(table, given))


def nothing_known(labels: Labels, shares: Array, temperature: float) -> Array:
    """The logits, (K,), of a text without tokens: what gives the training texts' shares of labels, or their mean."""
    if labels.kind == "regression":
        return np.zeros(1)
    bounded = np.asarray(shares, np.float64).clip(1e-9, 1 - 1e-9)
    odds = np.log(bounded) - (np.log1p(-bounded) if labels.kind == "multi-label" else 0.0)
    found: Array = odds * temperature
    return found


def _numbers(labels: Labels, found: Array, right: Array) -> Verdict:
    squares = float(((found - right) ** 2).mean())
    numbers = found * labels.deviation + labels.mean
    measures = {"pearson": pearson(found, right), "rmse": squares**0.5 * labels.deviation}
    answers = [f"{number:.5g}" for number in numbers]
    return Verdict(squares, measures, answers, numbers[:, None], np.zeros((len(found), 0)), None, None)


def _named(labels: Labels, given: Array, chances: Array) -> str:
    places = np.flatnonzero(given)
    return ", ".join(f"{labels.names[place]} ({chances[place]:.1%})" for place in places) or "none"
