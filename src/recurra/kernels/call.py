"""What a backend is given and what it returns: one layer over a whole sequence, or step by step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Protocol

import torch
from torch import Tensor

from ..cells import Cell
from .surroundings import lacks_memory

__all__ = [
    "LayerCall",
    "LayerResult",
    "Stepping",
    "autocast_dtype",
    "check_operands",
    "check_range",
    "weight_names",
    "weight_shapes",
]


def weight_names(cell: Cell, bias: bool, projection: bool) -> list[str]:
    """The names of one direction's parameters, in the order of torch.nn's followed by the cell's own."""
    names = ["weight_ih", "weight_hh"]
    if bias:
        names += ["bias_ih", "bias_hh"]
    if projection:
        names.append("weight_hr")
    return names + [f"weight_{name}" for name in (*cell.vectors, *cell.matrices)]


@lru_cache(maxsize=256)
def _gates(cell: Cell) -> int:
    # Cached, because a cell may compute its gates each time that they are asked for.
    return len(cell.gates)


@lru_cache(maxsize=256)
def weight_shapes(cell: Cell, input_size: int, hidden: int, projected: int) -> dict[str, tuple[int, ...]]:
    """The shape of each parameter of one direction; h has `projected` units, or `hidden` units if `projected` is 0."""
    rows, width = _gates(cell) * hidden, projected or hidden
    shapes: dict[str, tuple[int, ...]] = {"weight_ih": (rows, input_size), "weight_hh": (rows, width)}
    shapes |= {"bias_ih": (rows,), "bias_hh": (rows,), "weight_hr": (width, hidden)}
    shapes |= {f"weight_{name}": (hidden,) for name in cell.vectors}
    return shapes | {f"weight_{name}": (hidden, hidden) for name in cell.matrices}


def check_range(lengths: Tensor, steps: int) -> None:
    """Raise ValueError for a length, on the CPU, that is negative or beyond the input's steps."""
    if lengths.numel() == 0:
        return
    low, high = (int(bound) for bound in lengths.aminmax())
    if low < 0 or high > steps:
        raise ValueError(f"lengths must lie between 0 and the input's {steps} steps, not {low} to {high}")


def autocast_dtype(like: Tensor) -> torch.dtype | None:
    """The dtype that autocast asks for on a tensor's device; None outside of autocast and for float64."""
    if not torch.compiler.is_compiling() and not torch._C._is_any_autocast_enabled():
        return None
    kind = like.device.type
    if like.dtype != torch.float64 and torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind):
        return torch.get_autocast_dtype(kind)
    return None


def check_operands(*tensors: Tensor) -> None:
    """Raise RuntimeError if torch's own functions cannot compute with tensors; torch would say so badly, or crash.

    It cannot if the tensors differ in dtype outside of autocast, or if a tensor is not dense or its memory was freed.
    """
    for tensor in tensors:
        if tensor.layout is not torch.strided:
            raise RuntimeError(f"the input, states and weights of a layer must be dense, not {tensor.layout}")
        if type(tensor) in (Tensor, torch.nn.Parameter) and tensor.numel() and lacks_memory(tensor):
            raise RuntimeError("the memory of a layer's input, state or weight was freed, as sharding does")
    dtypes = {tensor.dtype for tensor in tensors}
    if len(dtypes) > 1 and autocast_dtype(tensors[0]) is None:
        names = " and ".join(sorted(str(dtype) for dtype in dtypes))
        raise RuntimeError(f"the input, states and weights of a layer must have one dtype, not {names}")


# Neither LayerCall nor LayerResult is frozen, because a frozen dataclass takes longer to make; nobody changes them.
@dataclass(slots=True, eq=False)
class LayerCall:
    """One layer to run. T steps, B rows, D directions, S states; H is a state's width (P for a projected h).

    Attributes:
        cell: the equations.
        input: (T, B, I); with `batch_sizes` (N, I), only the rows that count, step after step, the longest first.
        states: initial value of each state, (D, B, H).
        weights: for each direction its parameters by name; the second direction runs backwards in time.
        lengths: (B,) integers, how many steps of each row count, or None when all of them do.
        batch_sizes: (T,) int64 on the CPU, rows of each step of a packed input, as in a PackedSequence, or None.
            Outputs, masks of zoneout and resets then have the shape (N, ...) instead of (T, B, ...).
        recurrent_mask: (D, B, H or P), multiplies whatever enters the product with `weight_hh`, or None.
        zoneout: probability with which a unit keeps its old state.
        zoneout_masks: for each state (T, B, D*H), True where the old value stays; empty at evaluation, when old and new
            values are mixed in the proportion `zoneout`.
        all_states: whether every state of every step is wanted, not just h.
        resets: (T, B) booleans, True where a new sequence begins with this step of a row, or None. The second
            direction runs backwards, and begins its new sequence with the step before this step.
        restart: with resets the value of each state at the beginning of a new sequence, (D, 1, H); else empty.
        key: the cell's key in known_cells.py, or empty. torch.compile cannot compute the key from the cell.
    """

    cell: Cell
    input: Tensor
    states: tuple[Tensor, ...]
    weights: tuple[Mapping[str, Tensor], ...]
    lengths: Tensor | None = None
    recurrent_mask: Tensor | None = None
    zoneout: float = 0.0
    zoneout_masks: tuple[Tensor, ...] = ()
    all_states: bool = False
    batch_sizes: Tensor | None = None
    resets: Tensor | None = None
    restart: tuple[Tensor, ...] = ()
    key: str = ""

    def to(self, dtype: torch.dtype) -> LayerCall:
        """The same call in another dtype."""
        mask = self.recurrent_mask
        return replace(
            self,
            input=self.input.to(dtype),
            states=tuple(state.to(dtype) for state in self.states),
            weights=tuple({name: weight.to(dtype) for name, weight in d.items()} for d in self.weights),
            recurrent_mask=None if mask is None else mask.to(dtype),
            restart=tuple(state.to(dtype) for state in self.restart),
        )

    @property
    def bias(self) -> bool:
        return "bias_ih" in self.weights[0]

    @property
    def projection(self) -> bool:
        return "weight_hr" in self.weights[0]

    @property
    def hidden(self) -> int:
        """H, also with a projection."""
        return self.weights[0]["weight_hh"].shape[0] // _gates(self.cell)

    def leaves(self) -> list[Tensor]:
        """The tensors that can have a gradient: input, initial states, each direction's weights, and restart."""
        weights = [weight for direction in self.weights for weight in direction.values()]
        return [self.input, *self.states, *weights, *self.restart]

    def with_leaves(self, leaves: list[Tensor]) -> LayerCall:
        """The same call on other tensors, in the order of `leaves`."""
        rest = iter(leaves)
        return replace(
            self,
            input=next(rest),
            states=tuple(next(rest) for _ in self.states),
            weights=tuple({name: next(rest) for name in direction} for direction in self.weights),
            restart=tuple(next(rest) for _ in self.restart),
        )

    def check(self) -> None:
        """Raise RuntimeError if a tensor is missing or its shape does not fit the other tensors.

        The engine reads tensors by address and relies on this check.
        """
        cell, input, states, weights = self.cell, self.input, self.states, self.weights
        packed = self.batch_sizes is not None
        directions = len(weights)
        if directions not in (1, 2):
            raise RuntimeError(f"a layer has the weights of 1 or 2 directions, not of {directions}")
        if len(states) != len(cell.states):
            raise RuntimeError(f"{cell!r} has {len(cell.states)} states, but {len(states)} were given")
        rows, first, first_state = input.shape, weights[0], states[0].shape
        if len(rows) != (2 if packed else 3):
            raise RuntimeError(f"the input must have {2 if packed else 3} dimensions, not {len(rows)}")
        gates = first["weight_hh"].shape
        if len(gates) != 2 or len(first_state) != 3:
            raise RuntimeError("weight_hh must have 2 dimensions and every state 3")
        hidden = gates[0] // _gates(cell)
        projected = first["weight_hr"].shape[0] if "weight_hr" in first else 0
        width = projected or hidden
        sizes = (rows[-1], hidden, projected)
        # The cache takes no symbolic sizes, which torch.compile and torch.export bring.
        shapes = weight_shapes if all(type(size) is int for size in sizes) else weight_shapes.__wrapped__
        self._check_weights(shapes(cell, *sizes))
        batch = first_state[1] if packed else rows[1]
        shape = (directions, batch, hidden)
        wanted = (directions, batch, width)
        for index, state in enumerate(states):
            if state.shape != wanted:
                raise RuntimeError(f"the state {cell.states[index]} must have shape {wanted}, not {tuple(state.shape)}")
            wanted = shape
        if self.zoneout or not (self.recurrent_mask is self.lengths is self.resets is None):
            self._check_options(shape, width)

    def _check_weights(self, expected: Mapping[str, tuple[int, ...]]) -> None:
        for direction in self.weights:
            for name, weight in direction.items():
                if weight.shape == expected[name]:
                    continue
                # The weights may disagree among themselves: the states then tell which weight is wrong.
                hidden = self.states[-1].shape[2] if len(self.states) > 1 or not self.projection else self.hidden
                others = weight_shapes(self.cell, self.input.shape[-1], hidden, self.states[0].shape[2])
                for other, value in direction.items():
                    if value.shape != others[other]:
                        name, weight, expected = other, value, others
                        break
                raise RuntimeError(f"the layer's {name} must have shape {expected[name]}, not {tuple(weight.shape)}")

    def _check_options(self, shape: tuple[int, int, int], width: int) -> None:
        directions, batch, hidden = shape
        rows = tuple(self.input.shape[:-1])
        widths = [width] + [hidden] * (len(self.states) - 1)

        def demand(what: str, tensor: Tensor, wanted: tuple[int, ...], boolean: bool = False) -> None:
            if tensor.shape != wanted or (boolean and tensor.dtype != torch.bool):
                kind = "booleans of shape" if boolean else "shape"
                found = f"{tensor.dtype} of {tuple(tensor.shape)}"
                raise RuntimeError(f"the layer's {what} must have {kind} {wanted}, not {found}")

        if not 0 <= self.zoneout <= 1:
            raise RuntimeError(f"the layer's zoneout must be a probability, not {self.zoneout}")
        if self.recurrent_mask is not None:
            demand("mask of recurrent dropout", self.recurrent_mask, (directions, batch, width))
        if self.zoneout_masks and len(self.zoneout_masks) != len(self.states):
            raise RuntimeError(f"zoneout needs a mask for each of {len(self.states)} states")
        for masks, of in zip(self.zoneout_masks, widths, strict=False):
            demand("masks of zoneout", masks, (*rows, directions * of), True)
        if self.lengths is not None:
            demand("lengths", self.lengths, (batch,))
            if self.lengths.is_floating_point() or self.lengths.dtype == torch.bool:
                raise RuntimeError(f"the layer's lengths must be integers, not {self.lengths.dtype}")
        if self.resets is None:
            return
        demand("resets", self.resets, rows, True)
        if len(self.restart) != len(self.states):
            raise RuntimeError(f"resets need a value to begin anew with for each of {len(self.states)} states")
        for state, of in zip(self.restart, widths, strict=True):
            demand("states to begin anew with", state, (directions, 1, of))


@dataclass(slots=True, eq=False)
class LayerResult:
    """The result of a layer.

    Attributes:
        outputs: h of every step, (T, B, D*H), zero beyond a row's length; with `all_states` each state likewise.
        final: each state after the last step that counts, (D, B, H).
    """

    outputs: tuple[Tensor, ...]
    final: tuple[Tensor, ...]


class Stepping(Protocol):
    """One layer that takes one step at a time and holds its own state, for inference.

    Attributes:
        states: the present value of each state, (B, H); may be set.
        output_is_state: whether `step` returns the tensor of the state itself, which a caller must not change.
    """

    states: tuple[Tensor, ...]
    output_is_state: bool

    def step(self, x: Tensor) -> Tensor:
        """Take one step: input (B, I) to output (B, H)."""
