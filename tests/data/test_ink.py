"""Strokes tidied, brought to one form, turned to features and back, and changed at random."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recurra.data.draws import draws
from recurra.data.ink import Strokes, bounds, ordered, tidied
from recurra.data.ink_augmentation import AffineSettings, affine, reordered, retimed
from recurra.data.ink_features import COLUMNS, ink_features, strokes_of
from recurra.data.ink_normalising import equally_spaced, normalised_ink, slant, to_size, upright
from recurra.errors import ConfigError, DataError


def strokes(*rows: list[tuple[float, ...]]) -> Strokes:
    return tuple(np.array([(*row, 0.0)[:3] for row in stroke], np.float64) for stroke in rows)


def same(one: Strokes, other: Strokes) -> bool:
    return len(one) == len(other) and all(map(np.array_equal, one, other))


SQUARE = strokes([(10, 20, 0), (30, 20, 100), (30, 60, 400)], [(10, 60, 900), (10, 20, 1000)])
DOT = strokes([(7, 7, 5)])
DOUBLED = strokes([(7, 7, 5), (7, 7, 5), (7, 7, 9)])
FLAT = strokes([(0, 3, 0), (50, 3, 0)])
ODD = (SQUARE, DOT, DOUBLED, FLAT)


def test_strokes_are_tidied() -> None:
    nan, infinity = float("nan"), float("inf")
    found = tidied([[(1, 2), (nan, 3), (3, 4)], [], [(infinity, 1)], [(5, 6)]])
    assert [stroke.tolist() for stroke in found] == [[[1, 2, 0], [3, 4, 0]], [[5, 6, 0]]]
    for given_, message in (([[(nan, 1)]], "no point in it"), ([], "no point"), ([[(1, 2, 3, 4)]], r"shape \(1, 4\)")):
        with pytest.raises(DataError, match=message):
            tidied(given_)
    for wrong in ([[(1, "a")]], [[(1, 2), (3,)]], [3.0]):
        with pytest.raises(DataError, match="drawing: a stroke"):
            tidied(wrong)  # type: ignore[arg-type]


def test_times_never_fall() -> None:
    falling = [[(0, 0, 50), (1, 0, 40), (2, 0, 60)], [(3, 0, 10), (4, 0, 70)]]
    found = tidied(falling)
    assert [stroke.tolist() for stroke in found] == [
        [[0, 0, 50], [1, 0, 50], [2, 0, 60]], [[3, 0, 60], [4, 0, 70]],
    ]  # fmt: skip
    moved = tidied(falling, by_time=True)
    assert [stroke.tolist() for stroke in moved] == [
        [[3, 0, 10], [4, 0, 70]], [[1, 0, 70], [0, 0, 70], [2, 0, 70]],
    ]  # fmt: skip
    assert same(ordered(SQUARE), SQUARE)


@pytest.mark.parametrize("by", ["height", "larger"])
def test_size(by: str) -> None:
    made = to_size(SQUARE, by=by)
    np.testing.assert_allclose(bounds(made), (0, 0, 0.5, 1))
    assert made[0][:, 2].tolist() == [0, 100, 400]
    # The same whatever the place and the unit.
    moved = tuple(stroke * [7, 7, 1] + [-3, 900, 0] for stroke in SQUARE)
    np.testing.assert_allclose(np.concatenate(to_size(moved, by=by)), np.concatenate(made), atol=1e-12)
    for dot in (DOT, DOUBLED):
        assert bounds(to_size(dot, by=by)) == (0, 0, 0, 0)
    assert bounds(to_size(FLAT, by=by)) == ((0, 0, 20, 0) if by == "height" else (0, 0, 1, 0))
    with pytest.raises(ValueError, match="width"):
        to_size(SQUARE, by="width")


@pytest.mark.parametrize("lean", [-0.8, -0.3, 0, 0.2, 0.8])
def test_slant_is_found_and_taken_away(lean: float) -> None:
    # Upright strokes of two heights with level ones between them, sheared.
    comb = strokes(*([(x, 0), (x, 2 + x % 2), (x + 0.9, 2 + x % 2)] for x in range(5)))
    leaning = tuple(np.column_stack([row[:, 0] - lean * row[:, 1], row[:, 1:]]) for row in comb)
    np.testing.assert_allclose(slant(leaning), lean, atol=0.01)
    np.testing.assert_allclose(np.concatenate(upright(leaning)), np.concatenate(comb), atol=0.03)


def test_writing_without_upright_strokes_has_no_slant() -> None:
    assert [slant(each) for each in (DOT, DOUBLED, FLAT)] == [0, 0, 0]


def test_points_are_at_equal_distances() -> None:
    (corner, side) = equally_spaced(SQUARE, 4)
    steps = np.diff(side[:, :2], axis=0)
    np.testing.assert_allclose(np.hypot(*steps.T), 4)
    assert len(corner) == 16
    assert corner[[0, 5, -1]].tolist() == [[10, 20, 0], [30, 20, 100], [30, 60, 400]]
    # Times are linear along each part.
    np.testing.assert_allclose(corner[:, 2], [0, 20, 40, 60, 80, *np.linspace(100, 400, 11)])
    for dot in (DOT, DOUBLED):
        assert same(equally_spaced(dot, 4), DOT)
    # A pen that writes at another speed gives the same points.
    slow = strokes([(10, 20), (10, 20), (11, 20), (12, 20), (29, 20), (30, 20), (30, 21), (30, 21), (30, 60)])
    np.testing.assert_allclose(equally_spaced(slow, 4)[0][:, :2], corner[:, :2])
    assert len(equally_spaced(SQUARE, 1000)[0]) == 2
    assert len(equally_spaced(strokes([(0, 0), (1e9, 0)]), 1e-9)[0]) == 100_000
    with pytest.raises(ValueError, match="above 0"):
        equally_spaced(SQUARE, 0)


def test_features_are_what_their_names_say() -> None:
    found = ink_features(SQUARE)
    expected = {
        "dx": [0, 20, 0, -20, 0],
        "dy": [0, 0, 40, 0, -40],
        "cos": [0, 1, 0, -1, 0],
        "sin": [0, 0, 1, 0, -1],
        "air": [0, 0, 0, 1, 0],
        "up": [0, 0, 1, 0, 1],
        # A quarter turn to the right, with y downwards, at the corner, and one more after the way through the air.
        "ahead_cos": [1, 0, 1, 0, 1],
        "ahead_sin": [0, 1, 0, 1, 0],
        "seconds": [0, 0.1, 0.3, 0.5, 0.1],
    }
    assert found.dtype == np.float32
    for place, column in enumerate(COLUMNS):
        np.testing.assert_allclose(found[:, place], expected[column], atol=1e-6, err_msg=column)
    assert np.array_equal(ink_features(SQUARE, ["up", "dx"]), found[:, [5, 0]])
    with pytest.raises(ValueError, match="'x' is no feature"):
        ink_features(SQUARE, ["x"])
    assert ink_features(DOT).tolist() == [[0, 0, 0, 0, 0, 1, 1, 0, 0]]


def test_two_strokes_and_one_differ() -> None:
    apart = strokes([(0, 0), (0, 1)], [(1, 0), (1, 1)])
    joined = strokes([(0, 0), (0, 1), (1, 0), (1, 1)])
    assert ink_features(apart, ["dx", "dy"]).tolist() == ink_features(joined, ["dx", "dy"]).tolist()
    assert ink_features(apart, ["air"]).tolist() != ink_features(joined, ["air"]).tolist()


POINT = st.tuples(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6), st.floats(0, 1e6))


@given(st.lists(st.lists(POINT, min_size=1, max_size=5), min_size=1, max_size=4))
def test_any_strokes_have_finite_features_and_come_back(rows: list[list[tuple[float, float, float]]]) -> None:
    made = normalised_ink(ordered(strokes(*rows)), deslant=True)
    features = ink_features(made)
    assert np.isfinite(features).all()
    assert len(features) == sum(map(len, made))
    back = strokes_of(features)
    assert [len(stroke) for stroke in back] == [len(stroke) for stroke in made]
    expected = np.concatenate(made)[:, :2] - made[0][0, :2]
    np.testing.assert_allclose(np.concatenate(back)[:, :2], expected, atol=1e-4)


def test_affine_changes() -> None:
    settings = AffineSettings()
    assert same(affine(SQUARE, AffineSettings(0, 0, 0), draws(0, 0, 0, "affine")), SQUARE)
    made = affine(SQUARE, settings, draws(0, 0, 0, "affine"))
    assert same(made, affine(SQUARE, settings, draws(0, 0, 0, "affine")))
    assert not same(made, affine(SQUARE, settings, draws(0, 1, 0, "affine")))
    # One matrix for all points: it keeps straight lines, middles and times.
    matrix, *_ = np.linalg.lstsq(np.concatenate(SQUARE)[:, :2] - [20, 40], np.concatenate(made)[:, :2] - [20, 40])
    np.testing.assert_allclose((np.concatenate(SQUARE)[:, :2] - [20, 40]) @ matrix + [20, 40],
                               np.concatenate(made)[:, :2])  # fmt: skip
    assert np.concatenate(made)[:, 2].tolist() == [0, 100, 400, 900, 1000]
    for number in range(100):
        turned = affine(SQUARE, AffineSettings(30, 0, 0), draws(0, 0, number, "affine"))
        move = turned[0][1] - turned[0][0]
        assert abs(math.atan2(move[1], move[0])) <= math.radians(30) + 1e-9
        assert math.isclose(math.hypot(move[0], move[1]), 20)
        (left, top, right, bottom) = bounds(affine(SQUARE, AffineSettings(0, 0, 0.2), draws(0, 0, number, "affine")))
        assert 16 <= right - left <= 24
        assert 32 <= bottom - top <= 48
    for wrong in ({"rotation": 200}, {"shear": -1}, {"scale": 1}):
        with pytest.raises(ConfigError, match=next(iter(wrong))):
            AffineSettings(**wrong)


def test_times_are_scaled() -> None:
    made = retimed(SQUARE, 2, draws(0, 0, 0, "time"))
    times = np.concatenate(made)[:, 2]
    writing, pausing = times[1] / 100, (times[3] - times[2]) / 500
    np.testing.assert_allclose(times, np.cumsum([0, 100 * writing, 300 * writing, 500 * pausing, 100 * writing]))
    assert writing != pausing
    assert 0.5 <= min(writing, pausing) <= max(writing, pausing) <= 2
    assert same(made, retimed(SQUARE, 2, draws(0, 0, 0, "time")))
    np.testing.assert_allclose(np.concatenate(retimed(SQUARE, 1, draws(0, 0, 0, "time"))), np.concatenate(SQUARE))
    with pytest.raises(ValueError, match=r"0\.5"):
        retimed(SQUARE, 0.5, draws(0, 0, 0, "time"))


def test_strokes_change_their_order_and_direction() -> None:
    assert same(reordered(SQUARE, 0, 0, draws(0, 0, 0, "order")), SQUARE)
    swapped = reordered(SQUARE, 1, 0, draws(0, 0, 0, "order"))
    assert [stroke[:, :2].tolist() for stroke in swapped] == [SQUARE[1][:, :2].tolist(), SQUARE[0][:, :2].tolist()]
    assert np.concatenate(swapped)[:, 2].tolist() == [0, 100, 300, 400, 700]
    turned = reordered(SQUARE, 0, 1, draws(0, 0, 0, "order"))
    assert [stroke[:, :2].tolist() for stroke in turned] == [stroke[::-1, :2].tolist() for stroke in SQUARE]
    assert np.concatenate(turned)[:, 2].tolist() == [0, 300, 400, 600, 700]
    untimed = tuple(stroke * [1, 1, 0] for stroke in SQUARE)
    assert not np.concatenate(reordered(untimed, 1, 1, draws(0, 0, 0, "order")))[:, 2].any()
    several = strokes(*([(x, 0), (x, 1)] for x in range(8)))
    made = [reordered(several, 0.5, 0.5, draws(0, 0, number, "order")) for number in range(3)]
    assert same(made[1], reordered(several, 0.5, 0.5, draws(0, 0, 1, "order")))
    assert not same(made[0], made[1])
    assert all(sorted(stroke[0, 0] for stroke in each) == list(range(8)) for each in made)


@pytest.mark.parametrize("odd", ODD)
def test_odd_strokes_survive_everything(odd: Strokes) -> None:
    for number in range(5):
        made = affine(odd, AffineSettings(), draws(0, 0, number, "affine"))
        made = reordered(retimed(made, 2, draws(0, 0, number, "time")), 0.5, 0.5, draws(0, 0, number, "order"))
        assert np.isfinite(ink_features(normalised_ink(made, deslant=True))).all()
