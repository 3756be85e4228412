"""The recurrent state while decoding: rows of a batch taken apart and put together again.

A state is what `recurra.Recurrent` carries, or a system round it: a tensor, or nested tuples and lists of tensors, each
with the batch as second dimension, such as (layers, B, H); None, where a system has no such part, stays None.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

__all__ = ["State", "gather_rows", "join_states", "select_rows"]

State = Any


def select_rows(state: State, rows: Tensor) -> State:
    """The rows of the batch with these indices, in this order; an index may repeat.

    Args:
        state: tensors (layers, B, H).
        rows: (N,) int64.

    Returns:
        The same structure with tensors (layers, N, H).
    """
    return _map(lambda tensors: tensors[0].index_select(1, rows.to(tensors[0].device)), [state])


def join_states(states: Sequence[State]) -> State:
    """Put several states side by side as one batch: tensors (layers, sum of B, H)."""
    return _map(lambda tensors: torch.cat(tensors, dim=1), states)


def gather_rows(rows: Sequence[tuple[State, int]]) -> State:
    """One batch of single rows, in this order, each given as a state and the number of its row there."""
    groups: dict[int, tuple[State, list[int], list[int]]] = {}
    for position, (state, row) in enumerate(rows):
        group = groups.setdefault(id(state), (state, [], []))
        group[1].append(row)
        group[2].append(position)
    joined = join_states([select_rows(state, torch.tensor(taken, device="cpu")) for state, taken, _ in groups.values()])
    positions = [position for _, _, members in groups.values() for position in members]
    return select_rows(joined, torch.tensor(positions, device="cpu").argsort())


def _map(function: Callable[[list[Tensor]], Tensor], states: Sequence[State]) -> State:
    first = states[0]
    if first is None:
        return None
    if isinstance(first, Tensor):
        return function(list(states))
    parts = [_map(function, each) for each in zip(*states, strict=True)]
    if isinstance(first, tuple) and hasattr(first, "_fields"):
        return type(first)(*parts)
    return type(first)(parts)
