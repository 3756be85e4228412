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
from .labels import Labels

__all__ = ["Verdict", "judge"]

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


def judge(
    labels: Labels,
    logits: Array,
    target: Array,
    temperature: float,
    thresholds: Array,
    known: Array | None = None,
) -> Verdict:
    """Compare what a network says with what is right.

    Args:
        labels: that it was trained with.
        logits: (texts, K).
        target: as `Labels.targets` gives it.
        temperature, thresholds: of the calibration.
        known: (texts,) bool, whether all labels of a text are ones that the network has. A text that has another one is
            answered wrongly whatever the answer, and is left out of the loss and of what is worked out from it.
    """
    if labels.kind == "regression":
        return _numbers(labels, logits[:, 0].astype(np.float64), np.asarray(target, np.float64))
    several = labels.kind == "multi-label"
    known = np.ones(len(logits), bool) if known is None else known
    chances = probabilities(logits, temperature, several=several)
    table = np.eye(len(labels.names))[target] if not several else np.asarray(target, np.float64)
    if not several:
        table[~known] = 0.0
    given = (chances >= thresholds).astype(np.float64) if several else np.eye(len(labels.names))[chances.argmax(1)]
    right = (given == table).all(axis=1) & known
    classes = class_scores(table, given)
    measures = {"exact" if several else "accuracy": float(right.mean()), "macro_f1": macro_f1(classes)}
    if several:
        measures["micro_f1"] = micro_f1(table, given)
        found = reliability(chances.ravel(), table.ravel())
    else:
        found = reliability(chances.max(axis=1), right.astype(np.float64))
    measures |= {"calibration_error": found.error, "brier": brier(chances, table), "temperature": temperature}
    answers = [_named(labels, row, odds) for row, odds in zip(given, chances, strict=True)]
    loss = log_loss(logits[known], np.asarray(target)[known]) if known.any() else float("nan")
    return Verdict(loss, measures, answers, chances, given, found, classes)


def _numbers(labels: Labels, found: Array, right: Array) -> Verdict:
    squares = float(((found - right) ** 2).mean())
    numbers = found * labels.deviation + labels.mean
    measures = {"pearson": pearson(found, right), "rmse": squares**0.5 * labels.deviation}
    answers = [f"{number:.3f}" for number in numbers]
    return Verdict(squares, measures, answers, numbers[:, None], np.zeros((len(found), 0)), None, None)


def _named(labels: Labels, given: Array, chances: Array) -> str:
    places = np.flatnonzero(given)
    return ", ".join(f"{labels.names[place]} ({chances[place]:.1%})" for place in places) or "none"
