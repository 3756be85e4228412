"""Fewer frames for a recogniser: some are put side by side, or convolutions with a stride go over them.

Speech has a hundred frames a second and some ten sounds, so that layers which read every fourth frame lose little and
take a quarter of the time. T is frames, B rows, I features of a frame, K the factor: ceil(T / K) frames are left.

Each module has a stream for one row, which gives the same frames as they come.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["ConvolutionSubsampling", "StackingSubsampling", "Subsampling", "SubsamplingStream", "subsampled"]


def subsampled(frames: int, factor: int) -> int:
    """How many frames are left of so many."""
    return -(-frames // factor)


class SubsamplingStream(Protocol):
    """The frames of one recording as they come."""

    def accept(self, frames: Tensor) -> Tensor:
        """Read frames (T, I): those that are complete now, (t, O)."""
        ...

    def finish(self) -> Tensor:
        """The frames that reach over the end, (t, O)."""
        ...


class Subsampling(nn.Module):
    """What the two kinds have in common.

    Attributes:
        factor: K.
        output_size: O, features of a frame that is left.
    """

    factor: int
    output_size: int

    def stream(self) -> SubsamplingStream:
        """A stream for one row, in evaluation; no gradients."""
        raise NotImplementedError


class StackingSubsampling(Subsampling):
    """K frames side by side are one (Sak et al. 2015, "Fast and Accurate Recurrent Neural Network Acoustic Models").

    The last frame is filled up with zeros, the mean of normalised features.

    Args:
        input_size: I.
        factor: K; with 1 nothing changes.
    """

    def __init__(self, input_size: int, factor: int) -> None:
        super().__init__()
        self.factor, self.output_size = factor, input_size * factor

    def forward(self, frames: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Frames (T, B, I), zero beyond their lengths (B,), to frames (ceil(T / K), B, K I) and their lengths."""
        steps, rows, size = frames.shape
        kept = subsampled(steps, self.factor)
        padded = F.pad(frames, (0, 0, 0, 0, 0, kept * self.factor - steps))
        stacked = padded.view(kept, self.factor, rows, size).transpose(1, 2).reshape(kept, rows, self.factor * size)
        return stacked, subsampled_lengths(lengths, self.factor)

    def stream(self) -> SubsamplingStream:
        return _StackingStream(self.factor)


class _StackingStream:
    def __init__(self, factor: int) -> None:
        self._factor = factor
        self._waiting: Tensor | None = None

    def accept(self, frames: Tensor) -> Tensor:
        waiting = frames if self._waiting is None else torch.cat([self._waiting, frames])
        whole = len(waiting) // self._factor * self._factor
        self._waiting = waiting[whole:]
        return waiting[:whole].reshape(-1, self._factor * frames.shape[1])

    def finish(self) -> Tensor:
        if self._waiting is None:
            return torch.empty(0, 0)
        missing = -len(self._waiting) % self._factor
        size = self._waiting.shape[1]
        whole, self._waiting = F.pad(self._waiting, (0, 0, 0, missing)), None
        return whole.reshape(-1, self._factor * size)


class ConvolutionSubsampling(Subsampling):
    """Convolutions over time, each over three frames with a stride of two and a ReLU behind it.

    Args:
        input_size: I.
        factor: K, a power of two: 2 to the number of convolutions.
        channels: O, features of a frame that is left.

    Raises:
        ValueError: if the factor is no power of two above 1.
    """

    def __init__(self, input_size: int, factor: int, channels: int) -> None:
        super().__init__()
        count = factor.bit_length() - 1
        if count < 1 or factor != 1 << count:
            raise ValueError(f"convolutions with a stride of two divide by a power of two above 1, not by {factor}")
        self.factor, self.output_size = factor, channels
        sizes = [input_size] + [channels] * count
        self.layers = nn.ModuleList(nn.Linear(3 * size, channels) for size in sizes[:-1])

    def forward(self, frames: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Frames (T, B, I), zero beyond their lengths (B,), to frames (ceil(T / K), B, O) and their lengths."""
        for layer in self.layers:
            kept = subsampled(len(frames), 2)
            # The frame before the first and the one after the last are zeros.
            padded = F.pad(frames, (0, 0, 0, 0, 1, 2 * kept - len(frames)))
            lengths = subsampled_lengths(lengths, 2)
            frames = torch.relu(layer(torch.cat([padded[:-1:2][:kept], padded[1::2], padded[2::2]], dim=-1)))
            inside = torch.arange(kept, device=frames.device)[:, None] < lengths.to(frames.device)
            frames = frames * inside[..., None]
        return frames, lengths

    def stream(self) -> SubsamplingStream:
        return _ConvolutionStream([layer for layer in self.layers if isinstance(layer, nn.Linear)])


class _ConvolutionStream:
    def __init__(self, layers: list[nn.Linear]) -> None:
        self._layers = layers
        self._before: list[Tensor | None] = [None] * len(self._layers)

    @torch.inference_mode()
    def accept(self, frames: Tensor) -> Tensor:
        for place in range(len(self._layers)):
            frames = self._convolved(place, frames)
        return frames

    @torch.inference_mode()
    def finish(self) -> Tensor:
        rest: Tensor | None = None
        for place, layer in enumerate(self._layers):
            if rest is not None:
                rest = self._convolved(place, rest)
            before = self._before[place]
            # One frame and the one before it wait for a third, which does not come.
            if before is not None and len(before) == 2:
                last = torch.relu(layer(F.pad(before.reshape(1, -1), (0, before.shape[1]))))
                rest = last if rest is None else torch.cat([rest, last])
        return torch.empty(0, 0) if rest is None else rest

    def _convolved(self, place: int, frames: Tensor) -> Tensor:
        before = self._before[place]
        if before is None:
            before = frames.new_zeros(1, frames.shape[1])
        waiting = torch.cat([before, frames])
        count = (len(waiting) - 1) // 2
        self._before[place] = waiting[2 * count :]
        layer = self._layers[place]
        # One at a time, so that no product depends on how many frames come together.
        made = [torch.relu(layer(waiting[2 * each : 2 * each + 3].reshape(1, -1))) for each in range(count)]
        return torch.cat(made) if made else frames.new_empty(0, layer.out_features)


def subsampled_lengths(lengths: Tensor, factor: int) -> Tensor:
    """ceil(lengths / factor)."""
    return (lengths + factor - 1) // factor
