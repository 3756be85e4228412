"""The gates of a cell, found in its equations."""

from __future__ import annotations

from typing import Literal, NamedTuple

from .formulas import ACTIVATIONS, TEXT, Printer, names_of
from .trace import Node, Trace

__all__ = ["GateValue", "gate_values"]


class GateValue(NamedTuple):
    """A value within a step that is worth looking at.

    Attributes:
        name: of the gate, or the formula where the equations give it no name, such as "σ(f_t - 1)".
        kind: a "gate" lies between 0 and 1, a "candidate" is what a gate lets in.
        node: of the trace.
    """

    name: str
    kind: Literal["gate", "candidate"]
    node: Node


def gate_values(traced: Trace) -> list[GateValue]:
    """The gates and candidates of a step, after their squashing, in the order of the step.

    A gate is a logistic sigmoid, or a clamp to 0 and 1. A candidate is another squashed value that the equations name
    after a row of the weights, and that is not a state.
    """
    names = names_of(traced)
    printer = Printer(names, TEXT)
    states = {id(node) for node in traced.outputs.values()}
    found = []
    for node in traced.nodes():
        named = names.get(id(node))
        if node.op == "sigmoid" or (node.op == "clamp" and node.values == (0.0, 1.0)):
            found.append(GateValue(named or printer.expand(node), "gate", node))
        elif named is not None and node.op in ACTIVATIONS and id(node) not in states:
            found.append(GateValue(named, "candidate", node))
    return found
