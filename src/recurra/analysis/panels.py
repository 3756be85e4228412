"""From what was measured of layers to the curves of a picture."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ..pictures.gradient_flow import Curve, Panel
from .layer_inspection import LayerInspection
from .log_norms import averaged

__all__ = ["panels"]

_OF_H = "$|\\partial L/\\partial h_t|$"
_OF_C = "$|\\partial L/\\partial c_t|$"
_JACOBIAN = "$\\|\\partial h_T/\\partial h_t\\|_F$"


def panels(inspections: Sequence[LayerInspection]) -> list[Panel]:
    """|dL/dh|, |dL/dc| where any cell has c, and the Frobenius norm of dh_T/dh_t, for each group of layers."""
    rows: list[tuple[str, dict[str, list[Curve]]]] = []
    for title, key in ((_OF_H, "h"), (_OF_C, "c"), (_JACOBIAN, "")):
        of_group: dict[str, list[Curve]] = {}
        for each in inspections:
            table = each.gradients.get(key) if key else each.jacobian.h_frobenius
            if table is not None:
                of_group.setdefault(each.group, []).append(_curve(each.name, table))
        rows.append((title, of_group))
    return [Panel(group, title, curves) for title, of_group in rows for group, curves in of_group.items()]


def _curve(label: str, logs: npt.NDArray[np.float64]) -> Curve:
    found = averaged(logs)
    return Curve(label, found.log_mean / math.log(10), found.log_spread / math.log(10))
