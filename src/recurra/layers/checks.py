"""What a layer demands of its arguments; error types are those of torch.nn's layers."""

from __future__ import annotations

import numbers
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..kernels.call import check_range
from ..kernels.surroundings import readable, watched

__all__ = ["check_hidden", "check_input", "check_lengths", "check_options", "check_resets", "hidden_sizes"]


def check_options(
    *,
    input_size: Any,
    num_layers: Any,
    layers: int,
    bias: Any,
    batch_first: Any,
    dropout: Any,
    probabilities: dict[str, float],
) -> None:
    """Raise TypeError or ValueError for a wrong constructor argument."""
    if not isinstance(dropout, numbers.Real) or isinstance(dropout, bool) or not 0 <= float(dropout) <= 1:
        raise ValueError(f"dropout must be a probability from 0 to 1, not {dropout!r}")
    if dropout and layers == 1:
        warnings.warn(
            f"dropout={dropout} acts between layers and there is only one; see input_dropout and recurrent_dropout",
            stacklevel=4,
        )
    for name, value in {"bias": bias, "batch_first": batch_first}.items():
        if not isinstance(value, bool):
            raise TypeError(f"{name} must be a bool, not {type(value).__name__}")
    if not isinstance(input_size, int):
        raise TypeError(f"input_size must be an int, not {type(input_size).__name__}")
    if input_size <= 0:
        raise ValueError(f"input_size must be at least 1, not {input_size}")
    if num_layers <= 0:
        raise ValueError(f"num_layers must be at least 1, not {num_layers}")
    for name, value in probabilities.items():
        if not 0 <= value < 1:
            raise ValueError(f"{name} must be a probability from 0 to below 1, not {value!r}")


def hidden_sizes(hidden_size: int | Sequence[int], num_layers: int, proj_size: int) -> list[int]:
    """The size of each layer, checked."""
    if isinstance(hidden_size, Sequence) and not isinstance(hidden_size, str):
        sizes = list(hidden_size)
        if num_layers == 1 and sizes:
            num_layers = len(sizes)
        if len(sizes) != num_layers:
            raise ValueError(f"hidden_size lists {len(sizes)} sizes for {num_layers} layers")
    else:
        sizes = [hidden_size] * num_layers
    for size in sizes:
        if not isinstance(size, int):
            raise TypeError(f"hidden_size must be an int, not {type(size).__name__}")
        if size <= 0:
            raise ValueError(f"hidden_size must be at least 1, not {size}")
        if proj_size >= size:
            raise ValueError(f"proj_size must be smaller than hidden_size ({size}), not {proj_size}")
    if proj_size < 0:
        raise ValueError(f"proj_size must be positive, or 0 for no projection, not {proj_size}")
    return sizes


def check_input(input: Tensor, input_size: int, dtype: torch.dtype) -> None:
    """Raise what torch.nn raises for a wrong input of (T, B, I) or packed (N, I)."""
    if input.dtype != dtype and not torch._C._is_any_autocast_enabled():
        raise ValueError(f"the input is {input.dtype} and the weights are {dtype}; convert one with .to()")
    if input.size(-1) != input_size:
        raise RuntimeError(f"the input's last dimension must be input_size {input_size}, not {input.size(-1)}")


def check_hidden(states: Sequence[Tensor], shapes: Sequence[tuple[int, ...]]) -> None:
    """Raise what torch.nn raises for initial states of the wrong number, rank or size."""
    if len(states) != len(shapes):
        raise RuntimeError(f"hx must hold {len(shapes)} states, not {len(states)}")
    for state, shape in zip(states, shapes, strict=True):
        if tuple(state.shape) != shape:
            raise RuntimeError(f"a state in hx must have the shape {shape}, not {tuple(state.shape)}")


def check_lengths(lengths: Tensor | np.ndarray | Sequence[int], batch: int, steps: int) -> Tensor:
    """Lengths as a tensor, their values checked where that costs no wait for a device.

    Raises:
        ValueError: if there is not one length a row, or one is negative or longer than the input.
    """
    checked = lengths if isinstance(lengths, Tensor) else _as_tensor(lengths)
    if checked.is_floating_point() or checked.dtype == torch.bool:
        raise ValueError(f"lengths must be integers, not {checked.dtype}")
    if checked.shape != (batch,):
        raise ValueError(f"lengths must have the shape ({batch},), one a row, not {tuple(checked.shape)}")
    if not watched() and readable(checked):
        check_range(checked, steps)
    return checked


def _as_tensor(lengths: np.ndarray | Sequence[int]) -> Tensor:
    """On the CPU, whatever the default device is: the values are looked at."""
    if isinstance(lengths, np.ndarray):
        # torch has no big-endian and few unsigned integers.
        return torch.from_numpy(lengths.astype(np.int64) if lengths.dtype.kind in "iu" else lengths)
    values = list(lengths)
    return torch.tensor(values, dtype=None if values else torch.int64, device="cpu")


def check_resets(resets: Any, shape: tuple[int, ...], device: torch.device) -> Tensor:
    """Resets as a tensor on the input's device.

    Args:
        resets: booleans, as `Recurrent.forward` takes them.
        shape: of the input, without its features.
        device: of the input.

    Raises:
        ValueError: if they are no booleans, or there is not one for each step of each row.
    """
    checked = resets if isinstance(resets, Tensor) else torch.as_tensor(resets, device=device)
    if checked.dtype != torch.bool:
        raise ValueError(f"resets must be booleans, not {checked.dtype}")
    if tuple(checked.shape) != shape:
        raise ValueError(
            f"resets must have the shape {shape}, one for each step of each row, not {tuple(checked.shape)}"
        )
    return checked.to(device)
