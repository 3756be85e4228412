"""A call that torch.compile does not look into.

Import this module only while torch compiles: `torch.compiler.disable` imports torch's compiler, which takes about
a second.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

__all__ = ["call_outside_of_graphs"]


@torch.compiler.disable
def call_outside_of_graphs(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function as plain Python does: a graph of torch.compile ends before the call, another begins after it."""
    return function(*arguments)
