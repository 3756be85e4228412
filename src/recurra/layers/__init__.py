"""Recurrent layers as torch modules: any cell, stacked, in one or two directions, regularised, streamed."""

from .recurrent import Recurrent
from .stream import Stream
from .torch_like import GRU, LSTM, RNN, flip_update_gate

__all__ = ["GRU", "LSTM", "RNN", "Recurrent", "Stream", "flip_update_gate"]
