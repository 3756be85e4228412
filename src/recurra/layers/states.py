"""The states of a stack between the form that users hold, torch.nn's hx, and one tuple a layer."""

from __future__ import annotations

from collections import namedtuple
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from ..cells import Cell

__all__ = ["LayerStates", "join_layers", "named", "split_layers", "tuple_class"]

LayerStates = list[tuple[Tensor, ...]]
"""For each layer one tensor (D, B, H) for each state of the cell."""


def split_layers(hx: Any, states: int, layers: int, directions: int, uniform: bool, batched: bool) -> LayerStates:
    """From hx to one tuple a layer.

    Raises:
        RuntimeError: if hx has not the form that `Recurrent.forward` describes.
    """
    parts = (hx,) if states == 1 else tuple(hx)
    if len(parts) != states:
        raise RuntimeError(f"hx must be a tuple of {states} states, not of {len(parts)}")
    split: list[tuple[Tensor, ...]] = []
    rank = 3 if batched else 2
    for part in parts:
        pieces = [part] if isinstance(part, Tensor) else list(part)
        if isinstance(part, Tensor) == (not uniform):
            raise RuntimeError(
                "hx must hold "
                + ("tensors" if uniform else "lists of one tensor a layer, as the layers differ in size")
            )
        if any(piece.dim() != rank for piece in pieces):
            raise RuntimeError(f"a state in hx must have {rank} dimensions for this input")
        if not batched:
            pieces = [piece.unsqueeze(1) for piece in pieces]
        if uniform:
            if pieces[0].shape[0] != layers * directions:
                raise RuntimeError(f"a state in hx must begin with {layers * directions}, not {pieces[0].shape[0]}")
            pieces = list(pieces[0].split(directions))
        split.append(tuple(pieces))
    if any(len(pieces) != layers for pieces in split):
        raise RuntimeError(f"hx must hold a state for each of {layers} layers")
    return list(zip(*split, strict=True))


def join_layers(layers: LayerStates, uniform: bool, batched: bool) -> Any:
    """From one tuple a layer to hx."""
    if len(layers) == 1 and uniform and batched:
        return layers[0][0] if len(layers[0]) == 1 else tuple(layers[0])
    parts: list[Any] = []
    for pieces in zip(*layers, strict=True):
        shown = [piece if batched else piece.squeeze(1) for piece in pieces]
        parts.append((torch.cat(shown) if len(shown) > 1 else shown[0]) if uniform else shown)
    return parts[0] if len(parts) == 1 else tuple(parts)


@lru_cache(maxsize=256)
def tuple_class(cell: Cell) -> Any:
    """The named tuple whose fields are a cell's states."""
    name = f"{type(cell).__name__}States"
    # The class is made here and found in no module, so a pickle holds the cell that it is made from.
    members = {"__slots__": (), "__reduce__": lambda self: (named, (cell, tuple(self)))}
    return type(name, (namedtuple(name, list(cell.states)),), members)


def named(cell: Cell, values: tuple[Tensor, ...]) -> Any:
    """Values as a named tuple whose fields are the cell's states."""
    return tuple_class(cell)(*values)
