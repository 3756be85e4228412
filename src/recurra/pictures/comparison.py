"""Pictures of a comparison: how good the best of n trials is, and how contestants differ beside the spread of seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from .fonts import installed_fonts, label_text
from .saving import save_png

__all__ = ["Band", "draw_medians", "draw_search_curves"]

# Lines that are told apart in grey too.
_STYLES = ("-", "--", "-.", ":")


class Band(NamedTuple):
    """A curve and the quartiles round it, over the numbers of trials; None where there is no value."""

    low: Sequence[float | None]
    median: Sequence[float | None]
    high: Sequence[float | None]


def draw_search_curves(path: Path, curves: Mapping[str, Band], label: str) -> None:
    """Draw the median best value after n trials for each contestant, with the quartiles over all orders of the trials.

    Args:
        path: a PNG; it is written aside and renamed.
        curves: by contestant, from one trial on.
        label: of the measure, with its unit.

    Raises:
        OSError: as the file system says.
    """
    from matplotlib import colormaps
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(7.4, 4.4), dpi=110, layout="constrained")
    axes = figure.add_subplot()
    colours = colormaps["tab10"](range(10))
    for number, (name, band) in enumerate(curves.items()):
        trials = range(1, len(band.median) + 1)
        colour, style = colours[number % len(colours)], _STYLES[number // len(colours) % len(_STYLES)]
        shown = [[float("nan") if value is None else value for value in each] for each in band]
        axes.plot(trials, shown[1], style, color=colour, marker=".", label=label_text(name))
        # More bands than these hide one another.
        if len(curves) <= 4:
            axes.fill_between(trials, shown[0], shown[2], color=colour, alpha=0.15, linewidth=0)
    axes.set(xlabel="trials", ylabel=f"best validation {label} so far")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    fonts = {"family": installed_fonts(), "size": 8}
    axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0), frameon=False, prop=fonts)
    _write(figure, path)


def draw_medians(path: Path, values: Mapping[str, Sequence[float]], label: str) -> None:
    """Draw the value of each seed as a point and the median as a line, a row for each contestant in the order given.

    Args:
        path: a PNG; it is written aside and renamed.
        values: by contestant, at least one each.
        label: of the measure, with its unit.

    Raises:
        OSError: as the file system says.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.0, 1.1 + 0.34 * len(values)), dpi=110, layout="constrained")
    axes = figure.add_subplot()
    for row, each in enumerate(values.values()):
        axes.plot([min(each), max(each)], [row, row], color="#9db3d1", linewidth=5, solid_capstyle="round")
        axes.plot(each, [row] * len(each), "o", color="#2b5a9b", markersize=4)
        axes.plot([median(each)] * 2, [row - 0.3, row + 0.3], color="#c0392b", linewidth=2)
    axes.set_yticks(range(len(values)), [label_text(name) for name in values], fontfamily=installed_fonts())
    axes.set(xlabel=f"{label}: each seed, and the median", ylim=(len(values) - 0.5, -0.5))
    axes.grid(axis="x", alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    _write(figure, path)


def _write(figure: Any, path: Path) -> None:

    save_png(figure, path)
