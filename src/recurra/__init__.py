"""Recurrent sequence models on PyTorch: every published cell written once, and the systems built from them."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from .torch_import import register_with_torch

__version__ = "0.1.0"

__all__ = [
    "GRU",
    "LSTM",
    "RNN",
    "Cell",
    "GRUCell",
    "LSTMCell",
    "RNNCell",
    "Recurrent",
    "RecurrentCell",
    "State",
    "__version__",
    "backend",
    "cells",
    "load",
]

if TYPE_CHECKING:
    from . import cells
    from .cells import Cell
    from .cells.algebra import State
    from .kernels import backend
    from .layers import GRU, LSTM, RNN, GRUCell, LSTMCell, Recurrent, RecurrentCell, RNNCell
    from .loading import load

# Loaded on first use: the command line and the cells themselves must not wait for torch.
_HOMES = {
    "Cell": ".cells",
    "State": ".cells.algebra",
    "backend": ".kernels",
    "GRU": ".layers",
    "GRUCell": ".layers",
    "LSTM": ".layers",
    "LSTMCell": ".layers",
    "RNN": ".layers",
    "RNNCell": ".layers",
    "Recurrent": ".layers",
    "RecurrentCell": ".layers",
    "load": ".loading",
}


def __getattr__(name: str) -> Any:
    if name == "cells":
        return importlib.import_module(".cells", __name__)
    if name in _HOMES:
        value = getattr(importlib.import_module(_HOMES[name], __name__), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'recurra' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__


register_with_torch()
