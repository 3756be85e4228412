"""The recurrent layers of any network, found by walking its modules, with what they read and the gradients they get."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from ..errors import ConfigError
from ..kernels import LayerCall, LayerResult
from ..kernels.dispatch import run_eagerly, running_layers
from ..kernels.reference import run as run_reference
from ..layers import Recurrent
from .layer_steps import LayerSteps, steps_of_call
from .log_norms import log_norm, numbers

__all__ = ["ReadLayer", "joined_lags", "read_network"]


@dataclass(frozen=True, eq=False)
class ReadLayer:
    """One direction of one recurrent layer of a network, as it read some texts.

    Attributes:
        module: the name of the module among the network's.
        layer, direction: of the module, each from 0.
        steps: what it read, sequences of one length each.
        log_norms: for each state of the cell (lags, sequences), the logarithm of |dL/ds|, the lag being the number of
            steps after the state; NaN beyond a sequence's length. Nothing where no gradient reaches the layer, because
            the network keeps it as it is.
    """

    module: str
    layer: int
    direction: int
    steps: tuple[LayerSteps, ...]
    log_norms: Mapping[str, npt.NDArray[np.float64]]


@dataclass(eq=False)
class _Read:
    """One call of one layer: what it was given, and the states of each direction in the order of its steps."""

    call: LayerCall
    states: list[list[tuple[Tensor, ...]]] = field(default_factory=list)


def read_network(network: nn.Module, losses: Sequence[Callable[[], Tensor]]) -> list[ReadLayer]:
    """Run a network for each of several losses, and see what passes its recurrent layers.

    The gradients are the whole derivatives: through the later steps, the layers above and everything else up to the
    loss. A module that is called step by step, such as a decoder that attends between its steps, is read as one
    sequence.

    Args:
        network: whose weights take no gradient. Every `recurra.Recurrent` in it is looked at.
        losses: each runs the network, once, and gives a scalar.

    Raises:
        ConfigError: if there is no recurrent layer, or gradients overflow.
    """
    names: dict[nn.Module, str] = {
        module: name for name, module in network.named_modules() if isinstance(module, Recurrent)
    }
    if not names:
        raise ConfigError("the model has no recurrent layer of recurra to look at.")
    found: dict[tuple[str, int, int], list[tuple[_Read, Mapping[str, npt.NDArray[np.float64]]]]] = {}
    for loss in losses:
        reads: dict[tuple[str, int], list[_Read]] = {}
        with torch.enable_grad(), _recorded(names, reads):
            value = loss()
        joined = [(place, read) for place, calls in reads.items() for read in _joined(calls)]
        gradients = _gradients(value, [read for _, read in joined])
        for (name, layer), read in joined:
            for direction in range(len(read.states)):
                norms = _norms(read, direction, gradients)
                found.setdefault((name, layer, direction), []).append((read, norms))
    layers = []
    for (name, layer, direction), each in found.items():
        steps = [part for read, _ in each for part in steps_of_call(read.call, direction)]
        states = each[0][0].call.cell.states
        norms = {
            state: joined_lags([gradients[state] for _, gradients in each])
            for state in states
            if all(state in gradients for _, gradients in each)
        }
        layers.append(ReadLayer(name, layer, direction, tuple(steps), norms))
    return layers


def joined_lags(parts: Sequence[npt.NDArray[np.float64]]) -> npt.NDArray[np.float64]:
    """(lags, sequences) tables side by side, with NaN below the shorter ones."""
    longest = max(len(part) for part in parts)
    return np.concatenate(
        [np.pad(part, ((0, longest - len(part)), (0, 0)), constant_values=np.nan) for part in parts], axis=1
    )


@contextmanager
def _recorded(names: Mapping[nn.Module, str], reads: dict[tuple[str, int], list[_Read]]) -> Iterator[None]:
    """Keep what each layer reads, and its states, in `reads` by module and layer while the context lasts."""
    running: list[list[Any]] = []

    def begin(module: nn.Module, *_: Any) -> None:
        running.append([names[module], 0])

    def end(*_: Any) -> None:
        running.pop()

    def run(call: LayerCall) -> LayerResult:
        if not running:
            # Another network, such as the one that writes a translation whose loss is then taken.
            return run_eagerly(call)
        # A state that nothing was computed for begins the graph, because no weight does.
        call = replace(call, states=tuple(s if s.requires_grad else s.detach().requires_grad_() for s in call.states))
        name, layer = running[-1]
        running[-1][1] += 1
        read = _Read(call, [[] for _ in call.weights])
        reads.setdefault((name, layer), []).append(read)
        return run_reference(call, lambda direction, _, states: read.states[direction].append(states))

    handles = [module.register_forward_pre_hook(begin) for module in names]
    handles += [module.register_forward_hook(end, always_call=True) for module in names]
    try:
        with running_layers(run):
            yield
    finally:
        for handle in handles:
            handle.remove()


def _joined(reads: Sequence[_Read]) -> list[_Read]:
    """Calls of one layer as sequences: a call that goes on where the call before it ended belongs to it."""
    joined: list[_Read] = []
    for read in reads:
        before = joined[-1] if joined else None
        if before is None or not _goes_on(before, read):
            joined.append(read)
            continue
        call = replace(before.call, input=torch.cat([before.call.input, read.call.input]))
        joined[-1] = _Read(call, [before.states[0] + read.states[0]])
    return joined


def _goes_on(before: _Read, read: _Read) -> bool:
    if len(read.states) > 1 or not before.states[0] or before.call.lengths is not None or read.call.lengths is not None:
        return False
    last, first = before.states[0][-1], [state[0] for state in read.call.states]
    return all(a.shape == b.shape and torch.equal(a, b) for a, b in zip(last, first, strict=True))


def _gradients(value: Tensor, reads: Sequence[_Read]) -> dict[Tensor, Tensor | None]:
    """The gradient of every state that has a way to the loss, in one backward pass; None where it is zero."""
    every = (state for read in reads for steps in read.states for states in steps for state in states)
    wanted = list(dict.fromkeys(state for state in every if state.requires_grad))
    if not value.requires_grad or not wanted:
        return {}
    return dict(zip(wanted, torch.autograd.grad(value, wanted, allow_unused=True), strict=True))


def _norms(
    read: _Read, direction: int, gradients: Mapping[Tensor, Tensor | None]
) -> Mapping[str, npt.NDArray[np.float64]]:
    """(lags, B) of each state; nothing if no gradient could reach it."""
    states = read.states[direction]
    total, batch = len(states), read.call.states[0].shape[1]
    lengths = [total] * batch if read.call.lengths is None else [int(length) for length in read.call.lengths]
    norms = {}
    for index, name in enumerate(read.call.cell.states):
        of_state = [each[index] for each in states]
        if not of_state or any(state not in gradients for state in of_state):
            return {}
        stacked = torch.stack([_or_zeros(gradients[state], state) for state in of_state])
        if not bool(stacked.isfinite().all()):
            raise ConfigError(f"the gradients of the model overflow within {total:,} steps; look at fewer lags.")
        table = numbers(log_norm(stacked))
        # Padding stands behind a row's steps, and before them in the direction that runs backwards.
        rows = [table[total - n :, b] if direction == 1 else table[:n, b] for b, n in enumerate(lengths) if n]
        norms[name] = joined_lags([row[::-1, None] for row in rows])
    return norms


def _or_zeros(gradient: Tensor | None, state: Tensor) -> Tensor:
    return torch.zeros_like(state) if gradient is None else gradient
