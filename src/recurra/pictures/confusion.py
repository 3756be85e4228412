"""A picture of which labels are taken for which."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from .fonts import installed_fonts, label_text
from .saving import save_png

__all__ = ["draw_confusion"]

_NUMBERED = 20
"""With more labels than these, numbers would not fit their squares."""
_WRITTEN = 120
"""With more labels than these, not every one is written."""


def draw_confusion(path: Path, counts: npt.NDArray[Any], names: Sequence[str]) -> None:
    """Draw a PNG: right labels from top to bottom, answers from left to right, each row by its share.

    Args:
        path: the file; it is written aside and renamed.
        counts: (K, K), examples of the row's label that were given the column's.
        names: of the labels.
    """

    from matplotlib.figure import Figure

    count = len(names)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    longest = min(max((len(name) for name in names), default=1), 30)
    side = min(2.2 + 0.09 * longest + (0.4 if count <= _NUMBERED else 0.16) * count, 18.0)
    figure = Figure(figsize=(side, side), dpi=110, layout="constrained")
    axes = figure.add_subplot()
    axes.imshow(shares, cmap="Blues", vmin=0.0, vmax=1.0, interpolation="nearest")
    step = -(-count // _WRITTEN)
    places, fonts = range(0, count, step), installed_fonts()
    labels = [label_text(names[place][:30]) for place in places]
    axes.set_xticks(places, labels, rotation=90, fontfamily=fonts, fontsize=8)
    axes.set_yticks(places, labels, fontfamily=fonts, fontsize=8)
    axes.set(xlabel="answer", ylabel="right label")
    axes.tick_params(length=0)
    if count <= _NUMBERED:
        for row, column in zip(*np.nonzero(counts), strict=True):
            colour = "white" if shares[row, column] > 0.6 else "black"
            axes.text(column, row, f"{int(counts[row, column])}", ha="center", va="center", fontsize=8, color=colour)
    save_png(figure, path)
