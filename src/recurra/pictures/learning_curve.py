"""A picture of how the loss fell."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..registry import Measure
from .saving import save_png

__all__ = ["draw_learning_curve"]


def draw_learning_curve(
    path: Path, records: Sequence[dict[str, Any]], best: dict[str, Any] | None, measure: Measure
) -> None:
    """Draw training and validation loss over optimiser steps as a PNG, written aside and renamed.

    Args:
        path: the file.
        records: of metrics.jsonl.
        best: the record of the best evaluation, which is marked; None: there is none.
        measure: the loss, for its name and unit.

    Raises:
        OSError: as the file system says.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.0, 4.2), dpi=110, layout="constrained")
    axes = figure.add_subplot()
    curves = {
        kind: [
            (record["step"], record["loss"])
            for record in records
            if record["kind"] == kind and record["loss"] is not None
        ]
        for kind in ("train", "valid")
    }
    if curves["train"]:
        axes.plot(*zip(*curves["train"], strict=True), color="tab:blue", linewidth=1.0, label="training")
    if curves["valid"]:
        axes.plot(*zip(*curves["valid"], strict=True), color="tab:orange", marker=".", label="validation")
    if best is not None:
        step, loss = best["step"], best["loss"]
        label = f"best: {measure.form.format(loss)} at step {step}"
        axes.plot(step, loss, "*", color="tab:red", markersize=12, label=label)
    axes.set_xlabel("optimiser steps")
    axes.set_ylabel(f"{measure.label} ({measure.unit})" if measure.unit else measure.label)
    axes.grid(alpha=0.3)
    axes.legend()
    save_png(figure, path)
