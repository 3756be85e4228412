"""Whether torch is compiling, tracing or transforming a layer, and which tensors may be read by address."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.autograd import forward_ad

__all__ = ["PLAIN_TYPES", "constant", "lacks_memory", "readable", "transformed", "watched", "whole"]

PLAIN_TYPES = (Tensor, torch.nn.Parameter)
"""The types of tensors that hold their numbers themselves; a subclass may hold them elsewhere, or have none."""
_F = TypeVar("_F", bound=Callable[..., Any])


def constant(function: _F) -> _F:
    """Let torch.compile call a function while it traces, and take the result as a constant."""
    # As torch.compiler.assume_constant_result does, which would import torch's compiler, about a second.
    function._dynamo_marked_constant = True  # type: ignore[attr-defined]
    return function


@constant
def transformed() -> bool:
    """Whether vmap, jvp or forward-mode differentiation is under way, for which fused kernels have no rule."""
    return torch._C._functorch.peek_interpreter_stack() is not None or forward_ad._current_level >= 0


def watched() -> bool:
    """Whether torch records operators: it compiles, exports or traces, or a dispatch mode is active.

    A layer then runs as one operator: torch would record each step of a loop over time, and nothing of a kernel that
    reads tensors by address. make_fx, FakeTensorMode, FlopCounterMode and selective checkpoints are dispatch modes.
    """
    return (
        torch.compiler.is_compiling()
        or torch._C._len_torch_dispatch_stack() > 0
        or torch._C._get_tracing_state() is not None
    )


def readable(tensor: Tensor) -> bool:
    """Whether a tensor's numbers lie in the CPU's memory at its address.

    They do not for a subclass (fake, distributed), a sparse layout, a tensor inside vmap, or a tensor whose memory was
    freed, as sharding does.
    """
    if type(tensor) not in PLAIN_TYPES or not tensor.is_cpu:
        return False
    try:
        return tensor.untyped_storage().nbytes() > 0 or tensor.numel() == 0
    except NotImplementedError:
        return False


def lacks_memory(tensor: Tensor) -> bool:
    """Whether a tensor's memory was freed, or it has none of its own, as sparse tensors and tensors inside vmap."""
    if torch.compiler.is_compiling():
        return False
    try:
        return tensor.untyped_storage().nbytes() == 0
    except NotImplementedError:
        return True


def whole(tensor: Tensor) -> Tensor:
    """The tensor with its values contiguous in memory; torch may have only noted on it that it is negated or zero."""
    if tensor.is_contiguous() and not tensor.is_neg() and not tensor._is_zerotensor():
        return tensor
    return tensor.resolve_neg().clone(memory_format=torch.contiguous_format)
