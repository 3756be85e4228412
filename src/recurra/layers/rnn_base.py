"""Those parts of torch.nn.RNNBase that other libraries reach for, on every cell."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..cells import CELLS, Cell

__all__ = ["RNNBaseParts"]

_MODES = {"lstm": "LSTM", "gru": "GRU", "rnn_tanh": "RNN_TANH", "rnn_relu": "RNN_RELU"}


class RNNBaseParts(nn.Module):
    """torch.nn.RNNBase's attributes and methods; errors are of its types."""

    cell: Cell
    input_size: int
    hidden_size: int | Sequence[int]
    num_layers: int
    batch_first: bool
    bidirectional: bool
    proj_size: int

    @property
    def num_directions(self) -> int:
        """D."""
        return 2 if self.bidirectional else 1

    @property
    def mode(self) -> str:
        """torch.nn's name of the cell ("LSTM", "GRU", "RNN_TANH", "RNN_RELU"); the cell's own name for any other."""
        names = [name for name, cell in CELLS.items() if cell == self.cell]
        return _MODES.get(names[0], names[0]) if names else type(self.cell).__name__

    @property
    def weight_dtype(self) -> torch.dtype:
        """The dtype of the parameters."""
        return self._first_weight.dtype

    @property
    def weight_device(self) -> torch.device:
        """The device of the parameters."""
        return self._first_weight.device

    @property
    def _first_weight(self) -> Tensor:
        # Any parameter where the first weight is computed from others, which may be costly or change buffers.
        weight = self._parameters.get("weight_ih_l0")
        if weight is None:
            weight = next(self.parameters(), None)
        return getattr(self, "weight_ih_l0") if weight is None else weight  # noqa: B009

    def weight_names(self) -> list[list[str]]:
        """The names of each layer's and direction's weights, in torch.nn's order, the cell's own last."""
        raise NotImplementedError

    @property
    def all_weights(self) -> list[list[Tensor]]:
        """The weights of each layer and direction, as torch.nn lists them."""
        return [[getattr(self, name) for name in names] for names in self.weight_names()]

    @property
    def _flat_weights_names(self) -> list[str]:
        return [name for names in self.weight_names() for name in names]

    @property
    def _flat_weights(self) -> list[Tensor | None]:
        return [getattr(self, name, None) for name in self._flat_weights_names]

    def check_input(self, input: Tensor, batch_sizes: Tensor | None) -> None:
        """Raise ValueError for an input of another dtype, RuntimeError for another number of dimensions or features.

        Args:
            input: (T, B, I) or (B, T, I), or packed (N, I).
            batch_sizes: of a packed input, else None.
        """
        if input.dtype != self.weight_dtype and not torch._C._is_any_autocast_enabled():
            raise ValueError(
                f"the input is {input.dtype} and the weights are {self.weight_dtype}; convert one with .to()"
            )
        dimensions = 3 if batch_sizes is None else 2
        if input.dim() != dimensions:
            raise RuntimeError(f"the input must have {dimensions} dimensions, not {input.dim()}")
        if input.size(-1) != self.input_size:
            raise RuntimeError(f"the input's last dimension must be input_size {self.input_size}, not {input.size(-1)}")

    def get_expected_hidden_size(self, input: Tensor, batch_sizes: Tensor | None) -> tuple[int, int, int]:
        """(L*D, B, P), the shape of h before the first step.

        Raises:
            RuntimeError: if the layers differ in size, so that h is a list of tensors.
        """
        return self._expected_size(input, batch_sizes, self.proj_size)

    def get_expected_cell_size(self, input: Tensor, batch_sizes: Tensor | None) -> tuple[int, int, int]:
        """(L*D, B, H), the shape of every state but h."""
        return self._expected_size(input, batch_sizes, 0)

    def _expected_size(self, input: Tensor, batch_sizes: Tensor | None, proj_size: int) -> tuple[int, int, int]:
        if not isinstance(self.hidden_size, int):
            raise RuntimeError("layers of different sizes have no single shape of a state; see state_shapes(layer, B)")
        batch = input.size(0 if self.batch_first else 1) if batch_sizes is None else int(batch_sizes[0])
        return self.num_layers * self.num_directions, batch, proj_size or self.hidden_size

    def check_hidden_size(
        self,
        hx: Tensor,
        expected_hidden_size: tuple[int, int, int],
        msg: str = "a state in hx must have the shape {}, not {}",
    ) -> None:
        """Raise RuntimeError for a state of another shape than the expected; `msg` takes both shapes."""
        if hx.size() != expected_hidden_size:
            raise RuntimeError(msg.format(expected_hidden_size, list(hx.size())))

    def check_forward_args(self, input: Tensor, hidden: Any, batch_sizes: Tensor | None) -> None:
        """Raise what `check_input` and `check_hidden_size` raise for an input and the states before its first step."""
        self.check_input(input, batch_sizes)
        states = (hidden,) if len(self.cell.states) == 1 else tuple(hidden)
        if len(states) != len(self.cell.states):
            raise RuntimeError(f"hx must be a tuple of {len(self.cell.states)} states, not of {len(states)}")
        self.check_hidden_size(states[0], self.get_expected_hidden_size(input, batch_sizes))
        for state in states[1:]:
            self.check_hidden_size(state, self.get_expected_cell_size(input, batch_sizes))

    def permute_hidden(self, hx: Any, permutation: Tensor | None) -> Any:
        """States with their rows in another order.

        Args:
            hx: a tensor (L*D, B, H), or a tuple or list of such.
            permutation: (B,) which row comes to each place; None for no change.
        """
        if permutation is None:
            return hx
        if isinstance(hx, Tensor):
            return hx.index_select(1, permutation)
        permuted = [self.permute_hidden(state, permutation) for state in hx]
        return permuted if isinstance(hx, list) else tuple(permuted)

    @property
    def qconfig(self) -> Any:
        """How torch's quantisation marks the modules that it goes through; it has nothing for these layers."""
        if "_qconfig" not in self.__dict__:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute 'qconfig'")
        return self.__dict__["_qconfig"]

    @qconfig.setter
    def qconfig(self, value: Any) -> None:
        if "_qconfig" not in self.__dict__:
            warnings.warn(
                f"torch's quantisation leaves recurra's {type(self).__name__} in floating point: it is not quantised",
                stacklevel=3,
            )
        self.__dict__["_qconfig"] = value

    @qconfig.deleter
    def qconfig(self) -> None:
        self.__dict__.pop("_qconfig", None)
