"""Bidirectional layers that need not wait for the end: their backward direction sees a little ahead.

The input is cut into chunks. In each layer the forward direction goes through all of it. The backward direction begins
anew behind each chunk, a fixed number of steps ahead, and so reads the chunk knowing what comes next (Zhang et al.
2016, "Highway Long Short-Term Memory RNNs for Distant Speech Recognition"). What upper layers see of these steps ahead
is computed from nothing beyond them either, so the look-ahead of the whole stack is that of one layer.

T is steps, B rows, I features, H units of a direction, N a chunk's steps, R those ahead.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..layers import Recurrent
from .encoder import locked

__all__ = ["LatencyControlled", "LatencyControlledStream"]


class LatencyControlled(nn.Module):
    """A stack of bidirectional layers with a bounded look-ahead.

    An output is known at most N + R - 1 steps after its input.

    Args:
        layer: makes a layer of one direction, of the size of its input.
        input_size: I.
        hidden_size: H.
        num_layers: how many layers of two directions.
        chunk: N.
        look_ahead: R; with 0 the backward direction knows nothing beyond its chunk.
        input_dropout, dropout: locked dropout on the input, and between layers.

    Raises:
        ValueError: if there is no chunk, or a look-ahead below 0.
    """

    def __init__(
        self,
        layer: Callable[[int], Recurrent],
        input_size: int,
        hidden_size: int,
        num_layers: int,
        chunk: int,
        look_ahead: int,
        *,
        input_dropout: float = 0.0,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if chunk < 1 or look_ahead < 0:
            raise ValueError(
                f"a chunk has at least 1 step, and 0 or more are ahead of it, not {chunk} and {look_ahead}"
            )
        self.chunk, self.look_ahead = chunk, look_ahead
        self.input_dropout, self.dropout = input_dropout, dropout
        sizes = [input_size] + [2 * hidden_size] * (num_layers - 1)
        self.onward = nn.ModuleList(layer(size) for size in sizes)
        self.back = nn.ModuleList(layer(size) for size in sizes)

    def forward(self, input: Tensor, hx: None = None, *, lengths: Tensor) -> tuple[Tensor, None]:
        """Read whole sequences, all chunks of the backward directions side by side.

        Args:
            input: (T, B, I).
            hx: None; sequences begin with the initial state.
            lengths: (B,) int64 on the CPU.

        Returns:
            (T, B, 2 H), zero beyond a length, and None in the place of a state.
        """
        steps, rows, _ = input.shape
        chunks = -(-steps // self.chunk)
        own = locked(input, self.input_dropout, self.training)
        padded = F.pad(own, (0, 0, 0, 0, 0, chunks * self.chunk + self.look_ahead - steps))
        # (chunks, B, I, N + R) to (N + R, chunks * B, I).
        parts = padded.unfold(0, self.chunk + self.look_ahead, self.chunk).permute(3, 0, 1, 2).flatten(1, 2)
        own, ahead = padded[: chunks * self.chunk], parts[self.chunk :]
        starts = self.chunk * torch.arange(chunks)[:, None]
        left = (lengths.cpu()[None] - starts).flatten()
        inside, beyond = left.clamp(0, self.chunk + self.look_ahead), (left - self.chunk).clamp(0, self.look_ahead)
        for number, (onward, back) in enumerate(zip(self.onward, self.back, strict=True)):
            if number:
                mask = locked(own.new_ones(1, rows, own.shape[2]), self.dropout, self.training)
                own, ahead = own * mask, ahead * mask.repeat(1, chunks, 1)
            parts = torch.cat([_folded(own, self.chunk), ahead])
            found, _, (states,) = onward(own, lengths=lengths, return_all_states=True)
            behind = _backward(back, parts, inside)
            # Of the last layer nobody reads the steps ahead.
            if number < len(self.onward) - 1 and self.look_ahead:
                ends = tuple(_folded(state, self.chunk)[-1:] for state in states)
                further = onward(ahead, ends if len(ends) > 1 else ends[0], lengths=beyond)[0]
                ahead = torch.cat([further, behind[self.chunk :]], dim=-1)
            else:
                ahead = own.new_zeros(self.look_ahead, chunks * rows, 2 * found.shape[2])
            own = torch.cat([found, _unfolded(behind[: self.chunk], chunks)], dim=-1)
        return own[:steps], None

    def stream(self) -> LatencyControlledStream:
        """A stream for one row, in evaluation; no gradients."""
        return LatencyControlledStream(self)


class LatencyControlledStream:
    """The outputs of one sequence, chunk by chunk, as its input comes.

    Args:
        layers: the stack.
    """

    def __init__(self, layers: LatencyControlled) -> None:
        self._layers = layers
        self._states: list[Any] = [None] * len(layers.onward)
        self._waiting: Tensor | None = None

    @torch.inference_mode()
    def accept(self, input: Tensor) -> Tensor:
        """Read steps (T, I): the outputs that are known now, (t, 2 H)."""
        waiting = input if self._waiting is None else torch.cat([self._waiting, input])
        size, ahead = self._layers.chunk, self._layers.look_ahead
        made = []
        while len(waiting) >= size + ahead:
            made.append(self._read(waiting[: size + ahead], size))
            waiting = waiting[size:]
        self._waiting = waiting
        return torch.cat(made) if made else input.new_empty(0, 0)

    @torch.inference_mode()
    def finish(self) -> Tensor:
        """The outputs of the last steps, (t, 2 H)."""
        size, ahead = self._layers.chunk, self._layers.look_ahead
        made = []
        while self._waiting is not None and len(self._waiting):
            part = self._waiting[: size + ahead]
            made.append(self._read(part, min(size, len(part))))
            self._waiting = self._waiting[size:]
        return torch.cat(made) if made else torch.empty(0, 0)

    def _read(self, part: Tensor, count: int) -> Tensor:
        """The outputs of the first `count` steps of a part that goes on ahead of them."""
        whole = part[:, None]
        for number, (onward, back) in enumerate(zip(self._layers.onward, self._layers.back, strict=True)):
            found, state = onward(whole[:count], self._states[number])
            self._states[number] = state
            behind = _backward(back, whole, torch.tensor([len(whole)]))
            if len(whole) > count:
                found = torch.cat([found, onward(whole[count:], state)[0]])
            whole = torch.cat([found, behind], dim=-1)
        return whole[:count, 0]


def _backward(layer: nn.Module, parts: Tensor, lengths: Tensor) -> Tensor:
    """The outputs of a layer that reads from the end of each row to its beginning, in the order of time."""
    found: Tensor = layer(parts.flip(0), lengths=lengths, padding="left")[0]
    return found.flip(0)


def _folded(values: Tensor, chunk: int) -> Tensor:
    """(chunks * N, B, F) to (N, chunks * B, F)."""
    return values.unflatten(0, (-1, chunk)).transpose(0, 1).flatten(1, 2)


def _unfolded(values: Tensor, chunks: int) -> Tensor:
    """(N, chunks * B, F) to (chunks * N, B, F)."""
    return values.unflatten(1, (chunks, -1)).transpose(0, 1).flatten(0, 1)
