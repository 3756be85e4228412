"""How many floating-point operations the matrix products of a layer take, as torch counts them."""

from __future__ import annotations

from ..cells.trace import trace
from .call import LayerCall

__all__ = ["flops", "flops_backward"]


def flops(call: LayerCall) -> int:
    """Two operations for each multiplication of the layer's matrix products; padding counts as what it takes room for.

    Products, which are all that torch's own counter counts, take nearly all of a layer's time.
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


def flops_backward(call: LayerCall) -> int:
    """The same of the way back: each product gives the gradient of both its factors."""
    return 2 * flops(call)
