"""Rankings of made-up states whose answers are known, against brute force and numpy."""

from __future__ import annotations

import numpy as np
import pytest

from recurra.analysis.contexts import nearest_contexts
from recurra.analysis.properties import Property, properties
from recurra.analysis.ranking import adjusted, auc, correlation, rank_units
from recurra.analysis.saturation import saturation

from .made_up import layer, side

RANDOM = np.random.default_rng(5)


def brute_auc(values: np.ndarray, yes: np.ndarray) -> float:
    pairs = [(a > b) + 0.5 * (a == b) for a in values[yes] for b in values[~yes]]
    return float(np.mean(pairs))


def test_auc_is_the_share_of_pairs_in_order() -> None:
    # Rounded, so that there are ties.
    values = RANDOM.normal(size=(40, 6)).round(1)
    yes = RANDOM.random(40) < 0.4
    found = auc(values, yes.astype(float))
    np.testing.assert_allclose(found, [brute_auc(column, yes) for column in values.T], rtol=1e-12)


def test_correlation_is_pearsons() -> None:
    values, wanted = RANDOM.normal(size=(50, 4)).astype(np.float32), RANDOM.normal(size=50)
    values[:, 3] = 2.0
    found = correlation(values, wanted)
    np.testing.assert_allclose(found[:3], [np.corrcoef(column, wanted)[0, 1] for column in values.T[:3]], rtol=1e-6)
    assert found[3] == 0.0


def slow(steps: int, units: int) -> np.ndarray:
    """States that change slowly and know nothing of any text."""
    walk = RANDOM.normal(size=(steps + 40, units)).cumsum(axis=0)
    return np.tanh(walk[40:] - walk[:-40]).astype(np.float32)


LINES = "".join("x" * int(RANDOM.integers(10, 60)) + "\n" for _ in range(60))
QUOTED = "".join("y" * int(RANDOM.integers(5, 40)) + '"' + "x" * int(RANDOM.integers(5, 40)) + '"' for _ in range(60))


@pytest.mark.parametrize(("text", "name", "score"), [(LINES, "line", "r"), (QUOTED, "quotes", "auc")])
@pytest.mark.parametrize("sign", [1, -1])
def test_a_planted_unit_is_found(text: str, name: str, score: str, sign: int) -> None:
    noise = slow(len(text), 300)
    (wanted,) = properties(side(text, []), [name])
    noise[:, 123] = sign * wanted.values / wanted.values.max() + 0.3 * RANDOM.normal(size=len(text))
    made = side(text, [layer({"h": slow(len(text), 300)}), layer({"h": slow(len(text), 300), "c": noise}, number=2)])
    (ranking,) = adjusted([rank_units(made, wanted, 5)])
    assert ranking.score == score and len(ranking.units) == 5
    best = ranking.units[0]
    assert (best.layer.number, best.state, best.unit) == (2, "c", 123)
    middle = 0.5 if score == "auc" else 0.0
    assert sign * (best.held_out - middle) > 0.3 and sign * (best.chosen - middle) > 0.3
    assert best.p < 0.02
    # The next best were chosen among 899 units by chance, which the second half shows.
    assert all(abs(other.held_out - middle) < abs(best.held_out - middle) / 2 for other in ranking.units[1:])


def test_units_that_know_nothing_get_chance_level() -> None:
    far, small = [], 0
    for _ in range(30):
        text = "".join("x" * int(RANDOM.integers(10, 60)) + "\n" for _ in range(30))
        made = side(text, [layer({"h": slow(len(text), 60)})])
        (wanted,) = properties(made, ["line"])
        unit = rank_units(made, wanted, 1).units[0]
        assert abs(unit.chosen) > 0.05
        far.append(np.sign(unit.chosen) * unit.held_out)
        small += unit.p < 0.1
    # On the half that chose them the best of 60 look good; on the other half they are as often wrong as right.
    assert abs(np.mean(far)) < 0.06 and small <= 9


def test_a_property_that_does_not_change_has_no_ranking() -> None:
    made = side("abcdefgh" * 4, [layer({"h": slow(32, 3)})])
    (wanted,) = properties(made, ["brackets"])
    found = rank_units(made, wanted, 3)
    assert found.units == () and "does not change" in found.remark
    nothing = Property("label", np.full(32, np.nan), False)
    assert rank_units(made, nothing, 3).remark == "no token has a value"


def test_tokens_without_a_value_are_left_out() -> None:
    values = slow(400, 4)
    wanted = np.full(400, np.nan)
    wanted[::2] = values[::2, 2]
    found = rank_units(side("x" * 400, [layer({"h": values})]), Property("label", wanted, False), 1)
    assert found.units[0].unit == 2 and found.units[0].held_out == pytest.approx(1.0)


def test_saturation_counts_steps_beyond_the_bounds() -> None:
    gate = np.array([[0.05, 0.5], [0.95, 0.95], [0.02, 0.91], [0.1, 0.9]], np.float32)
    made = layer({"h": gate}, {"f": gate})
    found = saturation(made)["f"]
    np.testing.assert_allclose(found.closed, [0.5, 0.0])
    np.testing.assert_allclose(found.open, [0.25, 0.5])
    assert found.layer == (0.25, 0.375)


def test_planted_contexts_are_found() -> None:
    values = np.full((60, 12), 0.1, np.float32)
    values[0] = 1.0  # the scale of every unit
    values[1] = 0.0
    values[10:13, [2, 3, 7]] = [0.9, 0.8, -0.9]
    values[30:35, [2, 3, 7]] = [0.9, 0.9, -0.8]
    values[50:53, [2, 3]] = 0.7
    values[50, 7] = -0.9  # on at one step of three alone
    values[40:43, [2, 3, 7]] = [-0.9, 0.2, 0.9]  # with the other sign
    found = nearest_contexts(values, 10, 13)
    assert found.units == (2, 3, 7)
    assert [(place.start, place.stop) for place in found.places] == [(30, 33), (50, 53)]
    assert [place.share for place in found.places] == [1.0, pytest.approx(2 / 3)]


def test_contexts_do_not_overlap_and_are_as_many_as_asked_for() -> None:
    values = np.ones((30, 2), np.float32)
    found = nearest_contexts(values, 10, 14, count=4)
    assert [place.start for place in found.places] == [0, 4, 14, 18]
    assert nearest_contexts(values * 0, 0, 2) == ((), ())
    with pytest.raises(ValueError, match="does not lie"):
        nearest_contexts(values, 5, 5)
