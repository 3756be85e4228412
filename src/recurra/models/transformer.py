"""A plain transformer in the place of recurrent layers, so that users see when recurrent ones are the right choice."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..config.sections import TRANSFORMER
from ..errors import ConfigError
from ..layers import Recurrent
from .encoder import CellSettings, layer_of

__all__ = ["CONTEXT", "TransformerLayers", "layers_of"]

CONTEXT = 128
"""Tokens before it that a token attends to in each layer of a causal transformer."""


class TransformerLayers(nn.Module):
    """`torch.nn.TransformerEncoder` with the call and the sizes of recurrent layers (Vaswani et al. 2017).

    Layer normalisation stands before each part (Xiong et al. 2020), the inner layer has four times the units, and there
    are four heads, or fewer where the units cannot be parted so. Positions are told by what attention loses with the
    distance (Press, Smith & Lewis 2022, "Train short, test long", ALiBi).

    In one direction each token attends to itself and to the `CONTEXT` tokens before it. The state is the input of so
    many tokens for each layer, so that a text read in pieces gives what it gives as a whole.

    Args:
        input_size: units of an input.
        hidden_size: of an output, for each direction.
        num_layers: layers.
        bidirectional: attend to what follows as well.
        dropout: of torch's layer, everywhere in it.
        input_dropout: of the input.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        *,
        bidirectional: bool = False,
        dropout: float = 0.0,
        input_dropout: float = 0.0,
    ) -> None:
        super().__init__()
        size = hidden_size * (2 if bidirectional else 1)
        self.bidirectional, self.input_dropout = bidirectional, input_dropout
        self.heads = next(heads for heads in (4, 2, 1) if size % heads == 0)
        self.seen = CONTEXT * num_layers
        self.enter = nn.Linear(input_size, size)
        layer = nn.TransformerEncoderLayer(size, self.heads, 4 * size, dropout, norm_first=True)
        self.stack = nn.TransformerEncoder(layer, num_layers, nn.LayerNorm(size), enable_nested_tensor=False)
        # torch copies the first layer; the copies would start alike.
        for parameter in self.stack.parameters():
            if parameter.dim() > 1:
                nn.init.xavier_uniform_(parameter)

    def forward(self, input: Tensor, hx: Tensor | None = None, lengths: Tensor | None = None) -> tuple[Tensor, Any]:
        """Read sequences.

        Args:
            input: (T, B, E).
            hx: the state after an earlier piece, (seen, B, E + 1); None: nothing was read. For one direction.
            lengths: (B,), for both directions; None: all are T long.

        Returns:
            (T, B, M), zero beyond a length, and the state after the last step, None for both directions.
        """
        input = F.dropout(input, self.input_dropout, self.training)
        steps, rows = input.shape[:2]
        if self.bidirectional:
            inside = torch.ones(steps, rows, dtype=torch.bool, device=input.device)
            if lengths is not None:
                inside = torch.arange(steps, device=input.device)[:, None] < lengths.to(input.device)
            return self._attend(input, inside) * inside[..., None], None
        # The last unit of a state says whether there was a token.
        told = torch.cat([input, input.new_ones(steps, rows, 1)], dim=-1)
        before = input.new_zeros(self.seen, rows, told.shape[-1]) if hx is None else hx.to(input.dtype)
        whole = torch.cat([before, told])
        states = self._attend(whole[..., :-1], whole[..., -1] > 0)
        return states[self.seen :], whole[len(whole) - self.seen :]

    def _attend(self, input: Tensor, there: Tensor) -> Tensor:
        """The outputs of all places, (S, B, M), of which those that are not there, (S, B), are seen by none."""
        steps, rows = there.shape
        place = torch.arange(steps, device=input.device)
        distance = place[:, None] - place
        near = distance.abs() < steps if self.bidirectional else (distance >= 0) & (distance <= CONTEXT)
        # A place without a token sees itself, because a sum over nothing is not a number.
        open_ = (near & there.t()[:, None, :]) | (distance == 0)
        slopes = 2.0 ** (-8.0 * torch.arange(1, self.heads + 1, device=input.device) / self.heads)
        loss = -slopes[:, None, None] * distance.abs()
        mask = loss[None].masked_fill(~open_[:, None], float("-inf")).to(input.dtype)
        found: Tensor = self.stack(self.enter(input), mask=mask.reshape(rows * self.heads, steps, steps))
        return found


def layers_of(
    config: CellSettings, input_size: int, hidden_size: int | list[int], **options: Any
) -> Recurrent | TransformerLayers:
    """Recurrent layers of the configured cell, or a transformer if `cell` says so.

    Raises:
        ConfigError: if the cell is not known, or cannot do what is asked of it.
    """
    if config.cell != TRANSFORMER:
        return layer_of(config, input_size, hidden_size, **options)
    if isinstance(hidden_size, list):
        raise ConfigError("model.hidden_size: all layers of a transformer have one size; give one number.")
    # What recurrent layers drop between them, torch's layers drop everywhere.
    dropout = max(options.pop("locked_dropout", 0.0), options.pop("dropout", 0.0))
    known = {name: options.pop(name) for name in ("num_layers", "bidirectional", "input_dropout") if name in options}
    other = next((name for name, value in options.items() if value not in (0.0, False, None, "none")), None)
    if other is not None:
        raise ConfigError(f"model.{other}: a transformer has none; leave it out.")
    return TransformerLayers(input_size, hidden_size, dropout=dropout, **known)
