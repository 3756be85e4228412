"""Hidden sizes with which different cells can be compared: of equal width, or of equal numbers of weights.

At the same width a cell with three gates has three quarters of the weights of a cell with four gates. Which of the two
should be equal depends on the question: with equal widths the states have one size, with equal weights the models have.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from .. import registry
from ..bounds import MOST_UNITS
from ..config.load import load_config
from ..errors import ConfigError

if TYPE_CHECKING:
    from torch import nn

__all__ = [
    "Sized",
    "count_weights",
    "equal_weights",
    "equal_widths",
    "layer_weights",
    "nearest_width",
    "system_weights",
]


class Sized(NamedTuple):
    """A cell with its hidden size, and the number of weights that it really has."""

    cell: str
    width: int
    weights: int


def nearest_width(weights: Callable[[int], int], target: int, *, largest: int = MOST_UNITS) -> int:
    """The width whose number of weights comes nearest to a target; of two as near the smaller.

    Args:
        weights: from a width of 1 or more to the number of weights, which must grow with the width.
        target: the number of weights wanted.
        largest: the largest width to try.

    Raises:
        ConfigError: if even width 1 has twice as many weights as wanted, or the largest width has half as many or less.
    """
    low, high = 1, 1
    while high < largest and weights(high) < target:
        low, high = high, min(2 * high, largest)
    # The nearest width has now at least `low`, and `high` has enough weights if any width has.
    while high - low > 1:
        middle = (low + high) // 2
        if weights(middle) < target:
            low = middle
        else:
            high = middle
    below, above = weights(low), weights(high)
    width, found = (low, below) if target - below <= above - target else (high, above)
    if not target / 2 < found < 2 * target:
        raise ConfigError(
            f"{target:,} weights cannot be had with widths from 1 to {largest:,}: the nearest has {found:,}; set "
            "another number of weights."
        )
    return width


def equal_widths(cells: Iterable[str], width: int, weights: Callable[[str, int], int]) -> list[Sized]:
    """All cells at one width.

    Args:
        cells: names.
        width: the hidden size of all of them.
        weights: from a cell's name and a width to the number of weights.
    """
    return [Sized(cell, width, weights(cell, width)) for cell in cells]


def equal_weights(cells: Iterable[str], target: int, weights: Callable[[str, int], int]) -> list[Sized]:
    """Each cell at the width with which its number of weights comes nearest to a target, such as a reference model's.

    Args:
        cells: names.
        target: the number of weights wanted.
        weights: from a cell's name and a width to the number of weights, which must grow with the width.

    Raises:
        ConfigError: if no width of a cell comes near the target.
    """
    found = []
    for cell in cells:
        try:
            width = nearest_width(lambda width, cell=cell: weights(cell, width), target)  # type: ignore[misc]
        except ConfigError as error:
            raise ConfigError(f"{cell}: {error}") from error
        found.append(Sized(cell, width, weights(cell, width)))
    return found


def count_weights(build: Callable[[], nn.Module]) -> int:
    """The number of weights and biases of the module that a function builds, shared ones counted once.

    It is built without memory for its numbers (torch's meta device), so that large ones cost nothing.
    """
    import torch

    with torch.device("meta"):
        return sum(parameter.numel() for parameter in build().parameters())


def layer_weights(cell: str, width: int, *, input_size: int | None = None, num_layers: int = 1, **options: Any) -> int:
    """The number of weights of a stack of recurrent layers.

    Args:
        cell: its name.
        width: units of each layer.
        input_size: None for the width.
        num_layers, options: as `recurra.Recurrent` takes them.
    """
    from ..layers import Recurrent

    return count_weights(lambda: Recurrent(cell, input_size or width, width, num_layers, **options))


def system_weights(config: Mapping[str, Any], cell: str, width: int, *sizes: int) -> int:
    """The number of weights of a configured system with this cell and hidden size.

    Args:
        config: sections and keys as in a YAML file; `task` names the system, the first one if it is missing.
        cell, width: what is set in its `model` section as cell and hidden_size.
        sizes: what the data decide: the tokens of a language model, or of a translation system's source and target.

    Raises:
        ConfigError: if the configuration is wrong, or these are not the sizes that the system needs.
    """
    resolved = load_config(overrides=[config, {"model": {"cell": cell, "hidden_size": width}}])
    build = registry.resolve(registry.find(resolved.task).build)
    try:
        inspect.signature(build).bind(resolved.model, *sizes)
    except TypeError as error:
        raise ConfigError(f"the network of {resolved.task} cannot be built of the sizes {sizes} ({error}).") from error
    return count_weights(lambda: build(resolved.model, *sizes))
