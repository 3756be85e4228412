"""Recordings that no model made, whose answers are known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from recurra import cells
from recurra.analysis.recording import LayerPlace, LayerRecord, SideRecord


def layer(
    states: Mapping[str, npt.NDArray[np.float32]],
    gates: Mapping[str, npt.NDArray[np.float32]] | None = None,
    number: int = 1,
    direction: int = 0,
) -> LayerRecord:
    units = next(iter(states.values())).shape[1]
    place = LayerPlace("recurrent", number - 1, direction, number, cells.get("lstm"), units)
    return LayerRecord(place, dict(states), dict(gates or {}), {})


def side(text: str, layers: Sequence[LayerRecord], places: Sequence[tuple[int, int]] | None = None) -> SideRecord:
    """A text whose tokens are its characters, or stand at the places."""
    found = [(place, place + 1) for place in range(len(text))] if places is None else list(places)
    return SideRecord("text", text, np.array(found, np.int64), (0,), tuple(layers))
