"""A run of the engine in autograd's graph.

Autograd alone keeps the tensors that the backward pass needs (save_for_backward), so that checkpoints, hooks on saved
tensors and offloading see all of them. The backward pass changes nothing that another backward pass of the same run may
read, so that several can run at once.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from .. import reference
from ..call import LayerCall
from ..packing import run_padded
from ..surroundings import readable, transformed
from .layer_run import LayerRun

__all__ = ["recorded"]

# With a torch that lacks these functions no kept memory is overwritten, which takes more memory and is right too.
_autograd = torch._C._autograd
_graph_is_kept = getattr(_autograd, "_get_current_graph_task_keep_graph", lambda: True)
_hooks_on_saved = getattr(_autograd, "_top_saved_tensors_default_hooks", lambda ignore_is_tracing: True)


def recorded(layer_run: LayerRun) -> list[Tensor]:
    """Outputs, then final states, in autograd's graph."""
    return list(_Layer.apply(layer_run, *layer_run.call.leaves()))


class _Spending:
    """Decides which backward pass may overwrite the kept values: one that no other runs beside or will follow."""

    def __init__(self, allowed: bool) -> None:
        self._allowed = allowed
        self._lock = threading.Lock()
        self._readers = 0
        self._spent = False

    def begin(self) -> tuple[bool, bool]:
        """Whether this backward pass may overwrite the kept values, and whether another has already done so."""
        with self._lock:
            lost = self._spent
            self._readers += 1
            spend = self._allowed and not lost and self._readers == 1 and not _graph_is_kept()
            self._spent |= spend
            return spend, lost

    def end(self) -> None:
        with self._lock:
            self._readers -= 1


class _Layer(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, layer_run: LayerRun, *leaves: Tensor) -> Any:
        call = layer_run.call
        results = layer_run.forward(keep=True)
        ctx.set_materialize_grads(False)
        given = len(results) - len(call.states)
        options = [tensor for tensor in (call.recurrent_mask, call.resets) if tensor is not None]
        # Outputs are states too. Autograd notices if a tensor that it saved as an output is changed in place.
        states = [*results[:given], *layer_run.states[given:]]
        assert layer_run.kept is not None
        saved = (*leaves, *states, layer_run.kept, *call.zoneout_masks, *options)
        ctx.save_for_backward(*saved)
        # Hooks on saved tensors may return other tensors, or memory that must not be written to.
        ctx.hooked = _hooks_on_saved(True) is not None
        ctx.dtypes = [tensor.dtype for tensor in saved] if ctx.hooked else None
        ctx.counts = (len(leaves), len(states), len(call.zoneout_masks))
        ctx.given = given
        ctx.names = [list(direction) for direction in call.weights]
        ctx.rows, ctx.threads, ctx.round_weights = layer_run.rows, layer_run.threads, layer_run.round_weights
        ctx.cell, ctx.compiled = call.cell, layer_run.cell
        ctx.zoneout, ctx.masked, ctx.cut = call.zoneout, call.recurrent_mask is not None, call.resets is not None
        # Copies, because the caller may change the tensors before the backward pass.
        ctx.lengths, ctx.batch_sizes = (
            None if counts is None else counts.clone() for counts in (call.lengths, call.batch_sizes)
        )
        ctx.spending = _Spending(not ctx.hooked)
        return tuple(results)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> Any:
        saved = list(ctx.saved_tensors)
        if ctx.hooked and [tensor.dtype for tensor in saved] != ctx.dtypes:
            raise RuntimeError("a hook gave back what a layer has saved in another dtype than it was saved in")
        n_leaves, n_states, n_masks = ctx.counts
        leaves, states, kept = saved[:n_leaves], saved[n_leaves : n_leaves + n_states], saved[n_leaves + n_states]
        rest = iter(saved[n_leaves + n_states + 1 :])
        masks = tuple(next(rest) for _ in range(n_masks))
        mask = next(rest) if ctx.masked else None
        resets = next(rest) if ctx.cut else None
        call = _rebuilt(ctx, leaves, masks, mask, resets)
        plain = not transformed() and all(readable(tensor) for tensor in (*saved, *gradients) if tensor is not None)
        if torch.is_grad_enabled() or not plain:
            return None, *_by_the_reference(ctx, call, gradients)
        if ctx.hooked:
            call.check()
        layer_run = LayerRun(call, ctx.compiled, ctx.rows, ctx.threads, round_weights=ctx.round_weights)
        spend, lost = ctx.spending.begin()
        try:
            if lost:
                layer_run.forward(keep=True)
                states, kept, spend = layer_run.states, layer_run.kept, True
            found = layer_run.backward(
                states, kept, gradients[: ctx.given], gradients[ctx.given :], ctx.needs_input_grad[1:], spend=spend
            )
        finally:
            ctx.spending.end()
        return None, *found


def _rebuilt(
    ctx: Any, leaves: list[Tensor], masks: tuple[Tensor, ...], mask: Tensor | None, resets: Tensor | None
) -> LayerCall:
    """The call that was run, on the tensors that autograd has saved."""
    rest = iter(leaves)
    input = next(rest)
    states = tuple(next(rest) for _ in ctx.cell.states)
    weights = tuple({name: next(rest) for name in names} for names in ctx.names)
    return LayerCall(
        ctx.cell, input, states, weights, ctx.lengths, mask, ctx.zoneout, masks, ctx.given > 1, ctx.batch_sizes, resets,
        tuple(rest),
    )  # fmt: skip


def _by_the_reference(ctx: Any, call: LayerCall, gradients: Sequence[Tensor | None]) -> list[Tensor | None]:
    """Gradients by running the reference, which can be differentiated again and has rules for vmap."""
    create = torch.is_grad_enabled()
    with torch.enable_grad():
        # Views, so that the gradients stop here and do not go on to the tensors that the inputs were computed from, and
        # a tensor that is given twice is not counted twice.
        inputs = [leaf.view_as(leaf) for leaf in call.leaves()]
        viewed = call.with_leaves(inputs)
        if ctx.round_weights:
            # Only matrices are rounded: biases and the cell's own vectors are in no matrix product.
            rounded = ({name: _rounded(w) for name, w in direction.items()} for direction in viewed.weights)
            viewed = replace(viewed, weights=tuple(rounded))
        result = run_padded(reference.run, viewed)
        outputs = [*result.outputs, *result.final]
        used = [(o, g) for o, g in zip(outputs, gradients, strict=True) if g is not None and o.requires_grad]
        wanted = [tensor for tensor in inputs if tensor.requires_grad]
        if not used:
            return [None] * len(inputs)
        found = iter(
            torch.autograd.grad(
                [o for o, _ in used], wanted, [g for _, g in used], create_graph=create, allow_unused=True
            )
        )
    return [next(found) if tensor.requires_grad else None for tensor in inputs]


def _rounded(weight: Tensor) -> Tensor:
    return weight.bfloat16().float() if weight.dim() == 2 else weight
