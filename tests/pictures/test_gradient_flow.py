"""The picture of gradients over the lags."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from recurra.pictures.gradient_flow import Curve, Panel, draw_gradient_flow


def test_zeros_unknown_lags_and_huge_numbers_are_drawn(tmp_path: Path) -> None:
    lags = np.arange(101.0)
    gone = np.where(lags < 50, -lags, -np.inf)
    unknown = np.where(lags < 20, 3 * lags, np.nan)
    panels = [
        Panel("left", "norm", [Curve("gone", gone, 0 * lags), Curve("unknown", unknown, np.full(101, np.nan))]),
        Panel("right", "another", [Curve("gone", -5 * lags, 0 * lags)]),
    ]
    draw_gradient_flow(tmp_path / "flow.png", panels, 100)
    assert [path.name for path in tmp_path.iterdir()] == ["flow.png"]
    header = (tmp_path / "flow.png").read_bytes()[:24]
    width, height = int.from_bytes(header[16:20], "big"), int.from_bytes(header[20:24], "big")
    # Two columns and two rows.
    assert (width, height) == (round(110 * (1.4 + 2 * 3.9)), round(110 * (1.3 + 2 * 2.7)))
