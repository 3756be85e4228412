"""A cell's step run on symbols: the small graph that printing, kernels and export are made from."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from .algebra import Gate
from .cell import Cell

__all__ = ["Node", "Trace", "trace"]


class Node:
    """One value of a step. Nodes are compared by identity: a value used twice is one node.

    Attributes:
        op: "input" (W x + b_ih of gate `name`), "product" (of matrix `name` with its one argument; a gate's own
            recurrent matrix is named "hh.GATE" and includes b_hh), "state" (`name`, one step ago), "vector" (parameter
            `name`), "constant", or the elementwise "add", "sub", "mul", "div", "neg", "sigmoid", "tanh", "relu",
            "exp", "clamp".
        args: the nodes it is computed from.
        name: see `op`.
        values: the number of a constant, or the bounds of a clamp.
        order: rises in the order in which the step made its nodes.
    """

    __slots__ = ("args", "name", "op", "order", "values")

    _clock = itertools.count()

    def __init__(self, op: str, *args: Node, name: str = "", values: tuple[float, ...] = ()) -> None:
        self.op = op
        self.args = args
        self.name = name
        self.values = values
        self.order = next(Node._clock)

    def sigmoid(self) -> Node:
        return Node("sigmoid", self)

    def tanh(self) -> Node:
        return Node("tanh", self)

    def relu(self) -> Node:
        return Node("relu", self)

    def exp(self) -> Node:
        return Node("exp", self)

    def clamp(self, low: float, high: float) -> Node:
        return Node("clamp", self, values=(float(low), float(high)))

    def __add__(self, other: Any) -> Node:
        return Node("add", self, _node(other))

    def __radd__(self, other: Any) -> Node:
        return Node("add", _node(other), self)

    def __sub__(self, other: Any) -> Node:
        return Node("sub", self, _node(other))

    def __rsub__(self, other: Any) -> Node:
        return Node("sub", _node(other), self)

    def __mul__(self, other: Any) -> Node:
        return Node("mul", self, _node(other))

    def __rmul__(self, other: Any) -> Node:
        return Node("mul", _node(other), self)

    def __truediv__(self, other: Any) -> Node:
        return Node("div", self, _node(other))

    def __rtruediv__(self, other: Any) -> Node:
        return Node("div", _node(other), self)

    def __neg__(self) -> Node:
        return Node("neg", self)

    def __repr__(self) -> str:
        inside = ", ".join([repr(argument) for argument in self.args] + [str(value) for value in self.values])
        return f"{self.op}{'[' + self.name + ']' if self.name else ''}({inside})"


def _node(value: Any) -> Node:
    if isinstance(value, Node):
        return value
    if isinstance(value, Gate):
        return value.sum
    if isinstance(value, (int, float)):
        return Node("constant", values=(float(value),))
    raise TypeError(f"a step may combine gates, states, weights and numbers, not {type(value).__name__}")


class _Matrix:
    def __init__(self, name: str) -> None:
        self._name = name

    def __matmul__(self, value: Any) -> Node:
        return Node("product", _node(value), name=self._name)


@dataclass(frozen=True)
class Trace:
    """The graph of one step.

    Attributes:
        cell: the cell that was traced.
        outputs: the node of each new state.
    """

    cell: Cell
    outputs: dict[str, Node]

    def nodes(self) -> list[Node]:
        """Every node that the new states need, once, in the order of the step."""
        found: dict[int, Node] = {}
        waiting = list(self.outputs.values())
        while waiting:
            node = waiting.pop()
            if node.order not in found:
                found[node.order] = node
                waiting += node.args
        return [found[order] for order in sorted(found)]

    def products(self) -> Iterator[Node]:
        """Every matrix product of the step."""
        return (node for node in self.nodes() if node.op == "product")

    @property
    def gates_on_h(self) -> tuple[str, ...]:
        """The gates whose own recurrent product is taken on h, so that all of them can be one product."""
        on_h = {node.name[3:] for node in self.products() if node.name.startswith("hh.") and _is_h(node.args[0])}
        return tuple(name for name in self.cell.gates if name in on_h)

    @property
    def h_only_in_products(self) -> bool:
        """Whether h could have another width than the other states, as a projection gives it."""
        elementwise = (node for node in self.nodes() if node.op != "product")
        return not any(_is_h(argument) for node in elementwise for argument in node.args) and not any(
            _is_h(output) for output in self.outputs.values()
        )


def _is_h(node: Node) -> bool:
    return node.op == "state" and node.name == "h"


def trace(cell: Cell) -> Trace:
    """Run a cell's step on symbols.

    Raises:
        TypeError: if the step does something that symbols cannot do.
        ValueError: if the step does not return every state that the cell declares.
    """
    states = SimpleNamespace(**{name: Node("state", name=name) for name in cell.states})

    def recurrent(name: str) -> Callable[[Any], Node]:
        return lambda value: Node("product", states.h if value is None else _node(value), name=f"hh.{name}")

    gates = SimpleNamespace(**{name: Gate(Node("input", name=name), recurrent(name)) for name in cell.gates})
    weights = SimpleNamespace(
        **{name: Node("vector", name=name) for name in cell.vectors},
        **{name: _Matrix(name) for name in cell.matrices},
    )
    new = cell.step(gates, states, weights)
    missing = [name for name in cell.states if getattr(new, name, None) is None]
    if missing:
        raise ValueError(f"the step of {cell!r} returns no {' and no '.join(missing)}")
    return Trace(cell, {name: _node(getattr(new, name)) for name in cell.states})
