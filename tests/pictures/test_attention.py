"""The picture of attention weights, its pixels read back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread

from recurra.pictures.attention import draw_attention


def drawn(path: Path, weights: np.ndarray) -> np.ndarray:
    """The brightness (height, width) of a picture of weights, 0 to 1; its labels depend on the shape alone."""
    target, source = ([str(place) for place in range(count)] for count in weights.shape)
    draw_attention(path, weights, source, target)
    return imread(path)[..., :3].mean(-1)


def cells(folder: Path, weights: np.ndarray) -> np.ndarray:
    """The brightness in the middle of each cell (target, source), found where black and white tables differ."""
    picture, white, black = (
        drawn(folder / "a.png", each) for each in (weights, np.zeros_like(weights), np.ones_like(weights))
    )
    assert picture.shape == white.shape == black.shape
    rows, columns = (np.flatnonzero((white != black).any(axis)) for axis in (1, 0))
    # Whatever the weights, nothing is drawn outside the table.
    outside = np.ones_like(picture, bool)
    outside[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] = False
    assert (picture == white)[outside].all()

    def middles(pixels: np.ndarray, count: int) -> np.ndarray:
        return (pixels[0] + (np.arange(count) + 0.5) * len(pixels) / count).astype(int)

    return picture[np.ix_(middles(rows, weights.shape[0]), middles(columns, weights.shape[1]))]


@pytest.mark.parametrize("shape", [(3, 5), (6, 2), (1, 4)], ids=str)
def test_a_cell_is_the_darker_the_more_it_weighs(tmp_path: Path, shape: tuple[int, int]) -> None:
    count = shape[0] * shape[1]
    weights = np.random.default_rng(4).permutation(np.linspace(0.0, 1.0, count)).reshape(shape)
    brightness = cells(tmp_path, weights)
    by_weight = brightness.flatten()[np.argsort(weights, axis=None)]
    assert (np.diff(by_weight) < 0).all()
    # Nothing is white and everything black, so that pictures of different sentences can be compared.
    assert by_weight[0] == 1.0 and by_weight[-1] == 0.0


def test_words_of_the_source_stand_in_columns_and_of_the_target_in_rows_from_the_top(tmp_path: Path) -> None:
    weights = np.zeros((4, 3))
    weights[0, 2] = weights[3, 1] = 1.0
    np.testing.assert_array_equal(cells(tmp_path, weights), 1.0 - weights)


def test_small_weights_are_not_stretched_to_the_whole_scale(tmp_path: Path) -> None:
    brightness = cells(tmp_path, np.array([[0.1, 0.2], [0.2, 0.1]]))
    assert (brightness > 0.75).all() and brightness[0, 0] == brightness[1, 1] > brightness[0, 1] == brightness[1, 0]
