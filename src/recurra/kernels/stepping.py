"""One layer that takes one step at a time, for inference."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from ..cells import Cell
from . import dispatch
from .call import LayerCall, Stepping, check_operands

__all__ = ["stepping"]


def stepping(cell: Cell, weights: Mapping[str, Tensor], states: tuple[Tensor, ...], zoneout: float) -> Stepping:
    """Make a layer that takes one step at a time.

    Args:
        cell: the equations.
        weights: the parameters of one direction by name; copied.
        states: the first value of each state, (B, H).
        zoneout: the proportion of its old value that each unit keeps.

    Raises:
        RuntimeError: if tensors do not fit one another in shape or dtype.
    """
    call = LayerCall(
        cell,
        # An input of the shape that the steps will have.
        weights["weight_ih"].new_zeros((1, len(states[0]), weights["weight_ih"].shape[1])),
        tuple(state.unsqueeze(0) for state in states),
        (weights,),
        zoneout=zoneout,
    )
    call.check()
    check_operands(*call.leaves())
    # A stream computes in the dtype of its weights, even under autocast.
    dtypes = {str(leaf.dtype) for leaf in call.leaves()}
    if len(dtypes) > 1:
        raise RuntimeError(
            f"the weights and states of a stream must have one dtype, not {' and '.join(sorted(dtypes))}"
        )
    return dispatch.stepping(call)
