"""Single steps as modules: torch.nn's RNNCell, LSTMCell and GRUCell, and the same for any cell."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from .. import cells
from ..cells import Cell, get
from ..kernels import weight_names
from ..kernels.dispatch import run_step
from ..kernels.known_cells import register
from .doors import as_one_node, proxy_in

__all__ = ["GRUCell", "LSTMCell", "RNNCell", "RecurrentCell"]


class RecurrentCell(nn.Module):
    """One differentiable step of any recurrent cell, with torch.nn.LSTMCell's arguments, shapes and parameter names.

    B is rows, I input_size, H hidden_size, G the number of the cell's gates. The parameters are those of one layer of
    `recurra.Recurrent` without their ending `_l0`: `weight_ih` (G*H, I), `weight_hh` (G*H, H), `bias_ih` and `bias_hh`
    (G*H,), then the cell's own, such as `weight_ci` (H,) or a matrix (H, H), uniform in +-1/sqrt(H). So
    `layer.load_state_dict({f"{name}_l0": value for name, value in cell.state_dict().items()})` gives a layer the
    weights of a cell, and `cell.load_state_dict({name[:-3]: value for name, value in layer.state_dict().items()})` a
    cell those of a layer.

    Args:
        cell: a name of `recurra.cells`, FILE.py:CLASS, or a `Cell`.
        input_size: I.
        hidden_size: H.
        bias: whether there are biases; both, as in torch.nn.
        device, dtype: of the parameters.
        forget_bias: initial bias of the forget gate (Gers et al. 2000 and Jozefowicz et al. 2015: 1); None leaves it as
            torch.nn does.

    Raises:
        TypeError: if `cell` is no cell.
        ValueError: if there is no cell of that name, or `forget_bias` is given and there is no such bias.

    For a whole sequence `recurra.Recurrent` is much faster, and for steps without gradients `Recurrent.stream`.
    Differentiable any number of times on the CPU, and inside of torch.func's transforms.
    """

    weight_ih: Tensor
    weight_hh: Tensor
    bias_ih: Tensor | None
    bias_hh: Tensor | None

    def __init__(
        self,
        cell: str | Cell,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        device: Any = None,
        dtype: Any = None,
        *,
        forget_bias: float | None = None,
    ) -> None:
        super().__init__()
        self.cell = get(cell) if isinstance(cell, str) else cell
        if not isinstance(self.cell, Cell):
            raise TypeError(f"cell must be a name or a Cell such as recurra.cells.LSTM(), not {cell!r}")
        if forget_bias is not None and (self.cell.forget_bias_gate is None or not bias):
            raise ValueError(f"forget_bias needs a forget gate with a bias, which {self.cell!r} has not here")
        self.input_size = input_size
        self.hidden_size = hidden_size
        self.bias = bias
        self.forget_bias = forget_bias
        rows = len(self.cell.gates) * hidden_size
        shapes: dict[str, tuple[int, ...]] = {"weight_ih": (rows, input_size), "weight_hh": (rows, hidden_size)}
        shapes |= {"bias_ih": (rows,), "bias_hh": (rows,)}
        shapes |= {f"weight_{name}": (hidden_size,) for name in self.cell.vectors}
        shapes |= {f"weight_{name}": (hidden_size, hidden_size) for name in self.cell.matrices}
        self._names = weight_names(self.cell, bool(bias), projection=False)
        self._key = register(self.cell)
        for name, shape in shapes.items():
            made = nn.Parameter(torch.empty(shape, device=device, dtype=dtype)) if name in self._names else None
            self.register_parameter(name, made)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw all parameters anew, with torch.nn's random numbers in torch.nn's order."""
        bound = 1 / math.sqrt(self.hidden_size) if self.hidden_size > 0 else 0.0
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -bound, bound)
        if self.forget_bias is not None:
            gates = tuple(self.cell.gates)
            index = gates.index(str(self.cell.forget_bias_gate))
            with torch.no_grad():
                for name, value in (("bias_ih", self.forget_bias), ("bias_hh", 0.0)):
                    getattr(self, name).chunk(len(gates))[index].fill_(value)

    def forward(self, input: Tensor, hx: Any = None) -> Any:
        """Take one step.

        Args:
            input: (B, I), or (I,) for one row.
            hx: the states before the step, each (B, H), or (H,) if the input is (I,). A cell with one state: a tensor.
                A cell with several: a tuple of one tensor a state, in the order of `cell.states`. None: zeros.

        Returns:
            The states after the step, as `hx`: a tensor, or a tuple of them.

        Raises:
            ValueError: if the input or a state has neither one nor two dimensions, as torch.nn does.
            RuntimeError: for another wrong shape or dtype, as torch.nn does; and inside of `recurra.backend` with a
                backend that cannot run it: steps run on "torch" for the cells that torch.nn has, and on "reference".
        """
        proxy = proxy_in(input, hx)
        if proxy is not None:
            return as_one_node(self, proxy, input, {"hx": hx})
        kind = type(self).__name__
        if input.dim() not in (1, 2):
            raise ValueError(f"{kind}: Expected input to be 1D or 2D, got {input.dim()}D instead")
        batched = input.dim() == 2
        states = self._states(hx, input)
        if not batched:
            input, states = input.unsqueeze(0), tuple(state.unsqueeze(0) for state in states)
        self._check(input, states)
        weights = {name: getattr(self, name) for name in self._names}
        new = run_step(self.cell, self._key, input, states, weights)
        if not batched:
            new = tuple(state.squeeze(0) for state in new)
        return new if len(new) > 1 else new[0]

    def _states(self, hx: Any, input: Tensor) -> tuple[Tensor, ...]:
        count = len(self.cell.states)
        if hx is None:
            return (input.new_zeros((*input.shape[:-1], self.hidden_size)),) * count
        if count == 1 and not isinstance(hx, Tensor):
            raise TypeError(f"hx must be a tensor, not {type(hx).__name__}, for {self.cell!r} has one state")
        states = (hx,) if count == 1 else tuple(hx)
        for index, state in enumerate(states):
            if state.dim() not in (1, 2):
                part = "hidden" if count == 1 else f"hx[{index}]"
                raise ValueError(f"{type(self).__name__}: Expected {part} to be 1D or 2D, got {state.dim()}D instead")
        if len(states) != count:
            raise RuntimeError(f"hx must be a tuple of {count} states, not of {len(states)}")
        return states

    def _check(self, input: Tensor, states: Sequence[Tensor]) -> None:
        """Raise what torch.nn raises for a wrong size; so that a step on any backend says the same."""
        if input.shape[1] != self.input_size:
            raise RuntimeError(f"input has inconsistent input_size: got {input.shape[1]} expected {self.input_size}")
        for index, state in enumerate(states):
            if state.dim() != 2:
                raise RuntimeError(f"hidden{index} must have as many dimensions as the input")
            if state.shape[0] != input.shape[0]:
                raise RuntimeError(
                    f"Input batch size {input.shape[0]} doesn't match hidden{index} batch size {state.shape[0]}"
                )
            if state.shape[1] != self.hidden_size:
                raise RuntimeError(
                    f"hidden{index} has inconsistent hidden_size: got {state.shape[1]}, expected {self.hidden_size}"
                )

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._key = register(self.cell)

    def extra_repr(self) -> str:
        return f"{self.cell!r}, {self._sizes_repr()}"

    def _sizes_repr(self) -> str:
        changed = [] if self.bias is True else [f"bias={self.bias}"]
        changed += [] if self.forget_bias is None else [f"forget_bias={self.forget_bias!r}"]
        return ", ".join([str(self.input_size), str(self.hidden_size), *changed])


class RNNCell(RecurrentCell):
    """A drop-in for torch.nn.RNNCell: same arguments in the same order, same parameters, same numbers.

    Args:
        input_size, hidden_size, bias, device, dtype: as in `RecurrentCell`.
        nonlinearity: "tanh" or "relu"; the fourth positional argument, as in torch.nn.

    Raises:
        ValueError: if there is no such nonlinearity; torch.nn.RNNCell says so only when it runs.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        nonlinearity: str = "tanh",
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        cell = cells.RNN(nonlinearity)  # type: ignore[arg-type]
        super().__init__(cell, input_size, hidden_size, bias, device, dtype)
        self.nonlinearity = nonlinearity

    def extra_repr(self) -> str:
        ending = "" if self.nonlinearity == "tanh" else f", nonlinearity={self.nonlinearity}"
        return self._sizes_repr() + ending


class LSTMCell(RecurrentCell):
    """A drop-in for torch.nn.LSTMCell: same arguments in the same order, same parameters, same numbers.

    Args:
        input_size, hidden_size, bias, device, dtype, forget_bias: as in `RecurrentCell`.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        device: Any = None,
        dtype: Any = None,
        *,
        forget_bias: float | None = None,
    ) -> None:
        super().__init__(cells.LSTM(), input_size, hidden_size, bias, device, dtype, forget_bias=forget_bias)

    def extra_repr(self) -> str:
        return self._sizes_repr()


class GRUCell(RecurrentCell):
    """A drop-in for torch.nn.GRUCell: same arguments in the same order, same parameters, same numbers.

    Its reset gate acts after the recurrent product; the GRU of Cho et al. 2014 is `RecurrentCell("gru_cho", ...)`.

    Args:
        input_size, hidden_size, bias, device, dtype: as in `RecurrentCell`.
    """

    def __init__(
        self, input_size: int, hidden_size: int, bias: bool = True, device: Any = None, dtype: Any = None
    ) -> None:
        super().__init__(cells.GRU(), input_size, hidden_size, bias, device, dtype)

    def extra_repr(self) -> str:
        return self._sizes_repr()
