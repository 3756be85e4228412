"""One direction of one recurrent layer over given sequences, taken apart into its steps."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from ..cells import Cell
from ..errors import ConfigError
from ..kernels import LayerCall
from ..kernels.dispatch import running_layers
from ..kernels.known_cells import register
from ..kernels.reference import Stepper
from ..kernels.reference import run as run_reference
from ..layers import Recurrent

__all__ = ["LayerSteps", "steps_of", "steps_of_call"]


@dataclass(frozen=True, eq=False)
class LayerSteps:
    """The steps that one direction of a layer takes over B sequences of T steps each.

    The state of a cell is all that it carries from step to step: of an LSTM h and c side by side. S is the width of all
    states together. The inputs of the steps are fixed numbers here, so the step is a map from state to state.

    Attributes:
        cell: the equations.
        weights: the parameters of the direction by name.
        input: (T, B, I), in the order in which the direction reads it.
        first: the value of each state before the first step, (B, H) each.
        zoneout: the proportion of its old value that each unit keeps.
    """

    cell: Cell
    weights: Mapping[str, Tensor]
    input: Tensor
    first: tuple[Tensor, ...]
    zoneout: float = 0.0

    @property
    def length(self) -> int:
        """T."""
        return self.input.shape[0]

    @property
    def batch(self) -> int:
        """B."""
        return self.input.shape[1]

    @property
    def widths(self) -> list[int]:
        """The width of each state."""
        return [state.shape[1] for state in self.first]

    def rows(self, count: int) -> LayerSteps:
        """The first `count` sequences alone."""
        if count >= self.batch:
            return self
        return replace(self, input=self.input[:, :count], first=tuple(state[:count] for state in self.first))

    @cached_property
    def products(self) -> Tensor:
        """W x + b_ih of every step, (T, B, G*H)."""
        with torch.no_grad():
            return self._stepper.input_product(self.input)

    @cached_property
    def _stepper(self) -> Stepper:
        return Stepper(self.cell, self.weights, register(self.cell))

    def step(self, product: Tensor, states: tuple[Tensor, ...], stepper: Stepper | None = None) -> tuple[Tensor, ...]:
        """New states from the input product (N, G*H) and the states (N, H) of any N rows; differentiable.

        Args:
            product, states: see above.
            stepper: one with other weights of the same shapes in place of the layer's own.
        """
        new = (stepper or self._stepper).step(product, states)
        if self.zoneout:
            p = self.zoneout
            new = tuple(p * old + (1 - p) * value for old, value in zip(states, new, strict=True))
        return new

    def step_vector(self, product: Tensor, vector: Tensor) -> Tensor:
        """The same with all states side by side: (N, S) to (N, S)."""
        return torch.cat(self.step(product, vector.split(self.widths, dim=-1)), dim=-1)

    @cached_property
    def vectors(self) -> Tensor:
        """The states side by side before the first step and after each step, (T+1, B, S).

        Raises:
            ConfigError: if they overflow.
        """
        with torch.no_grad():
            vector = torch.cat(self.first, dim=-1)
            found = [vector]
            for product in self.products.unbind(0):
                vector = self.step_vector(product, vector)
                found.append(vector)
            if not bool(vector.isfinite().all()):
                raise ConfigError(
                    f"the states of the layer overflow within {self.length:,} steps; look at fewer lags, or at smaller "
                    "weights."
                )
            return torch.stack(found)

    def jacobians(self, numbers: int = 1 << 22) -> Iterator[tuple[int, Tensor]]:
        """The Jacobian of every step, the last step first.

        Args:
            numbers: how many numbers the largest tensor of a piece may hold, if a single step does not hold more.

        Yields:
            t from T-1 down to 0, and d(state after step t)/d(state before it), (B, S, S).
        """
        size, batch = sum(self.widths), self.batch
        piece = max(1, numbers // max(1, size * batch * self.products.shape[-1]))
        seeds = torch.eye(size, dtype=self.input.dtype, device=self.input.device)
        for end in range(self.length, 0, -piece):
            begin = max(0, end - piece)
            before = self.vectors[begin:end].reshape(-1, size).requires_grad_()
            with torch.enable_grad():
                after = self.step_vector(self.products[begin:end].reshape(len(before), -1), before)
            given = seeds.unsqueeze(1).expand(size, len(before), size)
            (rows,) = torch.autograd.grad(after, before, given, is_grads_batched=True)
            # rows[i, n] is the gradient of the i-th number of the state after the step.
            steps = rows.transpose(0, 1).reshape(end - begin, batch, size, size)
            yield from ((t, steps[t - begin]) for t in range(end - 1, begin - 1, -1))


def steps_of_call(call: LayerCall, direction: int = 0, dtype: torch.dtype = torch.float64) -> list[LayerSteps]:
    """The steps of one direction of a layer that is called, as many `LayerSteps` as there are different lengths.

    Args:
        call: the layer; the masks of its dropout are left out.
        direction: 1 is the direction that runs backwards in time; its input is turned round within each row's length.
        dtype: to compute in.

    Raises:
        ConfigError: if new sequences begin within the rows.
    """
    if call.resets is not None:
        raise ConfigError("resets: gradients are looked at within whole sequences; give one sequence a row.")
    call = call.to(dtype)
    weights = {name: weight.detach() for name, weight in call.weights[direction].items()}
    input, total = call.input.detach(), call.input.shape[0]
    lengths = [total] * input.shape[1] if call.lengths is None else [int(length) for length in call.lengths]
    found = []
    for length in sorted(set(lengths) - {0}, reverse=True):
        rows = torch.tensor([row for row, each in enumerate(lengths) if each == length], device=input.device)
        read = input[:length].index_select(1, rows)
        first = tuple(state[direction].detach().index_select(0, rows) for state in call.states)
        found.append(LayerSteps(call.cell, weights, read.flip(0) if direction == 1 else read, first, call.zoneout))
    return found


def steps_of(
    layers: Recurrent,
    input: Tensor,
    hx: Any = None,
    *,
    layer: int = 0,
    direction: int = 0,
    dtype: torch.dtype = torch.float64,
) -> LayerSteps:
    """The steps of one layer of a stack over a batch of sequences of one length.

    The layers below run as in evaluation, without dropout.

    Args:
        layers: such as `recurra.LSTM`.
        input: as its `forward` takes it, without padding: (T, B, I), or (B, T, I) if it is batch first.
        hx: the states before the first step, as its `forward` takes them.
        layer: which, from the bottom, 0 the first.
        direction: 1 is the direction that runs backwards in time.
        dtype: to compute in; the layers themselves are run in their own.

    Raises:
        ConfigError: if there is no such layer or direction, or the input has no steps.
    """
    if not 0 <= layer < layers.num_layers:
        raise ConfigError(f"layer: there are {layers.num_layers} layers, from 0; there is no layer {layer}.")
    if not 0 <= direction < layers.num_directions:
        raise ConfigError(f"direction: these layers have {layers.num_directions}; there is no direction {direction}.")
    calls: list[LayerCall] = []

    def keep(call: LayerCall) -> Any:
        calls.append(call)
        return run_reference(call)

    training = layers.training
    try:
        with torch.no_grad(), running_layers(keep):
            layers.eval()(input, hx)
    finally:
        layers.train(training)
    found = steps_of_call(calls[layer], direction, dtype)
    if not found:
        raise ConfigError("input: has no steps; give at least one.")
    return found[0]
