"""How many floating-point operations a layer's matrix products take, for torch.utils.flop_counter.FlopCounterMode."""

from __future__ import annotations

from typing import Any

import torch
from torch.utils.flop_counter import register_flop_formula

from ...cells.trace import trace
from ..call import LayerCall
from . import layer, layer_training  # noqa: F401  A formula can be registered only for an operator that is there.
from .arguments import ARGUMENTS, unflatten

__all__: list[str] = []


def _forward(call: LayerCall) -> int:
    """Two operations for each multiplication of the layer's matrix products; steps of padding are counted too.

    torch's counter counts nothing but matrix products, which take nearly all of a layer's time.
    """
    steps, batch, input_size = call.input.shape
    hidden = call.hidden
    width = call.states[0].shape[2]
    terms = 0
    for product in trace(call.cell).products():
        (source,) = product.args
        terms += width if source.op == "state" and source.name == "h" else hidden
    terms += len(call.cell.gates) * input_size
    if call.projection:
        terms += width
    return int(2 * len(call.weights) * steps * batch * hidden * terms)


def _backward(call: LayerCall) -> int:
    """Twice the operations of the forward pass, because each product has a gradient for both of its factors."""
    return 2 * _forward(call)


@register_flop_formula([torch.ops.recurra.layer, torch.ops.recurra.layer_training], get_raw=True)
def _(*arguments: Any, out_val: Any = None) -> int:
    return _forward(unflatten(*arguments[: len(ARGUMENTS)]))


@register_flop_formula(torch.ops.recurra.layer_backward, get_raw=True)
def _(gradients: Any, *arguments: Any, out_val: Any = None) -> int:
    # This operator runs the forward pass again.
    call = unflatten(*arguments)
    return _forward(call) + _backward(call)


@register_flop_formula(torch.ops.recurra.layer_training_backward, get_raw=True)
def _(gradients: Any, recorded: Any, kept: Any, ran: Any, needs: Any, *arguments: Any, out_val: Any = None) -> int:
    return _backward(unflatten(*arguments[: len(ARGUMENTS)]))
