"""Student's t distribution, for any number of degrees of freedom."""

from __future__ import annotations

import math

__all__ = ["t_quantile", "t_tails"]

_TINY = 1e-300


def t_tails(t: float, degrees: float) -> float:
    """P(|T| >= |t|), both tails together, for Student's T with so many degrees of freedom (any number above 0).

    Accurate to about 1e-12 of its value up to some thousand degrees, also far out, where it is tiny.
    """
    if math.isinf(t):
        return 0.0
    # The tails are the regularised incomplete beta function (Abramowitz & Stegun 1964, 26.5.27 and 26.7.1).
    square = t * t
    return _incomplete_beta(degrees / 2, 0.5, degrees / (degrees + square), square / (degrees + square))


def t_quantile(confidence: float, degrees: float) -> float:
    """The t for which P(|T| <= t) is `confidence`, for example 2.571 for 0.95 and 5 degrees of freedom."""
    low, high = 0.0, 1.0
    while t_tails(high, degrees) > 1 - confidence:
        low, high = high, 2 * high
    while (middle := (low + high) / 2) not in (low, high):
        if t_tails(middle, degrees) > 1 - confidence:
            low = middle
        else:
            high = middle
    return high


def _incomplete_beta(a: float, b: float, x: float, rest: float) -> float:
    """I_x(a, b), with `rest` for 1 - x, which would lose digits if it were taken here (DLMF 8.17.22)."""
    if x <= 0.0 or rest <= 0.0:
        return 0.0 if x <= 0.0 else 1.0
    if x > (a + 1) / (a + b + 2):
        # There the fraction would converge slowly.
        return 1.0 - _incomplete_beta(b, a, rest, x)
    log_front = a * math.log(x) + b * math.log(rest) + math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b)
    return math.exp(log_front) / (a * _fraction(a, b, x))


def _fraction(a: float, b: float, x: float) -> float:
    """1 + d1 / (1 + d2 / (1 + ...)) of DLMF 8.17.22, from the front by Lentz's method (DLMF 3.10(iii))."""
    value = upper = 1.0
    lower = 0.0
    # The number of terms grows with the square root of the larger parameter.
    for term in range(1, 100_000):
        m = term // 2
        if term % 2:
            d = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        else:
            d = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        lower = 1.0 / (1.0 + d * lower or _TINY)
        upper = 1.0 + d / upper or _TINY
        value *= lower * upper
        if abs(lower * upper - 1.0) < 1e-15:
            break
    return value
