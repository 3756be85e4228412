"""A picture of how far probabilities can be believed."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..measures.classification import Reliability
from .saving import save_png

__all__ = ["draw_reliability"]


def draw_reliability(path: Path, found: Reliability) -> None:
    """Draw a PNG: how often answers are right, by their probability, and below it how many there are.

    Of a well calibrated model the bars end at the dashed line (Guo et al. 2017, figure 1).

    Args:
        path: the file; it is written aside and renamed.
    """
    from matplotlib.figure import Figure

    bins = len(found.answers)
    middles, width = (np.arange(bins) + 0.5) / bins, 1 / bins
    figure = Figure(figsize=(5.0, 6.0), dpi=110, layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    filled = found.answers > 0
    above.bar(middles[filled], found.right[filled], width * 0.94, color="#4c72b0")
    above.plot([0, 1], [0, 1], "--", color="#333333", linewidth=1)
    above.set(xlim=(0, 1), ylim=(0, 1), ylabel="share of right answers")
    above.set_title(f"expected calibration error {found.error:.3f}", fontsize=10)
    below.bar(middles, found.answers, width * 0.94, color="#999999")
    below.set(xlabel="probability of the answer", ylabel="answers")
    for axes in (above, below):
        axes.spines[["top", "right"]].set_visible(False)
    save_png(figure, path)
