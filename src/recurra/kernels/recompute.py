"""A layer inside an operator on whatever backend takes it, and its gradients by running it another time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from .call import LayerCall, check_range
from .dispatch import run_eagerly
from .flat_call import leaves_of

__all__ = ["gradients_by_running_again", "run_inside"]


def run_inside(call: LayerCall) -> list[Tensor]:
    """Outputs, then final states, as an operator may return them: contiguous, and none of them its own input.

    Raises:
        ValueError: if a length lies outside of the input.
    """
    if call.lengths is not None and call.lengths.device.type == "cpu":
        # While compiling their values could not be looked at.
        check_range(call.lengths, call.input.shape[0])
    result = run_eagerly(call)
    # The final state of an empty sequence is the initial one.
    final = [tensor.clone(memory_format=torch.contiguous_format) for tensor in result.final]
    return [*(tensor.contiguous() for tensor in result.outputs), *final]


def gradients_by_running_again(call: LayerCall, gradients: Sequence[Tensor | None]) -> list[Tensor]:
    """Gradients of input, initial states and weights, contiguous.

    Args:
        call: the layer.
        gradients: of its outputs and final states; None for zero.
    """
    # An operator's body runs below autograd, which has to be let in again before anything is recorded.
    below = torch._C._SetExcludeDispatchKeyGuard
    keys = torch._C.DispatchKey
    with below(keys.AutogradFunctionality, False), below(keys.ADInplaceOrView, False), torch.enable_grad():
        leaves = [tensor.detach().requires_grad_() for tensor in leaves_of(call)]
        rest = iter(leaves)
        result = run_eagerly(
            replace(
                call,
                input=next(rest),
                states=tuple(next(rest) for _ in call.states),
                weights=tuple({name: next(rest) for name in direction} for direction in call.weights),
            )
        )
        results = [*result.outputs, *result.final]
        # Without a step the outputs are empty and depend on nothing.
        used = [(v, g) for v, g in zip(results, gradients, strict=True) if g is not None and v.requires_grad]
        found: Sequence[Tensor | None] = [None] * len(leaves)
        if used:
            found = torch.autograd.grad([v for v, _ in used], leaves, [g for _, g in used], allow_unused=True)
    # Compiled code relies on the strides that the fake kernel promised, whatever those of the input are.
    return [leaf.new_zeros(leaf.shape) if g is None else g.contiguous() for leaf, g in zip(leaves, found, strict=True)]
