"""Other forms of a batch of sequences than padding on the right, taken in and given back; and calls on fx proxies."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import Proxy

__all__ = ["JaggedRows", "LeftPadding", "as_one_node", "proxy_in"]


class LeftPadding:
    """Sequences whose steps are the last of their rows.

    Args:
        lengths: (B,) how many steps each row has.
        steps: T.
        device: of the sequences.
    """

    def __init__(self, lengths: Tensor, steps: int, device: torch.device) -> None:
        times = torch.arange(steps, device=device)[:, None]
        self._padding = steps - lengths.to(device)
        self._steps = steps
        self._times = times
        self._rows = torch.arange(lengths.shape[0], device=device)

    def to_right(self, value: Tensor) -> Tensor:
        """(T, B, F) with its steps moved from the end of each row to the start."""
        return value[(self._times + self._padding) % self._steps, self._rows]

    def to_left(self, value: Tensor) -> Tensor:
        """(T, B, F) with its steps moved from the start of each row to the end."""
        return value[(self._times - self._padding) % self._steps, self._rows]


class JaggedRows:
    """The rows of a nested tensor (B, j, I) with the layout torch.jagged, as a padded batch.

    Attributes:
        padded: (T, B, I) with T the longest row's steps; what lies beyond a row's length is no zero.
        lengths: (B,) steps of each row.

    Raises:
        ValueError: for another layout, or rows that do not lie one after another.
    """

    def __init__(self, nested: Any) -> None:
        if nested.layout != torch.jagged:
            raise ValueError("a nested tensor must have the layout torch.jagged; make it with layout=torch.jagged")
        if nested.dim() != 3 or nested._ragged_idx != 1 or nested.lengths() is not None:
            raise ValueError("a nested tensor must have the shape (B, j, I), with rows that lie one after another")
        values, self._offsets = nested.values(), nested.offsets()
        starts = self._offsets[:-1]
        self.lengths = self._offsets.diff()
        steps = int(self.lengths.max()) if len(self.lengths) else 0
        times = torch.arange(steps, device=values.device)[:, None]
        self.padded = values[(starts + times).clamp(max=max(len(values) - 1, 0))]
        self._rows = torch.repeat_interleave(self.lengths, output_size=len(values))
        self._times = torch.arange(len(values), device=values.device) - starts[self._rows]

    def nested(self, value: Tensor) -> Tensor:
        """(T, B, F) as a nested tensor (B, j, F) with the same rows."""
        return torch.nested.nested_tensor_from_jagged(value[self._times, self._rows], self._offsets)


def proxy_in(*values: Any) -> Proxy | None:
    """The first fx proxy among values and what tuples and lists of them hold."""
    for value in values:
        found = proxy_in(*value) if isinstance(value, tuple | list) else value
        if isinstance(found, Proxy):
            return found
    return None


def as_one_node(module: nn.Module, proxy: Proxy, input: Any, options: dict[str, Any]) -> Proxy:
    """A call of a module as one node of the graph that torch.fx records, as torch.nn's layers are.

    Args:
        module: what is called.
        proxy: any of torch.fx's among the arguments.
        input: its first argument.
        options: its further arguments by name.

    Raises:
        RuntimeError: if the module is all that is traced, so that there is nothing to call it from.
    """
    tracer: Any = proxy.tracer
    if getattr(tracer, "root", None) is module:
        raise RuntimeError("torch.fx cannot look inside a recurrent layer; trace a module that has the layer in it")
    node: Proxy = tracer.create_proxy("call_module", tracer.path_of_module(module), (input,), options)
    return node
