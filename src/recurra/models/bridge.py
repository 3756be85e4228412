"""The bridge: from what the encoder ends with to the decoder's first state."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ..errors import ConfigError
from .encoder import Encoded

__all__ = ["Bridge"]


class Bridge(nn.Module):
    """The first state of each decoder layer.

    A decoder that is lower than the encoder starts from the encoder's upper layers; of one that is higher, the layers
    that have no partner start from the encoder's top.

    Kinds: `none`: zeros. `copy`: the state of the encoder layer at the same height, of both directions their mean
    (Sutskever, Vinyals & Le 2014). `dense`: tanh(W [forward; backward] + b) of that layer's last states, for each state
    of the cell (after Cho et al. 2014 and Bahdanau et al. 2015, which take the backward direction alone). `mean`:
    tanh(W m + b) of the mean annotation m, for h; other states start at zero (Sennrich et al. 2017, section 2.1).
    Without tanh for a state such as the LSTM's c, which is not bounded.

    Args:
        kind: as above.
        size: units of the decoder's layers, H.
        states: how many states the cell has.
        layers: of the decoder.
        source_size: units of an annotation, M.
        source_layers, source_directions: of the encoder.
    """

    def __init__(
        self,
        kind: str,
        size: int,
        states: int,
        layers: int,
        *,
        source_size: int,
        source_layers: int = 1,
        source_directions: int = 1,
    ) -> None:
        super().__init__()
        self.kind = kind
        self.directions = source_directions
        self.states = states
        self.layers = layers
        self.size = size
        if self.kind == "copy" and source_layers != layers:
            raise ConfigError(
                f"model.bridge copy needs as many encoder as decoder layers, not {source_layers} and {layers}; "
                "set model.encoder_layers or model.bridge=dense."
            )
        count = {"dense": states * layers, "mean": layers}.get(self.kind, 0)
        self.maps = nn.ModuleList([nn.Linear(source_size, self.size) for _ in range(count)])

    def forward(self, encoded: Encoded) -> list[tuple[Tensor, ...]]:
        """For each decoder layer a tuple of the cell's states, each (1, B, H)."""
        annotations = encoded.annotations
        zeros = annotations.new_zeros((1, annotations.shape[1], self.size))
        if self.kind == "none":
            return [(zeros,) * self.states] * self.layers
        if self.kind == "mean":
            counts = encoded.mask.sum(0).clamp(min=1).to(annotations.dtype)
            mean = annotations.sum(0) / counts.unsqueeze(-1)
            rest = (zeros,) * (self.states - 1)
            return [(torch.tanh(each(mean)).unsqueeze(0), *rest) for each in self.maps]
        final: Any = (encoded.final,) if self.states == 1 else encoded.final
        result = []
        for layer in range(self.layers):
            states = []
            for index, state in enumerate(final):
                # (layers, directions, B, H)
                parts = state.unflatten(0, (-1, self.directions))
                height = parts.shape[0]
                chosen = parts[min(layer + max(height - self.layers, 0), height - 1)]
                if self.kind == "copy":
                    states.append(chosen.mean(0, keepdim=True))
                    continue
                mapped = self.maps[layer * self.states + index](torch.cat(tuple(chosen), dim=-1))
                states.append((mapped if index else torch.tanh(mapped)).unsqueeze(0))
            result.append(tuple(states))
        return result
