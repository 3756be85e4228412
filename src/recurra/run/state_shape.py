"""Comparing a saved state with the state that it replaces, so that damage is found before training goes on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ..bounds import LARGEST

__all__ = ["check_like", "load_optimizer"]


def check_like(value: Any, example: Any, name: str) -> None:
    """Raise ValueError, naming the place, unless a value has the form of an example.

    Dicts need the same keys, lists the same length, and tensors the same shape, of floating point if the example is.
    Where the example has a whole number, the value needs one that is not negative. None in the example allows anything.
    """
    if example is None:
        return
    if isinstance(example, Tensor):
        # A run that was begun in half precision may go on in another.
        right = isinstance(value, Tensor) and value.shape == example.shape
        right = right and value.is_floating_point() == example.is_floating_point()
    elif isinstance(example, Mapping):
        right = isinstance(value, Mapping) and value.keys() == example.keys()
    elif isinstance(example, list | tuple):
        right = isinstance(value, list | tuple) and len(value) == len(example)
    elif isinstance(example, bool | str):
        right = type(value) is type(example)
    elif isinstance(example, int):
        right = type(value) is int and 0 <= value <= LARGEST
    else:
        right = type(value) in (int, float)
    if not right:
        raise ValueError(f"{name} has the wrong form")
    if isinstance(example, Mapping):
        for key, part in example.items():
            check_like(value[key], part, f"{name}.{key}")
    elif isinstance(example, Sequence) and not isinstance(example, str):
        for index, part in enumerate(example):
            check_like(value[index], part, f"{name}.{index}")


def load_optimizer(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Load an optimizer's state; its learning rate and other options stay as the configuration has them.

    torch's optimizers load any state, and a wrong one fails only in the middle of the next step.

    Raises:
        ValueError: unless all parameters have the same entries, each a number or a tensor of the parameter's shape.
    """
    options = [{name: value for name, value in group.items() if name != "params"} for group in optimizer.param_groups]
    optimizer.load_state_dict(state)
    for group, own in zip(optimizer.param_groups, options, strict=True):
        group.update(own)
        check_like(group.get("averaged_steps", 0), 0, "optimizer.averaged_steps")
    kinds = set()
    for parameter, entries in optimizer.state.items():
        for name, entry in entries.items():
            if isinstance(entry, Tensor):
                right = entry.dim() == 0 or (entry.shape == parameter.shape and entry.dtype == parameter.dtype)
            else:
                right = entry is None or type(entry) in (int, float, bool)
            if not right:
                raise ValueError(f"optimizer.{name} has the wrong form")
        kinds.add(frozenset((name, type(entry)) for name, entry in entries.items()))
    if len(kinds) > 1:
        raise ValueError("the parameters have different entries in optimizer")
