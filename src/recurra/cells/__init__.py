"""The published recurrent cells, each written once as its equations.

`get` finds one by name; a cell of your own is a subclass of `Cell` in any file, named as FILE.py:CLASS.
"""

from __future__ import annotations

import difflib
import importlib.util
import sys
import zlib
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from .cell import Cell
from .gru import GRU
from .lstm import LSTM
from .minimal import JANET, MGU
from .rnn import RNN

__all__ = ["CELLS", "GRU", "JANET", "LSTM", "MGU", "RNN", "Cell", "get", "names"]

CELLS: Mapping[str, Cell] = MappingProxyType(
    {
        "rnn_tanh": RNN("tanh"),
        "rnn_relu": RNN("relu"),
        "lstm": LSTM(),
        "lstm_1997": LSTM(forget_gate=False),
        "lstm_peephole": LSTM(peephole=True),
        "lstm_nig": LSTM(peephole=True, input_gate=False),
        "lstm_nfg": LSTM(peephole=True, forget_gate=False),
        "lstm_nog": LSTM(peephole=True, output_gate=False),
        "lstm_niaf": LSTM(peephole=True, input_activation=False),
        "lstm_noaf": LSTM(peephole=True, output_activation=False),
        "lstm_cifg": LSTM(peephole=True, coupled=True),
        "lstm_fgr": LSTM(peephole=True, full_gate_recurrence=True),
        "gru": GRU(),
        "gru_cho": GRU(reset="before", update="replace"),
        "mgu": MGU(),
        "janet": JANET(),
    }
)


def names() -> list[str]:
    """The names that `get` knows."""
    return list(CELLS)


def get(name: str) -> Cell:
    """The cell of a name in `names()`, or the class of your own given as FILE.py:CLASS.

    Raises:
        ValueError: if there is no such name, file or class.
    """
    if name in CELLS:
        return CELLS[name]
    path, colon, class_name = name.rpartition(":")
    if colon and path.endswith(".py"):
        return _from_file(Path(path), class_name)
    close = difflib.get_close_matches(name.lower(), CELLS, n=1, cutoff=0.3)
    hint = f"did you mean {close[0]}?" if close else "see `recurra cells`."
    raise ValueError(f"there is no cell {name}; {hint}")


def _from_file(path: Path, class_name: str) -> Cell:
    if not path.is_file():
        raise ValueError(f"{path}: there is no such file to take the cell {class_name} from.")
    # A name made from the file's own keeps pickles and repeated loads pointing at one module.
    module_name = f"recurra_cell_{path.stem}_{zlib.crc32(str(path.resolve()).encode()):x}"
    module = sys.modules.get(module_name)
    if module is None:
        spec = importlib.util.spec_from_file_location(module_name, path)
        if spec is None or spec.loader is None:
            raise ValueError(f"{path}: is not a Python file.")
        module = importlib.util.module_from_spec(spec)
        sys.modules[module_name] = module
        try:
            spec.loader.exec_module(module)
        except Exception as error:
            del sys.modules[module_name]
            raise ValueError(f"{path}: cannot be imported ({type(error).__name__}: {error}).") from error
    found = getattr(module, class_name, None)
    if not (isinstance(found, type) and issubclass(found, Cell)):
        raise ValueError(f"{path}: has no class {class_name} that derives from recurra.Cell.")
    return found()
