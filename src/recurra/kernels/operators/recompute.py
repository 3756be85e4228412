"""A layer inside an operator, on the backend that dispatch chooses, and its gradients by running the layer again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.autograd import forward_ad

from ..call import LayerCall, check_range
from ..dispatch import run_eagerly

__all__ = ["gradients_by_running_again", "refuse_tangents", "run_inside"]


@contextmanager
def _above_autograd() -> Iterator[None]:
    """Let autograd record inside an operator's body, which torch runs with autograd switched off."""
    below = torch._C._SetExcludeDispatchKeyGuard
    keys = torch._C.DispatchKey
    with below(keys.AutogradFunctionality, False), below(keys.ADInplaceOrView, False):
        yield


def refuse_tangents(call: LayerCall) -> None:
    """Raise RuntimeError if a tensor carries a tangent of forward-mode differentiation.

    The operators have no rule for tangents and would drop them. A graph that was compiled without dual numbers may
    still be given some.
    """
    if forward_ad._current_level < 0:
        return
    with _above_autograd():
        if any(forward_ad.unpack_dual(leaf).tangent is not None for leaf in call.leaves()):
            raise RuntimeError(
                "this graph of a recurrent layer was compiled without forward-mode differentiation; compile the "
                "function that makes the dual numbers, such as torch.func.jvp, instead"
            )


def run_inside(call: LayerCall) -> list[Tensor]:
    """Outputs, then final states, as an operator may return them: contiguous, and none of them one of its inputs.

    Raises:
        RuntimeError: if tensors are missing or do not fit one another.
        ValueError: if a length lies outside of the input.
    """
    call.check()
    refuse_tangents(call)
    if call.lengths is not None and call.lengths.device.type == "cpu":
        # The layer could not check the lengths itself because they have no values while torch compiles.
        check_range(call.lengths, call.input.shape[0])
    result = run_eagerly(call)
    # Copies, because the final state of an empty sequence is the initial state itself.
    final = [tensor.clone(memory_format=torch.contiguous_format) for tensor in result.final]
    return [*(tensor.contiguous() for tensor in result.outputs), *final]


def gradients_by_running_again(call: LayerCall, gradients: Sequence[Tensor | None]) -> list[Tensor]:
    """Gradients of the call's leaves, contiguous.

    Args:
        call: the layer.
        gradients: of its outputs and final states; None for zero.
    """
    call.check()
    with _above_autograd(), torch.enable_grad():
        leaves = [tensor.detach().requires_grad_() for tensor in call.leaves()]
        result = run_eagerly(call.with_leaves(leaves))
        results = [*result.outputs, *result.final]
        # The outputs of an empty sequence are empty and depend on no leaf.
        used = [(v, g) for v, g in zip(results, gradients, strict=True) if g is not None and v.requires_grad]
        found: Sequence[Tensor | None] = [None] * len(leaves)
        if used:
            found = torch.autograd.grad([v for v, _ in used], leaves, [g for _, g in used], allow_unused=True)
    # Contiguous, because compiled code relies on the strides of the fake kernel's tensors.
    return [leaf.new_zeros(leaf.shape) if g is None else g.contiguous() for leaf, g in zip(leaves, found, strict=True)]
