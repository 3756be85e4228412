"""A recurrent recogniser: subsampling, recurrent stack, and the log-probabilities of labels at each frame."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...errors import ConfigError
from ...layers import Recurrent
from ...models.encoder import layer_of
from ...models.latency_controlled import LatencyControlled
from ...models.subsampling import ConvolutionSubsampling, StackingSubsampling, Subsampling
from .config import RecognitionModelConfig

__all__ = ["Recogniser"]


class Recogniser(nn.Module):
    """Log-probabilities of labels for each frame of a batch of recordings or lines of ink, trained by CTC.

    Args:
        input_size: features of a frame I.
        labels: number of labels V, the blank included.
        config: the `model` section.

    Attributes:
        confidence: (2,), slope and offset of the straight line by which the log-odds of a word's confidence become
            those of its being right (Platt 1999). It is fitted to the validation data at each evaluation, and kept
            with the weights.

    Raises:
        ConfigError: if the cell is not known or cannot do what the section asks of it.
    """

    confidence: Tensor

    def __init__(self, input_size: int, labels: int, config: RecognitionModelConfig) -> None:
        super().__init__()
        self.input_size, self.labels, self.config = input_size, labels, config
        self.subsampling = _subsampling(input_size, config)
        self.recurrent = _layers(self.subsampling.output_size, config)
        self.output = nn.Linear(config.output_size, labels)
        self.register_buffer("confidence", torch.tensor([1.0, 0.0]))

    def forward(self, frames: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Read examples.

        Args:
            frames: (T, B, I), zero beyond a length.
            lengths: (B,) int64 on the CPU, each at least 1.

        Returns:
            Log-probabilities (t, B, V), t being T over the factor of the subsampling, rounded up; and how many of the
            t frames each example has, (B,) int64.
        """
        encoded, lengths = self.encode(frames, lengths)
        return self.judge(encoded), lengths

    def encode(self, frames: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """The last layer's outputs (t, B, M) and their lengths; arguments as for `forward`."""
        fewer, lengths = self.subsampling(frames, lengths)
        outputs: Tensor = self.recurrent(fewer, lengths=lengths)[0]
        return outputs, lengths

    def judge(self, encoded: Tensor) -> Tensor:
        """Log-probabilities (..., V) float32 of outputs (..., M)."""
        dropped = F.dropout(encoded, self.config.output_dropout, self.training)
        return F.log_softmax(self.output(dropped).float(), dim=-1)


def _subsampling(input_size: int, config: RecognitionModelConfig) -> Subsampling:
    if config.subsampling == "stacking":
        return StackingSubsampling(input_size, config.subsampling_factor)
    try:
        return ConvolutionSubsampling(input_size, config.subsampling_factor, config.convolution_size)
    except ValueError as error:
        raise ConfigError(f"model.subsampling_factor: {error}.") from error


def _layers(input_size: int, config: RecognitionModelConfig) -> Recurrent | LatencyControlled:
    if config.direction == "latency-controlled":
        return LatencyControlled(
            lambda size: layer_of(
                config,
                size,
                config.hidden_size,
                weight_dropout=config.weight_dropout,
                learn_initial_state=config.learn_initial_state,
            ),
            input_size,
            config.hidden_size,
            config.num_layers,
            config.chunk,
            config.look_ahead,
            input_dropout=config.input_dropout,
            dropout=config.dropout,
        )
    return layer_of(
        config,
        input_size,
        config.hidden_size,
        num_layers=config.num_layers,
        bidirectional=config.direction == "both",
        input_dropout=config.input_dropout,
        locked_dropout=config.dropout,
        weight_dropout=config.weight_dropout,
        residual=config.residual,
        learn_initial_state=config.learn_initial_state,
    )
