"""Measures of answers against scikit-learn where it is installed, closed forms, and literal values."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recurra.measures.classification import (
    brier,
    class_scores,
    fit_temperature,
    fit_thresholds,
    log_loss,
    macro_f1,
    micro_f1,
    pearson,
    probabilities,
    reliability,
)


def tables(seed: int, rows: int = 60, labels: int = 5) -> tuple[np.ndarray, np.ndarray]:
    choose = np.random.default_rng(seed)
    return np.eye(labels)[choose.integers(0, labels - 1, rows)], np.eye(labels)[choose.integers(0, labels, rows)]


def test_f1_by_hand() -> None:
    # Three texts of a, one of b; a a b are answered to a, and a to b; c is never there and never answered.
    right = np.array([[1, 0, 0], [1, 0, 0], [1, 0, 0], [0, 1, 0]])
    answer = np.array([[1, 0, 0], [1, 0, 0], [0, 1, 0], [1, 0, 0]])
    found = class_scores(right, answer)
    np.testing.assert_allclose(found.precision, [2 / 3, 0, 0])
    np.testing.assert_allclose(found.recall, [2 / 3, 0, 0])
    np.testing.assert_allclose(found.f1, [2 / 3, 0, 0])
    assert macro_f1(found) == pytest.approx(1 / 3)  # of a and b, which occur
    assert micro_f1(right, answer) == 0.5


@pytest.mark.parametrize("seed", range(5))
def test_f1_is_that_of_scikit_learn(seed: int) -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    right, answer = tables(seed)
    found = class_scores(right, answer)
    expected = metrics.precision_recall_fscore_support(right.argmax(1), answer.argmax(1), zero_division=0)
    for mine, theirs in zip(found[:3], expected[:3], strict=True):
        np.testing.assert_allclose(mine, theirs)
    assert macro_f1(found) == pytest.approx(metrics.f1_score(right.argmax(1), answer.argmax(1), average="macro"))
    several = (np.random.default_rng(seed).random((2, 40, 4)) < 0.4).astype(float)
    assert micro_f1(*several) == pytest.approx(metrics.f1_score(*several, average="micro"))


def test_probabilities_hold_for_huge_logits() -> None:
    logits = np.array([[1e5, 0.0, -1e5], [-1e5, -1e5, -1e5]])
    np.testing.assert_allclose(probabilities(logits), [[1, 0, 0], [1 / 3] * 3])
    assert probabilities(logits, several=True)[1].max() == 0
    assert math.isfinite(log_loss(logits, np.array([2, 0]))) and log_loss(logits, np.array([0, 0])) == pytest.approx(
        math.log(3) / 2
    )
    assert log_loss(logits, np.array([[1, 0, 0], [0, 0, 0]])) == pytest.approx(math.log(2) / 2)


@given(st.floats(0.1, 10), st.integers(0, 1000))
def test_the_temperature_that_made_the_labels_is_found(temperature: float, seed: int) -> None:
    """Labels are drawn from softmax(logits / T), so T is what fits them, but for the chance of the draws."""
    choose = np.random.default_rng(seed)
    logits = choose.normal(size=(4000, 3)) * 2 * temperature
    drawn = (choose.random((4000, 1)) > probabilities(logits, temperature).cumsum(1)).sum(1)
    found = fit_temperature(logits, drawn)
    assert found == pytest.approx(temperature, rel=0.2)
    for other in (found * 0.99, found * 1.01):
        # Of 4,000 texts the prior moves the optimum by less than this is worth.
        assert log_loss(logits, drawn, other) >= log_loss(logits, drawn, found) - 1e-5


def test_a_few_perfect_answers_do_not_make_sure() -> None:
    logits = np.array([[5.0, 0.0], [0.0, 5.0]])
    # Nothing is lost by a lower temperature, but two texts are no proof; all wrong, they count as two.
    assert 0.5 < fit_temperature(logits, np.array([0, 1])) < 1
    assert 1 < fit_temperature(logits, np.array([1, 0])) < 20
    many = np.tile(logits, (5000, 1)) * 0.2
    assert fit_temperature(many, np.tile([0, 1], 5000)) < 0.25


def test_thresholds_have_the_best_f1_of_all() -> None:
    choose = np.random.default_rng(5)
    chances, target = choose.random((50, 3)), (choose.random((50, 3)) < 0.3).astype(float)
    chances[:, 1] = chances[:, 1].round(1)  # many are equal
    found = fit_thresholds(chances, target)
    for label in range(3):
        column, right = chances[:, label], target[:, label]

        def f1(threshold: float, column: np.ndarray = column, right: np.ndarray = right) -> float:
            answer = column >= threshold
            return 2 * float((right * answer).sum()) / float(right.sum() + answer.sum())

        assert f1(found[label]) == pytest.approx(max(f1(each) for each in column))


def test_a_label_that_no_text_has_keeps_its_threshold() -> None:
    assert fit_thresholds(np.array([[0.3], [0.9]]), np.zeros((2, 1))).tolist() == [0.5]


def test_calibration_error_by_hand() -> None:
    # Two bins: of 0.2 none is right, of 0.9 two in three.
    found = reliability(np.array([0.2, 0.9, 0.9, 0.9]), np.array([0, 1, 1, 0]), bins=2)
    assert found.error == pytest.approx((0.2 + 3 * (0.9 - 2 / 3)) / 4)
    assert found.answers.tolist() == [1, 3] and found.right.tolist() == [0, pytest.approx(2 / 3)]
    assert reliability(np.array([1.0]), np.array([1])).error == 0


def test_brier_and_pearson() -> None:
    assert brier(np.array([[0.8, 0.2]]), np.array([[1, 0]])) == pytest.approx(0.08)
    one, other = np.random.default_rng(1).normal(size=(2, 30))
    assert pearson(one, other) == pytest.approx(np.corrcoef(one, other)[0, 1])
    assert pearson(one, np.ones(30)) == 0
