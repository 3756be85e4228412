"""Packed layer calls for backends that want them padded."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from .call import LayerCall, LayerResult

__all__ = ["PackedRows", "run_padded"]


class PackedRows:
    """Where the rows of a packed batch lie when it is padded, and the other way round.

    By indexing alone, which vmap and forward-mode differentiation have rules for; torch's own packing has none.

    Args:
        sizes: (T,) rows of each step, falling.
        device: of what is packed.

    Attributes:
        lengths: (B,) steps of each row, on the CPU.
    """

    def __init__(self, sizes: Tensor, device: torch.device) -> None:
        counts = sizes.to("cpu", torch.int64)
        batch = int(counts[0]) if len(counts) else 0
        rows = torch.arange(batch, device="cpu")
        there = rows < counts[:, None]
        self.lengths = there.sum(0)
        starts = counts.cumsum(0) - counts
        # Padding reads any row, for nobody looks at it.
        self._places = torch.where(there, starts[:, None] + rows, 0).to(device)
        self._times, self._rows = (index.to(device) for index in there.nonzero(as_tuple=True))

    def padded(self, packed: Tensor) -> Tensor:
        """(N, ...) as (T, B, ...); what lies beyond a row's length is no zero."""
        return packed[self._places]

    def packed(self, padded: Tensor) -> Tensor:
        """(T, B, ...) as (N, ...)."""
        return padded[self._times, self._rows]


def run_padded(run: Callable[[LayerCall], LayerResult], call: LayerCall) -> LayerResult:
    """Run a call, padded first if it is packed, and its outputs packed again."""
    if call.batch_sizes is None:
        return run(call)
    rows = PackedRows(call.batch_sizes, call.input.device)
    result = run(
        replace(
            call,
            input=rows.padded(call.input),
            lengths=rows.lengths,
            zoneout_masks=tuple(rows.padded(masks) for masks in call.zoneout_masks),
            batch_sizes=None,
            resets=None if call.resets is None else rows.padded(call.resets),
        )
    )
    return LayerResult(tuple(rows.packed(output) for output in result.outputs), result.final)
