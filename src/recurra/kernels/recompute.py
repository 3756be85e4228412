"""A layer inside an operator on whatever backend takes it, and its gradients by running it another time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.autograd import forward_ad

from .call import LayerCall, check_range
from .dispatch import run_eagerly

__all__ = ["gradients_by_running_again", "refuse_tangents", "run_inside"]


@contextmanager
def _above_autograd() -> Iterator[None]:
    """An operator's body runs below autograd, which has to be let in again before anything is recorded."""
    below = torch._C._SetExcludeDispatchKeyGuard
    keys = torch._C.DispatchKey
    with below(keys.AutogradFunctionality, False), below(keys.ADInplaceOrView, False):
        yield


def refuse_tangents(call: LayerCall) -> None:
    """Raise RuntimeError if a compiled graph, made without forward-mode differentiation, is given dual numbers.

    The operators have no rule for tangents and would lose them.
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
    """Outputs, then final states, as an operator may return them: contiguous, and none of them its own input.

    Raises:
        RuntimeError: if tensors are missing or do not fit one another.
        ValueError: if a length lies outside of the input.
    """
    call.check()
    refuse_tangents(call)
    if call.lengths is not None and call.lengths.device.type == "cpu":
        # While compiling their values could not be looked at.
        check_range(call.lengths, call.input.shape[0])
    result = run_eagerly(call)
    # The final state of an empty sequence is the initial one.
    final = [tensor.clone(memory_format=torch.contiguous_format) for tensor in result.final]
    return [*(tensor.contiguous() for tensor in result.outputs), *final]


def gradients_by_running_again(call: LayerCall, gradients: Sequence[Tensor | None]) -> list[Tensor]:
    """Gradients of input, initial states, weights and restart, contiguous.

    Args:
        call: the layer.
        gradients: of its outputs and final states; None for zero.
    """
    call.check()
    with _above_autograd(), torch.enable_grad():
        leaves = [tensor.detach().requires_grad_() for tensor in call.leaves()]
        result = run_eagerly(call.with_leaves(leaves))
        results = [*result.outputs, *result.final]
        # Without a step the outputs are empty and depend on nothing.
        used = [(v, g) for v, g in zip(results, gradients, strict=True) if g is not None and v.requires_grad]
        found: Sequence[Tensor | None] = [None] * len(leaves)
        if used:
            found = torch.autograd.grad([v for v, _ in used], leaves, [g for _, g in used], allow_unused=True)
    # Compiled code relies on the strides that the fake kernel promised, whatever those of the input are.
    return [leaf.new_zeros(leaf.shape) if g is None else g.contiguous() for leaf, g in zip(leaves, found, strict=True)]
