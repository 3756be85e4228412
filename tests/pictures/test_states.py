"""The picture of states, its pixels read back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread

from recurra.errors import RunError
from recurra.pictures.states import MOST_TOKENS, DrawnUnit, draw_states

ORANGE, BLUE = np.array([0xE6, 0x82, 0x14]) / 255, np.array([0x32, 0x6E, 0xDC]) / 255


def drawn(path: Path, values: list[list[float]], tokens: int | None = None, gates: int = 0) -> np.ndarray:
    units = [DrawnUnit(f"c {number}", np.array(row, np.float32)) for number, row in enumerate(values)]
    shares = (np.array([0.2, 0.4]), np.array([0.5, 0.1]))
    labels = ["x"] * (len(values[0]) if tokens is None else tokens)
    draw_states(path, labels, units, {f"gate {number}": shares for number in range(gates)})
    return imread(path)[..., :3]


def share_of(picture: np.ndarray, colour: np.ndarray) -> float:
    return float((np.abs(picture - colour).max(-1) < 0.02).mean())


def test_values_above_zero_are_orange_and_below_it_blue(tmp_path: Path) -> None:
    above = drawn(tmp_path / "a.png", [[2.0] * 8, [2.0] * 8])
    below = drawn(tmp_path / "b.png", [[-0.1] * 8, [-3.0] * 8])
    zero = drawn(tmp_path / "c.png", [[0.0] * 8, [0.0] * 8])
    # Each unit has a scale of its own, so that all of both rows have the full colour.
    assert share_of(above, ORANGE) == pytest.approx(share_of(below, BLUE), rel=0.02) and share_of(above, ORANGE) > 0.1
    assert share_of(above, BLUE) == share_of(below, ORANGE) == share_of(zero, BLUE) == share_of(zero, ORANGE) == 0
    # The first token stands left, the first unit above.
    one = drawn(tmp_path / "d.png", [[1.0] + [0.0] * 7, [0.0] * 8])
    rows, columns = np.nonzero(np.abs(one - ORANGE).max(-1) < 0.02)
    full_rows, full_columns = np.nonzero(np.abs(above - ORANGE).max(-1) < 0.02)
    assert columns.max() < np.median(full_columns) and rows.max() <= np.median(full_rows) + 1


def test_long_texts_are_shown_from_their_beginning(tmp_path: Path) -> None:
    row = [1.0] * MOST_TOKENS + [-1.0] * 500
    assert share_of(drawn(tmp_path / "a.png", [row]), BLUE) == 0


def test_gates_are_plotted_below(tmp_path: Path) -> None:
    plain, plotted = drawn(tmp_path / "a.png", [[1.0] * 8]), drawn(tmp_path / "b.png", [[1.0] * 8], gates=3)
    assert plotted.shape[0] > plain.shape[0] + 200


def test_a_picture_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="cannot be written"):
        drawn(tmp_path / "none" / "a.png", [[1.0] * 3])
