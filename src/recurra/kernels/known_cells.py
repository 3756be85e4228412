"""The cells that the operators know, each by a string, because an operator of torch takes strings and no objects."""

from __future__ import annotations

import hashlib
from typing import Any

from ..cells import CELLS, Cell
from ..cells.trace import trace

__all__ = ["cell_of", "gates_on_h", "key_of", "register"]

_CELLS: dict[str, Cell] = {}
_KEYS: dict[Cell, str] = {}
_GATES_ON_H: dict[str, tuple[str, ...]] = {}


def key_of(cell: Cell) -> str:
    """The string by which the operators know a cell: its class, its options and a digest of its equations.

    It is the same in every process. Two classes of the same name with different equations, such as a class that a
    notebook defines twice, have different keys. torch.compile cannot trace this function: it takes `LayerCall.key`.
    """
    key = _KEYS.get(cell)
    if key is None:
        digest = hashlib.sha256(repr(_equations(cell)).encode()).hexdigest()[:16]
        key = _KEYS[cell] = f"{type(cell).__module__}.{type(cell).__qualname__}:{cell!r}:{digest}"
    return key


def _equations(cell: Cell) -> list[Any]:
    """A cell's equations as lists of strings and numbers."""
    step = trace(cell)
    nodes = step.nodes()
    places = {node.order: place for place, node in enumerate(nodes)}
    made = [(node.op, [places[argument.order] for argument in node.args], node.name, node.values) for node in nodes]
    new = [(state, places[node.order]) for state, node in step.outputs.items()]
    return [list(cell.gates), list(cell.vectors), list(cell.matrices), made, new]


def register(cell: Cell) -> str:
    """Make a cell known to the operators, and return its key."""
    key = key_of(cell)
    if key not in _CELLS:
        _CELLS[key] = cell
        _GATES_ON_H[key] = trace(cell).gates_on_h
    return key


def cell_of(key: str) -> Cell:
    """The cell of a key.

    Raises:
        RuntimeError: if no cell was registered under this key in this process.
    """
    if key not in _CELLS:
        raise RuntimeError(f"{key} is not registered here; construct a recurra.Recurrent with this cell first.")
    return _CELLS[key]


def gates_on_h(key: str) -> tuple[str, ...]:
    """The gates of a registered cell whose recurrent product is taken on h."""
    return _GATES_ON_H[key]


for _cell in CELLS.values():
    register(_cell)
