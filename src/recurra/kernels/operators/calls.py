"""A layer call handed to one of the operators."""

from __future__ import annotations

import torch

from ..call import LayerCall, LayerResult, autocast_dtype
from ..torch_fused import widens_autocast
from .arguments import flatten

__all__ = ["call_layer", "call_layer_training"]


def call_layer(call: LayerCall) -> LayerResult:
    """Run a padded layer as the operator `recurra::layer`.

    Under autocast the operator is given tensors of autocast's dtype, because it runs where autocast is off.
    """
    narrow = autocast_dtype(call.input)
    results = torch.ops.recurra.layer(*flatten(call if narrow is None else call.to(narrow)))
    if narrow is not None and widens_autocast(call):
        results = [result.to(call.input.dtype) for result in results]
    outputs = len(results) - len(call.states)
    return LayerResult(tuple(results[:outputs]), tuple(results[outputs:]))


def call_layer_training(call: LayerCall) -> LayerResult:
    """Run a padded layer as the operator `recurra::layer_training`, which is told of autocast."""
    count = len(call.states)
    outputs = count if call.all_states else 1
    results = torch.ops.recurra.layer_training(*flatten(call), autocast_dtype(call.input) is not None)
    return LayerResult(tuple(results[:outputs]), tuple(results[outputs : outputs + count]))
