"""The gates of all steps of a layer, computed from its states by the cell's own equations."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional as F

from ..cells import Cell
from ..cells.gates import GateValue, gate_values
from ..cells.trace import Node, Trace, trace

__all__ = ["gates_of_steps", "looked_at"]

_STEPS = 1024
"""Steps whose values are held at once."""


@lru_cache(maxsize=64)
def _looked_at(cell: Cell) -> tuple[Trace, tuple[GateValue, ...]]:
    traced = trace(cell)
    return traced, tuple(gate_values(traced))


def looked_at(cell: Cell) -> list[tuple[GateValue, bool]]:
    """The gates and candidates of a cell, each with whether it is also a state, under the same name."""
    traced, found = _looked_at(cell)
    states = {id(node) for node in traced.outputs.values()}
    return [(each, id(each.node) in states) for each in found]


def gates_of_steps(
    cell: Cell, weights: Mapping[str, Tensor], input: Tensor, before: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """The gates and candidates of a cell in N steps, each (N, H), by name; without those that are states.

    The states before every step are known, so no step has to wait for another one.

    Args:
        cell: the equations.
        weights: the parameters of the direction by name, as `Recurrent.layer_weights` gives them.
        input: (N, I), what each step reads.
        before: each state before each step, (N, H).
    """
    traced, _ = _looked_at(cell)
    wanted = [each for each, is_state in looked_at(cell) if not is_state]
    parts: dict[str, list[Tensor]] = {each.name: [] for each in wanted}
    for start in range(0, len(input), _STEPS):
        some = slice(start, start + _STEPS)
        values = _values(traced, weights, input[some], {name: state[some] for name, state in before.items()})
        for each in wanted:
            parts[each.name].append(values[id(each.node)])
    return {name: torch.cat(values) for name, values in parts.items() if values}


def _values(
    traced: Trace, weights: Mapping[str, Tensor], input: Tensor, before: Mapping[str, Tensor]
) -> dict[int, Tensor]:
    """The value of each node of a trace, by its `id`."""
    cell = traced.cell
    count = len(cell.gates)
    sides = dict(
        zip(cell.gates, F.linear(input, weights["weight_ih"], weights.get("bias_ih")).chunk(count, -1), strict=True)
    )
    rows = dict(zip(cell.gates, weights["weight_hh"].chunk(count), strict=True))
    bias = weights.get("bias_hh")
    biases = {} if bias is None else dict(zip(cell.gates, bias.chunk(count), strict=True))
    found: dict[int, Tensor] = {}
    for node in traced.nodes():
        given = [found[id(argument)] for argument in node.args]
        found[id(node)] = _value(node, given, sides, rows, biases, weights, before)
    return found


def _value(
    node: Node,
    given: list[Tensor],
    sides: Mapping[str, Tensor],
    rows: Mapping[str, Tensor],
    biases: Mapping[str, Tensor],
    weights: Mapping[str, Tensor],
    before: Mapping[str, Tensor],
) -> Tensor:
    match node.op:
        case "input":
            return sides[node.name]
        case "product" if node.name.startswith("hh."):
            gate = node.name.removeprefix("hh.")
            return F.linear(given[0], rows[gate], biases.get(gate))
        case "product":
            return F.linear(given[0], weights[f"weight_{node.name}"])
        case "vector":
            return weights[f"weight_{node.name}"]
        case "state":
            return before[node.name]
        case "constant":
            return torch.tensor(node.values[0], dtype=weights["weight_hh"].dtype, device=weights["weight_hh"].device)
        case "clamp":
            return given[0].clamp(*node.values)
        case _:
            # The other operations are named as torch's functions.
            function = getattr(torch, node.op)
            value: Tensor = function(*given)
            return value
