"""One layer, one step at a time, for inference: on the fused engine where it can, else on the reference."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import torch
from torch import Tensor

from ..cells import Cell
from .call import LayerCall, check_operands
from .cpu import run as cpu_engine
from .cpu.stream import EngineStepping
from .dispatch import allows, note
from .known_cells import register
from .reference import Stepper

__all__ = ["Stepping", "stepping"]


class Stepping(Protocol):
    """A layer with a state of its own.

    Attributes:
        states: the present value of each state, (B, H); may be set.
    """

    states: tuple[Tensor, ...]

    def step(self, x: Tensor) -> Tensor:
        """Take one step: input (B, I) to output (B, H)."""


class _ReferenceStepping:
    def __init__(self, cell: Cell, weights: Mapping[str, Tensor], states: tuple[Tensor, ...], zoneout: float) -> None:
        self._stepper = Stepper(cell, {name: weight.clone() for name, weight in weights.items()}, register(cell))
        self._zoneout = zoneout
        self.states = states

    @torch.no_grad()
    def step(self, x: Tensor) -> Tensor:
        old, stepper, p = self.states, self._stepper, self._zoneout
        new = stepper.step(stepper.input_product(x), old)
        if p:
            new = tuple(p * before + (1 - p) * value for before, value in zip(old, new, strict=True))
        self.states = new
        return new[0]


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
        # One step on nothing, of the shape that steps will have.
        weights["weight_ih"].new_zeros((1, len(states[0]), weights["weight_ih"].shape[1])),
        tuple(state.unsqueeze(0) for state in states),
        (weights,),
        zoneout=zoneout,
    )
    call.check()
    check_operands(*call.leaves())
    # A stream computes in the dtype of its weights, whatever autocast would have a layer do.
    dtypes = {str(leaf.dtype) for leaf in call.leaves()}
    if len(dtypes) > 1:
        raise RuntimeError(
            f"the weights and states of a stream must have one dtype, not {' and '.join(sorted(dtypes))}"
        )
    if allows(cpu_engine.name) and cpu_engine.refusal(call) is None:
        note(cpu_engine.name)
        return EngineStepping(call)
    note("reference")
    return _ReferenceStepping(cell, weights, states, zoneout)
