"""RNN, LSTM and GRU with torch.nn's constructors."""

from __future__ import annotations

import re
from typing import Any

from torch import Tensor

from .. import cells
from .recurrent import Recurrent

__all__ = ["GRU", "LSTM", "RNN", "flip_update_gate"]

# With whatever pruning or weight normalisation appends to the name.
_WEIGHT = re.compile(r"(?P<kind>(weight|bias)_(ih|hh))_l\d+(_reverse)?(?P<more>_\w+)?$")


class RNN(Recurrent):
    """A drop-in for torch.nn.RNN: same arguments in the same order, same parameters, same numbers.

    Args:
        input_size, hidden_size, num_layers: as in `Recurrent`.
        nonlinearity: "tanh" or "relu"; the fourth positional argument, as in torch.nn.
        args, kwargs: the further arguments of torch.nn.RNN, then those of `Recurrent` by keyword.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: Any,
        num_layers: int = 1,
        nonlinearity: str = "tanh",
        *args: Any,
        **kwargs: Any,
    ) -> None:
        _no_projection(self, kwargs)
        self.nonlinearity = nonlinearity
        super().__init__(
            cells.RNN(nonlinearity),  # type: ignore[arg-type]
            input_size,
            hidden_size,
            num_layers,
            *_without_projection(args),
            **kwargs,
        )


class LSTM(Recurrent):
    """A drop-in for torch.nn.LSTM: same arguments in the same order, same parameters, same numbers.

    Args:
        args, kwargs: the arguments of torch.nn.LSTM, then those of `Recurrent` by keyword.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(cells.LSTM(), *args, **kwargs)


class GRU(Recurrent):
    """A drop-in for torch.nn.GRU: same arguments in the same order, same parameters, same numbers.

    This is the GRU of torch and cuDNN, with the reset gate after the recurrent product; the one published by Cho et al.
    2014 is `Recurrent("gru_cho", ...)`.

    Args:
        args, kwargs: the arguments of torch.nn.GRU, then those of `Recurrent` by keyword.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        _no_projection(self, kwargs)
        super().__init__(cells.GRU(), *args[:7], *_without_projection(args[7:], 0), **kwargs)


def _no_projection(module: Any, kwargs: dict[str, Any]) -> None:
    if "proj_size" in kwargs:
        raise ValueError(f"proj_size is for LSTM, not for {type(module).__name__}")


def _without_projection(args: tuple[Any, ...], proj_at: int = 4) -> tuple[Any, ...]:
    # torch.nn.RNN and GRU go from bidirectional straight to device and dtype; Recurrent has proj_size between.
    return args if len(args) <= proj_at else (*args[:proj_at], 0, *args[proj_at:])


def flip_update_gate(state_dict: dict[str, Tensor]) -> dict[str, Tensor]:
    """Convert the weights of a GRU between the two meanings of z.

    sigmoid(-a) = 1 - sigmoid(a), so negating the rows of z turns `update="keep"` (torch) into `update="replace"` (the
    later literature) and back, exactly.

    Args:
        state_dict: parameters of a GRU layer with gate rows r, z, n; other names are passed on.

    Returns:
        A new state dict.

    Raises:
        ValueError: if weights are pruned or parametrized, so that negating them would do something else, or are not a
            GRU's.
    """
    converted = {}
    if any("parametrizations." in name for name in state_dict):
        raise ValueError("remove the parametrizations first: their weights are not gate rows that could be negated")
    for name, value in state_dict.items():
        weight = _WEIGHT.match(name.rpartition(".")[2])
        if weight is not None:
            if weight["more"]:
                raise ValueError(f"{name} is pruned or parametrized; make it a plain weight first")
            if len(value) % 3 or (weight["kind"] == "weight_hh" and len(value) != 3 * value.shape[1]):
                raise ValueError(f"{name} is not of a GRU: its rows {len(value)} are not those of three gates")
            r, z, n = value.chunk(3)
            value = value.new_empty(value.shape)
            for part, old in zip(value.chunk(3), (r, -z, n), strict=True):
                part.copy_(old)
        converted[name] = value
    return converted
