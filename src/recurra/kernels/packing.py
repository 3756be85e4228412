"""Packed batches, padded for the backends that take no packed rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from .call import LayerCall, LayerResult

__all__ = ["PackedRows", "run_padded"]


class PackedRows:
    """The way between a packed batch and the same batch padded.

    Only by indexing, because vmap and forward-mode differentiation have no rule for torch's own packing.

    Args:
        sizes: (T,) how many rows each step has, falling.
        device: of the tensors to be packed or padded.

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
        # Row 0 fills the padding, which nobody looks at.
        self._places = torch.where(there, starts[:, None] + rows, 0).to(device)
        self._times, self._rows = (index.to(device) for index in there.nonzero(as_tuple=True))

    def padded(self, packed: Tensor) -> Tensor:
        """(N, ...) as (T, B, ...); the values beyond a row's length are arbitrary, not zero."""
        return packed[self._places]

    def packed(self, padded: Tensor) -> Tensor:
        """(T, B, ...) as (N, ...)."""
        return padded[self._times, self._rows]


def run_padded(run: Callable[[LayerCall], LayerResult], call: LayerCall) -> LayerResult:
    """Run a call; if it is packed, pad it before and pack its outputs afterwards."""
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
