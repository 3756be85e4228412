"""A picture of what some units do along a text, and of how saturated the gates of their layers are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ..errors import RunError
from ..files import unwritten
from .fonts import installed_fonts, label_text
from .saving import save_png

__all__ = ["MOST_TOKENS", "DrawnUnit", "draw_states"]

MOST_TOKENS = 160
"""The most tokens that a picture shows, so that they can be read."""


class DrawnUnit(NamedTuple):
    """A unit of a picture: what it is called, and its values at the tokens, (T,)."""

    label: str
    values: npt.NDArray[np.floating]


def draw_states(
    path: Path,
    tokens: Sequence[str],
    units: Sequence[DrawnUnit],
    saturation: Mapping[str, tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]],
) -> None:
    """Draw a PNG: tokens from left to right, a row for each unit, and below it a plot for each gate.

    Args:
        path: the file; it is written aside and renamed.
        tokens: at most `MOST_TOKENS` are drawn, the first ones.
        units: at least one; each is coloured by its own greatest absolute value, orange above zero and blue below.
        saturation: by the name of a gate, the shares of steps at which each unit is nearly closed and nearly open.

    Raises:
        RunError: if it cannot be written.
    """

    from matplotlib.colors import LinearSegmentedColormap
    from matplotlib.figure import Figure

    tokens = tokens[:MOST_TOKENS]
    table = np.stack([each.values[: len(tokens)] for each in units]).astype(np.float64)
    scales = np.array([max(float(np.abs(each.values).max()), 1e-12) for each in units])
    colours = LinearSegmentedColormap.from_list("states", ["#326edc", "#ffffff", "#e68214"])
    plots = len(saturation)
    height = 1.3 + 0.26 * len(units)
    width = min(max(2.4 + 0.17 * len(tokens), 2.6 * plots, 5.0), 34.0)
    figure = Figure(figsize=(width, height + (2.8 if plots else 0.0)), dpi=110, layout="constrained")
    upper, *lower = figure.subfigures(
        2 if plots else 1, 1, squeeze=False, height_ratios=[height, 2.8][: 1 + bool(plots)]
    ).flat
    axes = upper.subplots()
    axes.imshow(table / scales[:, None], cmap=colours, vmin=-1.0, vmax=1.0, aspect="auto", interpolation="nearest")
    axes.set_xticks(range(len(tokens)), [label_text(token) for token in tokens])
    axes.set_yticks(range(len(units)), [label_text(each.label) for each in units])
    axes.tick_params(length=0)
    if any(len(token) > 1 for token in tokens):
        axes.tick_params(axis="x", labelrotation=90)
    families = installed_fonts()
    for label in (*axes.get_xticklabels(), *axes.get_yticklabels()):
        label.set_fontfamily(families)
    if lower:
        _draw_saturation(lower[0], saturation)
    try:
        save_png(figure, path)
    except OSError as error:
        raise RunError(f"{path}: the picture cannot be written {unwritten(error)}.") from error


def _draw_saturation(
    figure: Any, saturation: Mapping[str, tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]]
) -> None:
    plots = figure.subplots(1, len(saturation), squeeze=False)[0]
    for axes, (name, (closed, opened)) in zip(plots, saturation.items(), strict=True):
        axes.plot(closed, opened, ".", color="#326edc", alpha=0.6)
        axes.plot([0, 1], [1, 0], color="grey", linewidth=0.7)
        axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal", title=label_text(name))
        axes.set_xlabel("share below 0.1")
        axes.set_ylabel("share above 0.9")
