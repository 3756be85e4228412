"""Which rows of a layer's input count at each step, in the form that the engine takes."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..call import LayerCall, check_range

__all__ = ["Rows"]


@dataclass(slots=True, eq=False)
class Rows:
    """Which rows count at each step, the longest row first.

    Attributes:
        steps: T.
        batch: B.
        total: N, the sum of the rows that count over all steps.
        active: (T,) how many rows count at each step; None when all rows do.
        order: (B,) the place of each row in the batch; None when the batch is in this order.
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
        """The rows of a packed input, checked, because the engine reads by address and would go out of bounds."""
        falls = bool((sizes[1:] <= sizes[:-1]).all()) and all(0 <= int(size) <= batch for size in sizes[[0, -1]])
        if not falls or int(sizes.sum()) != total:
            raise RuntimeError(f"batch_sizes must fall, from at most {batch}, and add up to the input's {total} rows")
        # A copy, because the caller may change the tensor before the backward pass.
        return Rows(len(sizes), batch, total, sizes.to(torch.int64, copy=True).contiguous())
