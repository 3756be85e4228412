"""The parameters of a stack of layers: their names, shapes, start values and the states before the first step."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Literal, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrize

from ..cells import Cell, get
from ..cells.trace import trace
from ..kernels import torch_fused, weight_names
from ..kernels.known_cells import register
from .checks import check_options, hidden_sizes
from .rnn_base import RNNBaseParts
from .states import LayerStates, tuple_class

__all__ = ["Merge", "RecurrentParameters", "Residual"]

Merge = Literal["concat", "sum", "mean"]
Residual = Literal["none", "residual", "highway"]


class RecurrentParameters(RNNBaseParts):
    """Everything about a stack but running it; see `Recurrent` for the arguments."""

    def __init__(
        self,
        cell: str | Cell,
        input_size: int,
        hidden_size: int | Sequence[int],
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        device: Any = None,
        dtype: Any = None,
        *,
        input_dropout: float = 0.0,
        locked_dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        zoneout: float = 0.0,
        weight_dropout: float = 0.0,
        residual: Residual = "none",
        merge: Merge = "concat",
        forget_bias: float | None = None,
        learn_initial_state: bool = False,
    ) -> None:
        super().__init__()
        probabilities = {
            "input_dropout": input_dropout,
            "locked_dropout": locked_dropout,
            "recurrent_dropout": recurrent_dropout,
            "zoneout": zoneout,
            "weight_dropout": weight_dropout,
        }
        check_options(
            input_size=input_size,
            num_layers=num_layers,
            layers=max(num_layers, len(hidden_size)) if isinstance(hidden_size, list | tuple) else num_layers,
            bias=bias,
            batch_first=batch_first,
            dropout=dropout,
            probabilities=probabilities,
        )
        self.cell = get(cell) if isinstance(cell, str) else cell
        if not isinstance(self.cell, Cell):
            raise TypeError(f"cell must be a name or a Cell such as recurra.cells.LSTM(), not {cell!r}")
        self.hidden_sizes = hidden_sizes(hidden_size, num_layers, proj_size)
        self.input_size = input_size
        self.hidden_size = hidden_size
        self.num_layers = len(self.hidden_sizes)
        self.bias = bias
        self.batch_first = batch_first
        self.dropout = float(dropout)
        self.bidirectional = bidirectional
        self.proj_size = proj_size
        self.input_dropout = input_dropout
        self.locked_dropout = locked_dropout
        self.recurrent_dropout = recurrent_dropout
        self.zoneout = zoneout
        self.weight_dropout = weight_dropout
        self.residual = residual
        self.merge = merge
        self.forget_bias = forget_bias
        self.learn_initial_state = learn_initial_state
        if residual not in ("none", "residual", "highway"):
            raise ValueError(f"residual must be 'none', 'residual' or 'highway', not {residual!r}")
        if merge not in ("concat", "sum", "mean"):
            raise ValueError(f"merge must be 'concat', 'sum' or 'mean', not {merge!r}")
        if proj_size and not trace(self.cell).h_only_in_products:
            raise ValueError(f"proj_size is not for {self.cell!r}, whose equations use h beside the products")
        if forget_bias is not None and (self.cell.forget_bias_gate is None or not bias):
            raise ValueError(f"forget_bias needs a forget gate with a bias, which {self.cell!r} has not here")
        self._key = register(self.cell)
        # Made beforehand, for torch.compile cannot follow the making of a class.
        self.state_tuple = tuple_class(self.cell)
        self._create_parameters({"device": device, "dtype": dtype})
        self.reset_parameters()
        self.flatten_parameters()

    def output_size(self, layer: int = -1) -> int:
        """The width of a layer's output, both directions merged."""
        size = self.proj_size or self.hidden_sizes[layer]
        return size * (self.num_directions if self.merge == "concat" else 1)

    def _input_size(self, layer: int) -> int:
        return self.input_size if layer == 0 else self.output_size(layer - 1)

    def _create_parameters(self, factory: dict[str, Any]) -> None:
        cell = self.cell
        self._names = weight_names(cell, self.bias, bool(self.proj_size))
        for layer, size in enumerate(self.hidden_sizes):
            rows = len(cell.gates) * size
            shapes: dict[str, tuple[int, ...]] = {
                "weight_ih": (rows, self._input_size(layer)),
                "weight_hh": (rows, self.proj_size or size),
                "bias_ih": (rows,),
                "bias_hh": (rows,),
                "weight_hr": (self.proj_size, size),
            }
            shapes |= {f"weight_{name}": (size,) for name in cell.vectors}
            shapes |= {f"weight_{name}": (size, size) for name in cell.matrices}
            for suffix in self._suffixes(layer):
                for name in self._names:
                    self.register_parameter(name + suffix, nn.Parameter(torch.empty(shapes[name], **factory)))
        for layer in range(self.num_layers):
            width = self.output_size(layer)
            if self._bypassed(layer):
                if width != self._input_size(layer):
                    raise ValueError(
                        f"residual={self.residual!r} needs layers of one width; layer {layer} turns "
                        f"{self._input_size(layer)} into {width}"
                    )
                if self.residual == "highway":
                    weight, bias = torch.empty(width, width, **factory), torch.empty(width, **factory)
                    self.register_parameter(f"weight_highway_l{layer}", nn.Parameter(weight))
                    self.register_parameter(f"bias_highway_l{layer}", nn.Parameter(bias))
            if self.learn_initial_state:
                for state, shape in zip(cell.states, self.state_shapes(layer, 1), strict=True):
                    initial = torch.empty(shape[0], shape[2], **factory)
                    self.register_parameter(f"initial_{state}_l{layer}", nn.Parameter(initial))

    def reset_parameters(self, bound: float | None = None) -> None:
        """Draw all parameters anew, with torch.nn's random numbers in torch.nn's order.

        As in torch.nn these are all of `parameters()`: those that a parametrization, pruning or a subclass brought too.

        Args:
            bound: they are uniform in +-bound; None: in +-1/sqrt(H), as torch.nn's.
        """
        layers, started = self._own_names()
        with torch.no_grad():
            for name, parameter in self.named_parameters():
                own = _stands_for(name, layers)
                if own not in started:
                    # A subclass's own parameters belong to no layer.
                    most = bound or 1 / math.sqrt(self.hidden_sizes[layers[own] if own else 0])
                    parameter.uniform_(-most, most)
            for name, value in started.items():
                self._fill(name, value)
            if self.forget_bias is not None:
                gate = tuple(self.cell.gates).index(str(self.cell.forget_bias_gate))
                for layer in range(self.num_layers):
                    for suffix in self._suffixes(layer):
                        self._fill("bias_ih" + suffix, self.forget_bias, gate)
                        self._fill("bias_hh" + suffix, 0.0, gate)

    def _own_names(self) -> tuple[dict[str, int], dict[str, float]]:
        """The layer of each name that these layers gave a parameter, and the start values that are not drawn."""
        layers: dict[str, int] = {}
        started: dict[str, float] = {}
        for layer in range(self.num_layers):
            layers |= dict.fromkeys([name + suffix for suffix in self._suffixes(layer) for name in self._names], layer)
            if self._bypassed(layer) and self.residual == "highway":
                layers[f"weight_highway_l{layer}"] = layer
                # A negative start carries the input through at first (Srivastava et al. 2015).
                started[f"bias_highway_l{layer}"] = -1.0
            if self.learn_initial_state:
                started |= dict.fromkeys([f"initial_{state}_l{layer}" for state in self.cell.states], 0.0)
        return layers | dict.fromkeys(started, 0), started

    def _fill(self, name: str, value: float, gate: int | None = None) -> None:
        """Set a parameter, or only one gate's rows of it, also where it is pruned or parametrized."""
        # What pruning masks lies under this name.
        parameter = self._parameters.get(name, self._parameters.get(name + "_orig"))
        parametrized = parameter is None and parametrize.is_parametrized(self, name)
        if parameter is None and not parametrized:
            raise RuntimeError(
                f"{name} has a start value of its own, but is no parameter now; restore it before a reset"
            )
        whole = getattr(self, name).detach().clone() if parameter is None else parameter
        part = whole if gate is None else whole.chunk(len(self.cell.gates))[gate]
        part.fill_(value)
        if parametrized:
            setattr(self, name, whole)

    def _suffixes(self, layer: int) -> list[str]:
        return [f"_l{layer}", f"_l{layer}_reverse"][: self.num_directions]

    def _bypassed(self, layer: int) -> bool:
        return self.residual != "none" and layer > 0

    def highway_weights(self, layer: int) -> tuple[Tensor, Tensor] | None:
        """Weight and bias of a layer's highway gate, if it has one."""
        if not self._bypassed(layer) or self.residual != "highway":
            return None
        return getattr(self, f"weight_highway_l{layer}"), getattr(self, f"bias_highway_l{layer}")

    def bypass(self, layer: int, input: Tensor, output: Tensor, highway: tuple[Tensor, Tensor] | None = None) -> Tensor:
        """A layer's output with its residual or highway connection, if it has one.

        Args:
            layer: which.
            input, output: of the layer.
            highway: weight and bias in place of the layer's own.
        """
        if not self._bypassed(layer):
            return output
        weights = highway or self.highway_weights(layer)
        if weights is None:
            return output + input
        gate = torch.sigmoid(F.linear(input, *weights))
        return gate * output + (1 - gate) * input

    def state_shapes(self, layer: int, batch: int) -> list[tuple[int, int, int]]:
        """(D, B, H) of each state of a layer."""
        size = self.hidden_sizes[layer]
        widths = [self.proj_size or size] + [size] * (len(self.cell.states) - 1)
        return [(self.num_directions, batch, width) for width in widths]

    def weight_names(self) -> list[list[str]]:
        """The names of each layer's and direction's weights, in torch.nn's order, the cell's own last."""
        suffixes = [suffix for layer in range(self.num_layers) for suffix in self._suffixes(layer)]
        return [[name + suffix for name in self._names] for suffix in suffixes]

    def layer_weights(self, layer: int) -> tuple[Mapping[str, Tensor], ...]:
        """The parameters of each direction of a layer by name, `weight_hh` with its dropout in training."""
        directions = self._named_weights(layer)
        if self.weight_dropout and self.training:
            for weights in directions:
                weights["weight_hh"] = F.dropout(weights["weight_hh"], self.weight_dropout, True)
        return tuple(directions)

    def _named_weights(self, layer: int) -> list[dict[str, Tensor]]:
        found = []
        # Looked up where parameters are before the module is asked, whose own way is slow.
        parameters = self._parameters
        for suffix in self._suffixes(layer):
            direction = {}
            for name in self._names:
                weight = parameters.get(name + suffix)
                direction[name] = getattr(self, name + suffix) if weight is None else weight
            found.append(direction)
        return found

    def initial_states(self, batch: int, like: Tensor) -> LayerStates:
        """The states before the first step: for each layer one (D, B, H) for each state of the cell.

        Args:
            batch: B.
            like: gives dtype and device.
        """
        layers: LayerStates = []
        if self.learn_initial_state:
            for layer in range(self.num_layers):
                learnt = [getattr(self, f"initial_{name}_l{layer}") for name in self.cell.states]
                shapes = self.state_shapes(layer, batch)
                layers.append(
                    tuple(p.unsqueeze(1).expand(s).to(like.dtype) for p, s in zip(learnt, shapes, strict=True))
                )
            return layers
        # One for all of a width, since nobody writes to it.
        zeros: dict[int, Tensor] = {}
        for size in self.hidden_sizes:
            width = self.proj_size or size
            for needed in (width, size):
                if needed not in zeros:
                    zeros[needed] = like.new_zeros((self.num_directions, batch, needed))
            layers.append((zeros[width], *[zeros[size]] * (len(self.cell.states) - 1)))
        return layers

    @property
    def uniform(self) -> bool:
        """Whether all layers have one size, so that hx holds tensors and not lists."""
        return not isinstance(self.hidden_size, Sequence)

    @property
    def stackable(self) -> bool:
        """Whether the layers are a plain stack, as torch.nn has them, so that one call could run all of them."""
        plain = self.residual == "none" and not self.locked_dropout
        return self.uniform and (plain or self.num_layers == 1) and (not self.bidirectional or self.merge == "concat")

    def flatten_parameters(self) -> None:
        """Lay the parameters out as cuDNN wants them, on CUDA; done by itself whenever the module moves."""
        weights: list[list[Tensor]] = []
        for layer in range(self.num_layers):
            names = [name + suffix for suffix in self._suffixes(layer) for name in self._names]
            found: list[Tensor] = [weight for name in names if (weight := self._parameters.get(name)) is not None]
            if len(found) < len(names):
                # A weight that is computed anew each call cannot lie in the buffer.
                return
            weights.append(found)
        parts = [[w for layer in weights for w in layer]] if self.stackable else weights
        for first, part in zip(range(0, self.num_layers, self.num_layers // len(parts)), parts, strict=True):
            torch_fused.flatten(
                self.cell,
                part,
                bias=self.bias,
                input_size=self._input_size(first),
                hidden_size=self.hidden_sizes[first],
                proj_size=self.proj_size,
                num_layers=self.num_layers // len(parts),
                bidirectional=self.bidirectional,
            )

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        super()._apply(fn, recurse)
        self.flatten_parameters()
        return self

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "state_tuple"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._key = register(self.cell)
        self.state_tuple = tuple_class(self.cell)

    _defaults: ClassVar[dict[str, Any]] = {
        "num_layers": 1, "bias": True, "batch_first": False, "dropout": 0.0, "bidirectional": False, "proj_size": 0,
        "input_dropout": 0.0, "locked_dropout": 0.0, "recurrent_dropout": 0.0, "zoneout": 0.0, "weight_dropout": 0.0,
        "residual": "none", "merge": "concat", "forget_bias": None, "learn_initial_state": False,
    }  # fmt: skip

    def extra_repr(self) -> str:
        changed = [f"{k}={getattr(self, k)!r}" for k, default in self._defaults.items() if getattr(self, k) != default]
        return ", ".join([repr(self.cell), str(self.input_size), str(self.hidden_size), *changed])


def _stands_for(name: str, own: Mapping[str, int]) -> str | None:
    """Which of these layers' own names a parameter has, or is made from by pruning or a parametrization; else None."""
    base = name.split(".")[1] if name.startswith("parametrizations.") else name
    if base in own:
        return base
    # Such as weight_hh_l0_orig, weight_hh_l0_g and weight_hh_l0_reverse_v.
    return max((known for known in own if base.startswith(f"{known}_")), key=len, default=None)
