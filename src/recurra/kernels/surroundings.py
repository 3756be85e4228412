"""What torch is doing around a layer: compiling it, watching it, transforming it; and what may be read by address."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.autograd import forward_ad

__all__ = ["PLAIN_TYPES", "constant", "lacks_memory", "readable", "transformed", "watched", "whole"]

PLAIN_TYPES = (Tensor, torch.nn.Parameter)
"""Types of tensors whose numbers are their own, unlike those of subclasses."""
_F = TypeVar("_F", bound=Callable[..., Any])


def constant(function: _F) -> _F:
    """Mark a function whose answer torch.compile asks for once, while it traces, and takes as a constant."""
    # What torch.compiler.assume_constant_result does, but without importing the compiler, which takes a second.
    function._dynamo_marked_constant = True  # type: ignore[attr-defined]
    return function


@constant
def transformed() -> bool:
    """Whether vmap, jvp or forward-mode differentiation is under way, for which fused kernels have no rule."""
    return torch._C._functorch.peek_interpreter_stack() is not None or forward_ad._current_level >= 0


def watched() -> bool:
    """Whether torch looks at operators, not at numbers: it compiles, exports or traces, or a dispatch mode is active.

    A layer is then one operator, so that neither a loop over time nor a kernel that torch does not see is recorded.
    Dispatch modes are those of make_fx, FakeTensorMode, FlopCounterMode, selective checkpoints.
    """
    return (
        torch.compiler.is_compiling()
        or torch._C._len_torch_dispatch_stack() > 0
        or torch._C._get_tracing_state() is not None
    )


def readable(tensor: Tensor) -> bool:
    """Whether a tensor's numbers lie in the CPU's memory at its address, for code that torch does not see.

    They do not for a subclass (fake, distributed), a sparse layout, a batch that is one tensor (vmap), or a storage
    that was emptied, as sharding does.
    """
    if type(tensor) not in PLAIN_TYPES or not tensor.is_cpu:
        return False
    try:
        return tensor.untyped_storage().nbytes() > 0 or tensor.numel() == 0
    except NotImplementedError:
        return False


def lacks_memory(tensor: Tensor) -> bool:
    """Whether a tensor's storage was emptied, or it has none, as sparse tensors and batches."""
    if torch.compiler.is_compiling():
        return False
    try:
        return tensor.untyped_storage().nbytes() == 0
    except NotImplementedError:
        return True


def whole(tensor: Tensor) -> Tensor:
    """The tensor contiguous and as it lies in memory: a negation, or that it is zero, may only be noted on it."""
    if tensor.is_contiguous() and not tensor.is_neg() and not tensor._is_zerotensor():
        return tensor
    return tensor.resolve_neg().clone(memory_format=torch.contiguous_format)
