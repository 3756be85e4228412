"""Student's t distribution against closed forms, printed tables and scipy."""

from __future__ import annotations

import math

import pytest

from recurra.comparison.student import t_quantile, t_tails


@pytest.mark.parametrize("t", [0.0, 1e-9, 0.1, 0.9, 1.0, 3.0, 40.0, 1e4, -2.5])
def test_tails_of_one_two_and_three_degrees_have_closed_forms(t: float) -> None:
    # One degree is Cauchy's distribution; the tails of all are elementary (Abramowitz & Stegun 26.7.3 and 26.7.4).
    far = abs(t)
    cauchy = 2 / math.pi * math.atan2(1.0, far)
    # 1 - t / sqrt(t^2 + 2), so that no digits are lost far out.
    root = math.sqrt(far**2 + 2)
    two = 2 / (root * (root + far))
    assert t_tails(t, 1) == pytest.approx(cauchy, rel=1e-13)
    assert t_tails(t, 2) == pytest.approx(two, rel=1e-13)
    angle = math.atan2(far, math.sqrt(3))
    three = 1 - 2 / math.pi * (angle + math.sin(angle) * math.cos(angle))
    # This form does lose digits: it is accurate to 1e-16 of 1.
    assert t_tails(t, 3) == pytest.approx(three, rel=1e-12, abs=1e-15)


@pytest.mark.parametrize(
    ("confidence", "degrees", "quantile"),
    # Table of Student's distribution in Fisher & Yates, and in every textbook.
    [(0.95, 1, 12.706), (0.95, 2, 4.303), (0.95, 4, 2.776), (0.95, 9, 2.262), (0.99, 9, 3.250), (0.95, 30, 2.042),
     (0.99, 120, 2.617), (0.9, 5, 2.015)],
)  # fmt: skip
def test_quantiles_are_those_of_printed_tables(confidence: float, degrees: float, quantile: float) -> None:
    assert t_quantile(confidence, degrees) == pytest.approx(quantile, abs=5e-4)


def test_quantiles_of_many_degrees_are_those_of_the_normal_distribution() -> None:
    assert t_quantile(0.95, 1e7) == pytest.approx(1.959963985, abs=1e-6)


def test_tails_and_quantiles_are_scipys() -> None:
    stats = pytest.importorskip("scipy.stats")
    for degrees in (0.7, 1, 1.5, 2, 3, 7.77, 29, 999, 4999):
        for t in (0.0, 1e-5, 0.3, 1.0, 1.96, 5.0, 25.0, 300.0):
            assert t_tails(t, degrees) == pytest.approx(2 * stats.t.sf(t, degrees), rel=1e-11), (t, degrees)
        for confidence in (0.1, 0.5, 0.95, 0.999):
            expected = stats.t.ppf((1 + confidence) / 2, degrees)
            assert t_quantile(confidence, degrees) == pytest.approx(expected, rel=1e-9)


def test_infinite_t_has_no_tails() -> None:
    assert t_tails(math.inf, 3) == 0.0
