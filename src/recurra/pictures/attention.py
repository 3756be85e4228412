"""A picture of attention weights."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from .fonts import installed_fonts, label_text
from .saving import save_png

__all__ = ["draw_attention"]


def draw_attention(
    path: Path, weights: Tensor | npt.NDArray[np.floating[Any]], source: Sequence[str], target: Sequence[str]
) -> None:
    """Draw a matrix of weights as a PNG: source tokens from left to right, target tokens from top to bottom.

    Args:
        path: the file; it is written aside and renamed.
        weights: (target, source).
        source, target: labels; what no font of this machine has shows as a box.
    """

    from matplotlib.figure import Figure

    table = np.asarray(weights)
    size = (1.6 + 0.32 * max(len(source), 4), 1.4 + 0.28 * max(len(target), 4))
    figure = Figure(figsize=(min(size[0], 40.0), min(size[1], 40.0)), dpi=110, layout="constrained")
    axes = figure.add_subplot()
    axes.imshow(table, cmap="Greys", vmin=0.0, vmax=1.0, aspect="auto", interpolation="nearest")
    axes.set_xticks(range(len(source)), [label_text(piece) for piece in source], rotation=90)
    axes.set_yticks(range(len(target)), [label_text(piece) for piece in target])
    axes.xaxis.tick_top()
    axes.tick_params(length=0)
    families = installed_fonts()
    for label in (*axes.get_xticklabels(), *axes.get_yticklabels()):
        label.set_fontfamily(families)
    save_png(figure, path)
