"""Lines joined of characters, and pictures of strokes."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest

from recurra.data.ink import Drawing, Strokes, bounds
from recurra.data.ink_lines import LineMaker, LineSettings
from recurra.data.ink_pictures import character_columns, picture
from recurra.errors import ConfigError, DataError


def drawn(label: str, writer: str, number: int, timed: bool = True) -> Drawing:
    random = np.random.default_rng(number)
    strokes = tuple(
        np.column_stack([random.uniform(0, 50, (4, 2)), 100 * place + np.arange(4) * 10 * timed + 7])
        for place in range(1 + number % 3)
    )
    return Drawing(strokes, label, writer, timed, f"{label}{writer}{number}", "x.jsonl", number + 1)


DRAWINGS = [
    drawn(label, writer, 4 * place + number)
    for place, label in enumerate("abc")
    for writer in ("w1", "w2")
    for number in range(4)
]


def test_a_line_says_where_each_stroke_came_from() -> None:
    by_id = {drawing.id: drawing for drawing in DRAWINGS}
    settings = LineSettings(shortest=2, longest=5, gap=0.3, gap_spread=0.1, least_gap=0.1, baseline=0.05, size=0.1)
    maker = LineMaker(DRAWINGS, settings, seed=3)
    lengths = set()
    for number in range(60):
        line = maker.line(number)
        lengths.add(len(line.text))
        assert line.text == "".join(line.labels)
        assert len(line.strokes) == len(line.characters)
        assert sorted(set(line.characters)) == list(range(len(line.text)))
        right = None
        times = np.concatenate([stroke[:, 2] for stroke in line.strokes])
        assert (np.diff(times) >= 0).all()
        for place, (source, label) in enumerate(zip(line.sources, line.labels, strict=True)):
            original = by_id[source]
            assert (original.label, original.writer) == (label, line.writer)
            own = [row for row, character in zip(line.strokes, line.characters, strict=True) if character == place]
            # Each is its original, moved and scaled.
            before, after = (np.concatenate(each)[:, :2] for each in (original.strokes, own))
            scale = np.ptp(after[:, 0]) / np.ptp(before[:, 0])
            np.testing.assert_allclose(after - after[0], (before - before[0]) * scale, atol=1e-9)
            left, top, end, bottom = bounds(own)
            assert 0.6 < max(end - left, bottom - top) < 1.6
            assert abs(bottom - 1) < 0.3
            if right is not None:
                assert 0.1 - 1e-9 <= left - right < 0.8
            right = end
    assert lengths == {2, 3, 4, 5}


def same(one: Strokes, other: Strokes) -> bool:
    return len(one) == len(other) and all(map(np.array_equal, one, other))


def test_the_seed_the_epoch_and_the_number_decide() -> None:
    line = LineMaker(DRAWINGS, seed=1).line(4, epoch=2)
    again = LineMaker(DRAWINGS[::-1], seed=1).line(4, epoch=2)
    assert line[1:] == again[1:]
    assert same(line.strokes, again.strokes)
    maker = LineMaker(DRAWINGS, seed=1)
    for other in (maker.line(5, 2), maker.line(4, 3), LineMaker(DRAWINGS, seed=2).line(4, 2)):
        assert not same(line.strokes, other.strokes)


def test_letters_texts_and_writers() -> None:
    maker = LineMaker(DRAWINGS, letters={"a": "α", "b": "β"})
    assert {letter for number in range(20) for letter in maker.line(number).text} == {"α", "β"}
    line = maker.line(0, text=["β", "α", "β"])
    assert line.text == "βαβ"
    assert [source[0] for source in line.sources] == ["b", "a", "b"]
    mixed = LineMaker(DRAWINGS, LineSettings(one_writer=False)).line(0, text="abc" * 10)
    assert mixed.writer is None
    assert {source[1:3] for source in mixed.sources} == {"w1", "w2"}
    with pytest.raises(DataError, match="no drawing of 'γ' by the writer w"):
        maker.line(0, text="γ")
    with pytest.raises(DataError, match="no drawing of a character"):
        LineMaker(DRAWINGS, letters={})


def test_a_dot_and_untimed_characters_can_be_joined() -> None:
    dot = Drawing((np.array([[5.0, 5.0, 0.0]]),), ".", None, False, "dot", "x", 1)
    line = LineMaker([dot, drawn("a", "", 1, timed=False)._replace(writer=None)]).line(0, text="a.a")
    assert all(np.isfinite(stroke).all() for stroke in line.strokes)
    assert len(line.strokes) == 5


@pytest.mark.parametrize(
    "settings", [{"shortest": 0}, {"shortest": 5, "longest": 3}, {"gap": -2}, {"size": -0.1}, {"baseline": 11}]
)
def test_settings_that_cannot_be_are_refused(settings: dict[str, float]) -> None:
    with pytest.raises(ConfigError):
        LineSettings(**settings)  # type: ignore[arg-type]


def strokes(*rows: list[tuple[float, float]]) -> Strokes:
    return tuple(np.array([(*row, 0.0) for row in stroke], np.float64) for stroke in rows)


CROSS = strokes([(0, 0), (10, 20)], [(10, 0), (0, 20), (5, 20)])


@pytest.mark.parametrize(("height", "width", "line"), [(32, None, 2.0), (32, 64, 1.0), (40, 12, 3.5)])
def test_a_picture_is_the_distance_from_the_strokes(height: int, width: int | None, line: float) -> None:
    found = picture(CROSS, height, width=width, line=line)
    assert found.dtype == np.float32
    edge = line / 2 + 0.5
    scale = (height - 2 * edge) / 20
    if width is not None:
        scale = min(scale, (width - 2 * edge) / 10)
    wide = math.ceil(10 * scale + 2 * edge) if width is None else width
    assert found.shape == (height, wide)
    # Points close beside one another along every stroke.
    along = np.linspace(0, 1, 1001)[:, None]
    dense = np.concatenate([a[:2] + along * (b - a)[:2] for stroke in CROSS for a, b in pairwise(stroke)])
    for row in range(0, height, 3):
        for column in range(0, wide, 2):
            at = np.array([column + 0.5 - wide / 2, row + 0.5 - height / 2]) / scale + [5, 10]
            nearest = np.hypot(*(dense - at).T).min() * scale
            np.testing.assert_allclose(found[row, column], np.clip(edge - nearest, 0, 1), atol=0.01)


def test_no_ink_is_cut_off_and_edges_are_smooth() -> None:
    found = picture(CROSS, 48, line=4)
    # With these margins the line's edge just reaches the picture's.
    assert found.max() == 1
    assert ((found > 0.01) & (found < 0.99)).any()
    wider = picture(CROSS, 52, line=4, margin=4.5)
    np.testing.assert_allclose(wider[2:-2, 2:-2], found, atol=1e-6)
    assert not any(each.any() for each in (wider[:2], wider[-2:], wider[:, :2], wider[:, -2:]))


def test_dots_and_dashes() -> None:
    dot = picture(strokes([(5, 5)]), 9, width=9, line=3)
    assert dot[4, 4] == 1
    np.testing.assert_allclose(dot, dot.T)
    # A disc of three pixels' width.
    assert abs(dot.sum() - math.pi * 1.5**2) < 0.4
    assert np.array_equal(picture(strokes([(5, 5), (5, 5)]), 9, width=9, line=3), dot)
    dash = picture(strokes([(0, 0), (100, 0)]), 9, width=50)
    assert dash[4, 1:-1].min() == 1
    assert dash[4, 0] == dash[4, -1] == 0.5
    assert not dash[:3].any()
    assert picture(strokes([(0, 0), (100, 0)]), 9).shape == (9, 103)


def test_sizes_that_cannot_be_are_refused() -> None:
    for options in ({"height": 3}, {"height": 20, "line": 0}, {"height": 20, "width": 2}, {"height": 20, "margin": -1}):
        with pytest.raises(ConfigError, match="do not fit into a picture"):
            picture(CROSS, **options)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="as wide as high"):
        picture(strokes([(0, 0), (1e9, 1e-3)]), 32)


def test_columns_hold_their_characters_and_no_more() -> None:
    line = LineMaker(DRAWINGS, seed=5).line(2, text="abcab")
    for options in ({"height": 32}, {"height": 24, "width": 200, "line": 1.0}):
        columns = character_columns(line.strokes, line.characters, **options)  # type: ignore[arg-type]
        whole = picture(line.strokes, **options)  # type: ignore[arg-type]
        height, wide = whole.shape
        reach = options.get("line", 2.0) / 2 + 0.5
        left, top, right, bottom = bounds(line.strokes)
        scale = min((height - 2 * reach) / (bottom - top), (wide - 2 * reach) / (right - left))
        covered = np.zeros(wide, bool)
        for place, (first, last) in enumerate(columns):
            own = [stroke for stroke, number in zip(line.strokes, line.characters, strict=True) if number == place]
            points = np.concatenate(own)[:, 0]
            ends = (np.array([points.min(), points.max()]) - (left + right) / 2) * scale + wide / 2
            inked = [column for column in range(wide) if ends[0] - reach < column + 0.5 < ends[1] + reach]
            assert (first, last) == (inked[0], inked[-1] + 1)
            assert whole[:, first].any()
            assert whole[:, last - 1].any()
            covered[first:last] = True
        assert not whole[:, ~covered].any()
