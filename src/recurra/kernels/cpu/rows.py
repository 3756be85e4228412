"""Which rows of a layer's input count, as the engine wants to know it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..call import LayerCall, check_range

__all__ = ["Rows"]


@dataclass(slots=True, eq=False)
class Rows:
    """Which rows of each step count, the longest first.

    Attributes:
        steps: T.
        batch: B.
        total: N, how many count in all steps.
        active: (T,) how many rows each step has; None when that is all of them.
        order: (B,) where the rows lie in the batch; None when they lie in this order.
    """

    steps: int
    batch: int
    total: int
    active: Tensor | None = None
    order: Tensor | None = None

    @staticmethod
    def of(call: LayerCall) -> Rows:
        batch = call.states[0].shape[1]
        if call.batch_sizes is not None:
            return Rows._packed(call.batch_sizes, batch, call.input.shape[0])
        steps = call.input.shape[0]
        if call.lengths is None:
            return Rows(steps, batch, steps * batch)
        lengths = call.lengths.detach().to("cpu", torch.int64)
        check_range(lengths, steps)
        if len(lengths) != batch:
            raise RuntimeError(f"there are {len(lengths)} lengths for {batch} rows")
        ordered, order = torch.sort(lengths, descending=True, stable=True)
        ended = torch.bincount(ordered, minlength=steps + 1)[:steps].cumsum(0)
        return Rows(steps, batch, int(ordered.sum()), batch - ended, order)

    @staticmethod
    def _packed(sizes: Tensor, batch: int, total: int) -> Rows:
        """Of a packed input; the engine reads by address, so what does not fit must not reach it."""
        falls = bool((sizes[1:] <= sizes[:-1]).all()) and all(0 <= int(size) <= batch for size in sizes[[0, -1]])
        if not falls or int(sizes.sum()) != total:
            raise RuntimeError(f"batch_sizes must fall, from at most {batch}, and add up to the input's {total} rows")
        # A copy: the caller's may be changed before the way back reads it.
        return Rows(len(sizes), batch, total, sizes.to(torch.int64, copy=True).contiguous())
