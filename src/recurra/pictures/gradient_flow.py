"""A picture of how gradients fall or grow over the lags."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from .saving import save_png

__all__ = ["Curve", "Panel", "draw_gradient_flow"]

# Okabe & Ito's colours, which people who see few colours can tell apart; each has a line style of its own besides.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999999")
_STYLES = ("-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1)), (0, (1, 1)), (0, (8, 3)))
_FLOAT32 = -149 * np.log10(2)


@dataclass(frozen=True)
class Curve:
    """A norm over the lags.

    Attributes:
        label: the same label has the same colour in all panels.
        mean, spread: (lags,) decimal logarithms, by the lag from 0 on; what is not finite is left out.
    """

    label: str
    mean: npt.NDArray[np.float64]
    spread: npt.NDArray[np.float64]


@dataclass(frozen=True)
class Panel:
    """The curves of one column and row.

    Attributes:
        column: its title.
        row: what its norms are of, in mathematical text of matplotlib.
        curves: drawn in their order.
    """

    column: str
    row: str
    curves: Sequence[Curve]


def draw_gradient_flow(path: Path, panels: Sequence[Panel], longest: int) -> None:
    """Draw a PNG: a row of panels for each kind of norm and a column for each group, all of a row on one scale.

    Args:
        path: the file; it is written aside and renamed.
        panels: in any order; a column and row without a panel stays empty.
        longest: the largest lag of the axis.

    Raises:
        OSError: as the file system says.
    """
    from matplotlib.figure import Figure

    columns = list(dict.fromkeys(panel.column for panel in panels))
    rows = list(dict.fromkeys(panel.row for panel in panels))
    labels = list(dict.fromkeys(curve.label for panel in panels for curve in panel.curves))
    places = {(panel.row, panel.column): panel for panel in panels}
    width = min(1.4 + 3.9 * len(columns), 24.0)
    figure = Figure(figsize=(width, 1.3 + 2.7 * len(rows)), dpi=110, layout="constrained")
    grid = figure.subplots(len(rows), len(columns), squeeze=False, sharex=True, sharey="row")
    handles: dict[str, Any] = {}
    for row, name in enumerate(rows):
        for column, title in enumerate(columns):
            axes = grid[row][column]
            panel = places.get((name, title))
            for curve in panel.curves if panel else ():
                handles.setdefault(curve.label, _draw(axes, curve, labels.index(curve.label)))
            axes.set_xlim(0, max(longest, 1))
            axes.grid(alpha=0.3)
            axes.yaxis.set_major_formatter(_power_of_ten)
            axes.yaxis.get_major_locator().set_params(integer=True)
            axes.spines[["top", "right"]].set_visible(False)
            if row == 0:
                axes.set_title(title, fontsize=10)
            if row == len(rows) - 1:
                axes.set_xlabel("lag: steps before the last")
            if column == 0:
                axes.set_ylabel(name)
    for row in range(len(rows)):
        if grid[row][0].get_ylim()[0] < _FLOAT32:
            for axes in grid[row]:
                axes.axhline(_FLOAT32, color="#555555", linewidth=0.8)
            grid[row][0].text(
                0.99, _FLOAT32, "float32 ends here", transform=grid[row][0].get_yaxis_transform(), fontsize=7,
                color="#555555", ha="right", va="top",
            )  # fmt: skip
    figure.legend(
        list(handles.values()), list(handles), loc="outside lower center", ncols=min(len(handles), 4), frameon=False
    )
    save_png(figure, path)


def _draw(axes: Any, curve: Curve, place: int) -> Any:
    colour, style = _COLOURS[place % len(_COLOURS)], _STYLES[place % len(_STYLES)]
    mean = np.where(np.isfinite(curve.mean), curve.mean, np.nan)
    spread = np.where(np.isfinite(curve.spread), curve.spread, 0.0)
    lags = np.arange(len(mean))
    axes.fill_between(lags, mean - spread, mean + spread, color=colour, alpha=0.18, linewidth=0)
    (line,) = axes.plot(lags, mean, color=colour, linestyle=style, linewidth=1.7)
    return line


def _power_of_ten(value: float, _: Any) -> str:
    return f"$10^{{{value:g}}}$"
