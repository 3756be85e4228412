"""From the outputs of every step of a sequence to one vector of the whole sequence."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

__all__ = ["Pooling", "PoolingKind"]

PoolingKind = Literal["last", "mean", "max", "mean-max", "last-mean-max", "attention"]


class Pooling(nn.Module):
    """One vector for each sequence of a batch, whatever its padding.

    | kind | what it is |
    |---|---|
    | last | the last output of the forward direction, and the first of the backward one |
    | mean, max | of each unit over all steps |
    | mean-max, last-mean-max | these side by side; the latter is Howard & Ruder's concat pooling (2018, section 3.3) |
    | attention | A H with A = softmax(W2 tanh(W1 H)), one row for each head (Lin et al. 2017, equations 5 to 7) |

    Args:
        kind: as in the table.
        size: units M of an output, both directions together.
        bidirectional: whether the second half of the units is the backward direction's.
        attention_size: units of W1.
        attention_heads: rows of W2; the vectors of the heads stand side by side.
    """

    def __init__(
        self,
        kind: PoolingKind,
        size: int,
        *,
        bidirectional: bool = False,
        attention_size: int = 64,
        attention_heads: int = 1,
    ) -> None:
        super().__init__()
        self.kind = kind
        self._forward_size = size // 2 if bidirectional else size
        self.inner = self.heads = None
        if kind == "attention":
            self.inner = nn.Linear(size, attention_size, bias=False)
            self.heads = nn.Linear(attention_size, attention_heads, bias=False)
        self.size = size * (attention_heads if kind == "attention" else len(kind.split("-")))
        """Units of the vector of a sequence."""

    def forward(self, outputs: Tensor, lengths: Tensor) -> Tensor:
        """Pool the outputs.

        Args:
            outputs: (T, B, M), zero from a sequence's length on.
            lengths: (B,) int64, each from 1 to T.

        Returns:
            (B, `size`).
        """
        lengths = lengths.to(outputs.device)
        if self.inner is not None and self.heads is not None:
            scores = self.heads(torch.tanh(self.inner(outputs)))
            # Weights want more than the eight bits of bfloat16.
            precise = torch.promote_types(scores.dtype, torch.float32)
            scores = scores.to(precise).masked_fill(self._padding(outputs, lengths), -torch.inf)
            weights = scores.softmax(0).to(outputs)
            return torch.einsum("tbh,tbm->bhm", weights, outputs).flatten(1)
        parts = [getattr(self, f"_{part}")(outputs, lengths) for part in self.kind.split("-")]
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)

    def _last(self, outputs: Tensor, lengths: Tensor) -> Tensor:
        places = (lengths - 1).view(1, -1, 1).expand(1, -1, self._forward_size)
        last = outputs[..., : self._forward_size].gather(0, places).squeeze(0)
        return torch.cat([last, outputs[0, :, self._forward_size :]], dim=1)

    def _mean(self, outputs: Tensor, lengths: Tensor) -> Tensor:
        return outputs.sum(0) / lengths.unsqueeze(1)

    def _max(self, outputs: Tensor, lengths: Tensor) -> Tensor:
        return outputs.masked_fill(self._padding(outputs, lengths), -torch.inf).amax(0)

    @staticmethod
    def _padding(outputs: Tensor, lengths: Tensor) -> Tensor:
        """Which steps lie beyond the lengths: (T, B, 1)."""
        steps = torch.arange(outputs.shape[0], device=outputs.device).unsqueeze(1)
        return (steps >= lengths).unsqueeze(-1)
