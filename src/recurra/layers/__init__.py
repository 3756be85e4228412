"""Recurrent layers as torch modules: any cell, stacked, in one or two directions, regularised, streamed."""

from .cell_layers import GRUCell, LSTMCell, RecurrentCell, RNNCell
from .recurrent import Recurrent
from .stream import Stream
from .torch_like import GRU, LSTM, RNN, flip_update_gate

__all__ = [
    "GRU",
    "LSTM",
    "RNN",
    "GRUCell",
    "LSTMCell",
    "RNNCell",
    "Recurrent",
    "RecurrentCell",
    "Stream",
    "flip_update_gate",
]
