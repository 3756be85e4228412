"""How often gates are nearly closed and nearly open (Karpathy, Johnson & Fei-Fei 2015, arXiv:1506.02078)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from .recording import LayerRecord

__all__ = ["CLOSED", "OPEN", "Saturation", "saturation"]

CLOSED, OPEN = 0.1, 0.9
"""A gate below the first is nearly closed, one above the second nearly open: the bounds of the paper."""


class Saturation(NamedTuple):
    """Of a gate, the share of steps at which each unit is nearly closed and nearly open, (H,) each."""

    closed: npt.NDArray[np.float64]
    open: npt.NDArray[np.float64]

    @property
    def layer(self) -> tuple[float, float]:
        """The same of all units together."""
        return float(self.closed.mean()), float(self.open.mean())


def saturation(layer: LayerRecord) -> dict[str, Saturation]:
    """The saturation of each gate of a layer, by the gate's name."""
    return {
        name: Saturation((values < CLOSED).mean(axis=0), (values > OPEN).mean(axis=0))
        for name, values in layer.gates.items()
    }
