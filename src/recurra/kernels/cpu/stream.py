"""A layer on the engine that takes one step at a time, its weights packed once."""

from __future__ import annotations

import torch
from torch import Tensor

from ..call import LayerCall
from ..surroundings import readable, whole
from .compiled import compiled, engine

__all__ = ["EngineStepping"]

# Threads wait for each other once a step. That costs as much as so many multiplications.
_WORTH_A_THREAD = 150_000


class EngineStepping:
    """One layer that takes a step at a time.

    Args:
        call: cell, weights, first states and zoneout, checked and in one dtype; of the input only the shape is used.
    """

    output_is_state = False

    def __init__(self, call: LayerCall) -> None:
        cell = compiled(call.cell)
        module = engine()
        assert cell is not None and module is not None
        (weights,) = call.weights
        self._dtype = call.input.dtype
        self._narrow = self._dtype == torch.bfloat16
        dtype = torch.float32 if self._narrow else self._dtype
        # Matrices in bfloat16 are read as they are.
        weights = {name: whole(w) if w.dim() == 2 else whole(w).to(dtype) for name, w in weights.items()}
        states = [whole(state[0]).to(dtype) for state in call.states]
        self._inside = dtype
        self._batch = states[0].shape[0]
        self._widths = [state.shape[1] for state in states]
        input_size = call.input.shape[2]
        hidden = call.hidden
        work = self._batch * (input_size + hidden) * hidden * len(cell.plan.products) // 2

        def address(name: str) -> int:
            return weights[name].data_ptr() if name in weights else 0

        self._stream = module.Stream(
            cell=cell.run,
            is_double=self._dtype == torch.float64,
            sizes=[self._batch, input_size, hidden, self._widths[0] if call.projection else 0],
            threads=max(1, min(torch.get_num_threads(), work // _WORTH_A_THREAD)),
            weights=[address(name) for name in cell.matrices],
            biases=[address("bias_ih"), address("bias_hh")],
            vectors=[address(name) for name in cell.vectors],
            initial=[state.data_ptr() for state in states],
            zoneout=call.zoneout,
            projection=address("weight_hr"),
            round_weights=self._narrow,
            bfloat16_weights=self._narrow,
        )
        self._step = self._stream.step

    def step(self, x: Tensor) -> Tensor:
        """Take one step: input (B, I) to output (B, H or P)."""
        if x.dtype != self._dtype or not readable(x):
            raise ValueError(f"a step takes {self._dtype} on the CPU in a plain tensor, not {x.dtype} on {x.device}")
        if not x.is_contiguous() or x.is_neg():
            x = whole(x)
        output = torch.empty((self._batch, self._widths[0]), dtype=self._inside, device="cpu")
        if self._narrow:
            x = x.float()
        self._step(x.data_ptr(), output.data_ptr())
        return output.to(self._dtype) if self._narrow else output

    @property
    def states(self) -> tuple[Tensor, ...]:
        """The present value of each state, (B, H), h of a projection (B, P); may be set."""
        states = tuple(torch.empty((self._batch, width), dtype=self._inside, device="cpu") for width in self._widths)
        for index, state in enumerate(states):
            self._stream.read(index, state.data_ptr())
        return tuple(state.to(self._dtype) for state in states)

    @states.setter
    def states(self, states: tuple[Tensor, ...]) -> None:
        for index, state in enumerate(states):
            expected = (self._batch, self._widths[index])
            if state.shape != expected:
                raise ValueError(f"a state must have shape {expected}, not {tuple(state.shape)}")
            kept = whole(state.to("cpu", self._inside))
            if not readable(kept):
                raise ValueError(f"a stream's state must be a plain tensor, not {type(state).__name__}")
            self._stream.write(index, kept.data_ptr())
