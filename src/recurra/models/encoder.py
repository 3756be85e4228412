"""The encoder: reads a source in one or two directions and keeps an annotation of every position."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from .. import cells
from ..config_translation import TranslationModelConfig
from ..errors import ConfigError
from ..layers import Recurrent
from ..layers.regularize import locked_mask

__all__ = ["Encoded", "Encoder", "layer_of", "locked"]


class Encoded(NamedTuple):
    """A batch of sources, read.

    Attributes:
        annotations: (S, B, M), zero beyond a source's length.
        mask: (S, B) bool, true inside a source.
        final: the states after the last step, in the form of `recurra.Recurrent`'s hx.
    """

    annotations: Tensor
    mask: Tensor
    final: Any


class Encoder(nn.Module):
    """A recurrent stack over embedded source tokens, one fused call a layer.

    Bidirectional as in Bahdanau, Cho & Bengio (2015): an annotation is the concatenation of both directions' states.

    Args:
        config: the `model` section.
    """

    def __init__(self, config: TranslationModelConfig) -> None:
        super().__init__()
        self.config = config
        self.recurrent = layer_of(
            config,
            config.embedding_size,
            num_layers=config.encoder_layers,
            bidirectional=config.bidirectional,
            locked_dropout=config.dropout,
            weight_dropout=config.weight_dropout,
        )
        self.norm = nn.LayerNorm(config.annotation_size) if config.layer_norm else None

    def forward(self, embedded: Tensor, lengths: Tensor) -> Encoded:
        """Read sources.

        Args:
            embedded: (S, B, E).
            lengths: (B,) int64 on the CPU.
        """
        steps = torch.arange(embedded.shape[0], device=embedded.device)
        mask = steps.unsqueeze(1) < lengths.to(embedded.device)
        annotations, final = self.recurrent(embedded, lengths=lengths)
        if self.norm is not None:
            # Of padding the norm makes its bias, which must not enter a mean.
            annotations = self.norm(annotations) * mask.unsqueeze(-1)
        return Encoded(locked(annotations, self.config.annotation_dropout, self.training), mask, final)


def layer_of(config: TranslationModelConfig, input_size: int, **options: Any) -> Recurrent:
    """Recurrent layers of the configured cell.

    Raises:
        ConfigError: if the cell is not known or cannot do what is asked of it.
    """
    try:
        cell = cells.get(config.cell)
    except Exception as error:  # whatever goes wrong in a user's own file
        raise ConfigError(f"model.cell: {error}") from error
    forget_bias = None if cell.forget_bias_gate is None else config.forget_bias
    try:
        return Recurrent(cell, input_size, config.hidden_size, forget_bias=forget_bias, **options)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"model: {error}.") from error


def locked(value: Tensor, rate: float, training: bool) -> Tensor:
    """Locked dropout of (T, B, F): one mask for all steps of a row (Gal & Ghahramani 2016)."""
    if not training or rate == 0.0:
        return value
    return value * locked_mask(value, rate, (1, *value.shape[1:]))
