"""The short way to the engine, for inference of a layer without options, whose arithmetic may take but microseconds.

All tensors are checked in one pass. Where a check fails, nothing is run here: the long way (run.py) converts the tensor
or says what is wrong with it.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..call import LayerCall, LayerResult, weight_shapes
from ..surroundings import PLAIN_TYPES
from .compiled import CompiledCell

__all__ = ["run_plain"]


def run_plain(call: LayerCall, the_cell: CompiledCell) -> LayerResult | None:
    """Run a layer whose tensors the engine can read as they are; None, with nothing run, for any other.

    Args:
        call: what to run, not checked; outside of autocast.
        the_cell: the cell of the call, compiled.
    """
    input, states, weights = call.input, call.states, call.weights
    if (
        call.all_states
        or call.zoneout
        or not (call.recurrent_mask is call.lengths is call.batch_sizes is call.resets is None)
    ):
        return None
    if len(states) != len(call.cell.states) or len(weights) not in (1, 2):
        return None
    dtype, recorded = input.dtype, torch.is_grad_enabled()
    shape, state_shape = input.shape, states[0].shape
    if len(shape) != 3 or len(state_shape) != 3 or dtype not in (torch.float32, torch.float64):
        return None
    steps, batch, features = shape
    directions, hidden = len(weights), state_shape[2]
    wanted = weight_shapes(call.cell, features, hidden, 0)
    named = the_cell.matrices + (["bias_ih", "bias_hh"] if "bias_ih" in weights[0] else []) + the_cell.vectors
    if any(len(direction) != len(named) for direction in weights):
        return None
    whole = (directions, batch, hidden)
    tensors: list[tuple[Tensor, tuple[int, ...]]] = [(state, whole) for state in states]
    tensors += [(direction[name], wanted[name]) for direction in weights for name in named]
    places = []
    for tensor, size in tensors:
        if (
            type(tensor) not in PLAIN_TYPES
            or tensor.dtype is not dtype
            or tensor.shape != size
            or not tensor.is_contiguous()
            or not _lies_there(tensor, recorded)
        ):
            return None
        places.append(tensor.data_ptr())
    strides = input.stride()
    if type(input) not in PLAIN_TYPES or strides[2] != 1 or not _lies_there(input, recorded):
        return None
    width = directions * hidden
    output = input.new_empty((steps, batch, width))
    final = [torch.empty_like(state) for state in states]
    first, bytes_each = output.data_ptr(), output.element_size()
    at, matrices = len(states), len(the_cell.matrices)
    for direction in range(directions):
        mine, at = places[at : at + len(named)], at + len(named)
        part = direction * batch * hidden * bytes_each
        the_cell.run.forward(
            is_double=bytes_each == 8,
            sizes=[steps, batch, features, hidden, 0],
            reverse=direction == 1,
            threads=the_cell.threads(batch, hidden),
            input=[input.data_ptr(), strides[0], strides[1]],
            weights=mine[:matrices],
            biases=mine[matrices : matrices + 2] if len(named) > matrices + len(the_cell.vectors) else [0, 0],
            vectors=mine[len(named) - len(the_cell.vectors) :],
            initial=[place + part for place in places[: len(states)]],
            final=[state.data_ptr() + part for state in final],
            states=[first + direction * hidden * bytes_each, batch * width, width],
        )
    return LayerResult((output,), tuple(final))


def _lies_there(tensor: Tensor, recorded: bool) -> bool:
    """Whether the engine can read a tensor in the CPU's memory, and no gradient of it is wanted."""
    return (
        tensor.is_cpu
        and not tensor.is_neg()
        and not (recorded and tensor.requires_grad)
        and tensor.untyped_storage().nbytes() > 0
    )
