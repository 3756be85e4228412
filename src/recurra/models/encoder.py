"""The encoder: reads a source in one or two directions and keeps an annotation of every position."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from .. import cells
from ..config.encoder_decoder import EncoderSection
from ..errors import ConfigError
from ..layers import Recurrent
from ..layers.regularize import locked_mask

__all__ = ["Encoded", "Encoder", "layer_of", "locked"]


class Encoded(NamedTuple):
    """A batch of sources, read.

    Attributes:
        annotations: (S, B, M), zero beyond a source's length.
        mask: (S, B) bool, true inside a source.
        summary: (1, B, M), h of the top layer after its last step, both directions; where it stands in place of the
            annotations, it is normalised and dropped as they are.
        final: the states after the last step, in the form of `recurra.Recurrent`'s hx.
    """

    annotations: Tensor
    mask: Tensor
    summary: Tensor
    final: Any


class Encoder(nn.Module):
    """A recurrent stack over embedded source tokens, one fused call a layer.

    Bidirectional as in Bahdanau, Cho & Bengio (2015): an annotation is the concatenation of both directions' states.

    Args:
        config: the section that describes it.
        attended: whether the annotations are attended over; else the summary stands in their place.
        read: whether anything but the last states is read, and has to be normalised.
    """

    def __init__(self, config: EncoderSection, *, attended: bool = True, read: bool = True) -> None:
        super().__init__()
        self.config = config
        self._attended = attended
        self.recurrent = layer_of(
            config,
            config.embedding_size,
            config.hidden_size,
            num_layers=config.encoder_layers,
            bidirectional=config.bidirectional,
            locked_dropout=config.dropout,
            weight_dropout=config.weight_dropout,
        )
        self.norm = nn.LayerNorm(config.annotation_size) if config.layer_norm and read else None

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
        annotations = locked(annotations, self.config.annotation_dropout, self.training)
        return Encoded(annotations, mask, self._summary(final), final)

    def _summary(self, final: Any) -> Tensor:
        config = self.config
        last = final if isinstance(final, Tensor) else final[0]
        summary = torch.cat(tuple(last[-2 if config.bidirectional else -1 :]), dim=-1).unsqueeze(0)
        if self._attended:
            return summary
        if self.norm is not None:
            summary = self.norm(summary)
        return locked(summary, config.annotation_dropout, self.training)


class CellSettings(Protocol):
    """The keys of a `model` section that say what cell there is."""

    @property
    def cell(self) -> str: ...

    @property
    def forget_bias(self) -> float | None: ...


def layer_of(config: CellSettings, input_size: int, hidden_size: int | list[int], **options: Any) -> Recurrent:
    """Recurrent layers of the configured cell.

    Raises:
        ConfigError: if the cell is not known or cannot do what is asked of it.
    """
    try:
        cell = cells.get(config.cell)
    except Exception as error:  # whatever goes wrong in a user's own file
        raise ConfigError(f"model.cell: {error}") from error
    # The configuration's default is meant for cells that have such a gate.
    forget_bias = None if cell.forget_bias_gate is None else config.forget_bias
    try:
        return Recurrent(cell, input_size, hidden_size, forget_bias=forget_bias, **options)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"model: {error}.") from error


def locked(value: Tensor, rate: float, training: bool) -> Tensor:
    """Locked dropout of (T, B, F): one mask for all steps of a row (Gal & Ghahramani 2016)."""
    if not training or rate == 0.0:
        return value
    return value * locked_mask(value, rate, (1, *value.shape[1:]))
