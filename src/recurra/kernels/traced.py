"""A layer while torch.jit.trace records: torch's kernel, or one operator, so that the trace is right for any input."""

from __future__ import annotations

import torch

from . import torch_fused
from .call import LayerCall, LayerResult
from .dispatch import allows
from .flat_call import flatten
from .ops import run_layer

__all__ = ["run_traced"]


def run_traced(call: LayerCall) -> LayerResult:
    """Run a padded layer so that what is recorded holds for other numbers of steps, rows and lengths too.

    The reference's loop over time would be recorded step by step, as long as the example is.

    Raises:
        RuntimeError: if a forced backend refuses it.
    """
    if allows(torch_fused.name) and torch_fused.refusal(call) is None:
        return run_layer(call)
    results = torch.ops.recurra.layer(*flatten(call))
    wanted = len(results) - len(call.states)
    return LayerResult(tuple(results[:wanted]), tuple(results[wanted:]))
