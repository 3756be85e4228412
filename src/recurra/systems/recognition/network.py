"""A recurrent recogniser: subsampling, recurrent stack, and the end that gives labels."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ...errors import ConfigError
from ...layers import Recurrent
from ...models.encoder import layer_of
from ...models.latency_controlled import LatencyControlled
from ...models.subsampling import ConvolutionSubsampling, StackingSubsampling, Subsampling
from .config import RecognitionModelConfig
from .outputs import output_of

__all__ = ["Recogniser"]


class Recogniser(nn.Module):
    """Labels of a batch of recordings or lines of ink.

    Args:
        input_size: features of a frame I.
        labels: number of labels V, the blank included.
        blank: the label that stands for none.
        config: the `model` section.

    Attributes:
        confidence: (2,), slope and offset of the straight line by which the log-odds of a word's confidence become
            those of its being right (Platt 1999). It is fitted to the validation data at each evaluation, and kept
            with the weights.

    Raises:
        ConfigError: if the cell is not known or cannot do what the section asks of it.
    """

    confidence: Tensor

    def __init__(self, input_size: int, labels: int, blank: int, config: RecognitionModelConfig) -> None:
        super().__init__()
        self.input_size, self.labels, self.config = input_size, labels, config
        self.subsampling = _subsampling(input_size, config)
        self.recurrent = _layers(self.subsampling.output_size, config)
        self.output = output_of(config.output_size, labels, blank, config)
        self.register_buffer("confidence", torch.tensor([1.0, 0.0]))

    def forward(self, frames: Tensor, lengths: Tensor, labels: Tensor, label_lengths: Tensor) -> Tensor:
        """-log P(labels | frames) of each example, (B,), in nats.

        Args:
            frames: (T, B, I), zero beyond a length.
            lengths: (B,) int64 on the CPU, each at least 1.
            labels: of all examples one after another.
            label_lengths: (B,) int64 on the CPU.
        """
        found, lengths = self.frames(frames, lengths)
        return self.output.nats(found, lengths, labels, label_lengths)

    def frames(self, frames: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """What searches read of each example; arguments as for `forward`.

        Returns:
            (t, B, ...), t being T over the factor of the subsampling, rounded up; and how many of the t frames each
            example has, (B,) int64.
        """
        fewer, lengths = self.subsampling(frames, lengths)
        outputs: Tensor = self.recurrent(fewer, lengths=lengths)[0]
        return self.output.frames(outputs), lengths


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
