"""The choice of a backend: the only place that decides what runs a layer, a stack of layers, or a step.

Layers and operators describe what is to be run and are given its result, or whatever runs it. The backends answer for
themselves what they cannot run (`refusal`); the first in `BACKENDS` that refuses nothing runs the call.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Protocol

import torch
from torch import Tensor

from ..cells import Cell
from . import reference, torch_fused
from .call import LayerCall, LayerResult, Stepping
from .cpu import run as cpu_engine
from .cpu.layer_run import LayerRun
from .cpu.stream import EngineStepping
from .operators.calls import call_layer, call_layer_training
from .packing import run_padded
from .surroundings import transformed, watched

__all__ = [
    "BACKENDS",
    "Stack",
    "backend",
    "engine_run",
    "keeps_packed",
    "record_backends",
    "run_eagerly",
    "run_layer",
    "run_step",
    "running_layers",
    "stack_runner",
    "stepping",
]

# In order of preference; the reference, which refuses nothing, is last.
BACKENDS = {module.name: module for module in (cpu_engine, torch_fused, reference)}

_forced: ContextVar[str | None] = ContextVar("recurra_backend", default=None)
_record: ContextVar[list[str] | None] = ContextVar("recurra_backend_record", default=None)
_in_place: ContextVar[Callable[[LayerCall], LayerResult] | None] = ContextVar("recurra_in_place", default=None)

# The oldest torch that is supported has no is_exporting; exported graphs then hold layer_training, which is right too.
_exporting = getattr(torch.compiler, "is_exporting", lambda: False)


@contextmanager
def backend(name: str) -> Iterator[None]:
    """Run layers on one backend while the context lasts: "cpu" (the fused engine), "torch" or "reference".

    A layer that the named backend cannot run is an error there, so that a measurement never runs on another by mistake.

    Raises:
        ValueError: if there is no such backend.
    """
    if name not in BACKENDS:
        raise ValueError(f"there is no backend {name!r}; there are {', '.join(BACKENDS)}.")
    token = _forced.set(name)
    try:
        yield
    finally:
        _forced.reset(token)


@contextmanager
def record_backends() -> Iterator[list[str]]:
    """A list that gets the name of the backend of each layer, or whole stack, that runs while the context lasts."""
    record: list[str] = []
    token = _record.set(record)
    try:
        yield record
    finally:
        _record.reset(token)


@contextmanager
def running_layers(run: Callable[[LayerCall], LayerResult]) -> Iterator[None]:
    """Run each layer of every stack by a function in place of the backends while the context lasts.

    For those who look into a layer: the function sees the layer's input, states and weights. It is called with padded
    input, layer by layer. Single steps (`recurra.LSTMCell`), streams, and what torch compiles or traces run as ever.

    Args:
        run: what takes the place of `run_eagerly`; `reference.run` gives the right result for every call.
    """
    token = _in_place.set(run)
    try:
        yield
    finally:
        _in_place.reset(token)


def _allows(name: str) -> bool:
    """Whether no other backend is forced."""
    return _forced.get() in (None, name)


def _note(name: str) -> None:
    """Record that a backend runs something."""
    record = _record.get()
    if record is not None:
        record.append(name)


def run_layer(call: LayerCall) -> LayerResult:
    """Run a layer on the first backend that takes it; where torch looks at operators (`watched`), as one operator.

    Raises:
        RuntimeError: if a forced backend refuses the layer.
    """
    if not watched():
        in_place = _in_place.get()
        return run_eagerly(call) if in_place is None else in_place(call)
    if transformed():
        # The operators have no rule for vmap within vmap or forward-mode derivatives; the reference needs none.
        return reference.run(call)
    # torch.jit.trace traces a function with and without gradients and demands the same graph, so it gets `layer`.
    if not torch.jit.is_tracing() and _to_be_trained_on_engine(call):
        return call_layer_training(call)
    return call_layer(call)


def _to_be_trained_on_engine(call: LayerCall) -> bool:
    """Whether a layer that is being compiled will be trained on the fused CPU engine, as far as can be known.

    An exported graph is for inference, and keeps nothing for a backward pass.
    """
    if _exporting() or not torch.is_grad_enabled() or not any(leaf.requires_grad for leaf in call.leaves()):
        return False
    return cpu_engine.expected_to_run(call)


def run_eagerly(call: LayerCall) -> LayerResult:
    """Run a layer at once, not as an operator, on the first backend that takes it.

    Raises:
        RuntimeError: if a forced backend refuses the layer.
    """
    if _allows(cpu_engine.name):
        result = cpu_engine.run_at_once(call)
        if result is not None:
            _note(cpu_engine.name)
            return result
    for name, module in BACKENDS.items():
        if not _allows(name):
            continue
        if call.batch_sizes is not None and module is not cpu_engine:
            return run_padded(run_eagerly, call)
        reason = module.refusal(call)
        if reason is None:
            _note(name)
            return module.run(call)
        if _forced.get() == name:
            raise RuntimeError(f"backend {name!r} cannot run this layer: {reason}.")
    raise AssertionError("the reference refuses nothing")


def _engine_takes(call: LayerCall) -> bool:
    return _allows(cpu_engine.name) and cpu_engine.refusal(call) is None


def engine_run(call: LayerCall) -> LayerRun | None:
    """The fused CPU engine's run of a layer, for a caller that calls its `backward` itself.

    None if another backend is to run the layer.
    """
    if not _engine_takes(call):
        return None
    _note(cpu_engine.name)
    return cpu_engine.ready(call)


def stepping(call: LayerCall) -> Stepping:
    """What takes one step of a layer at a time, for inference.

    Args:
        call: cell, weights, first states and zoneout, checked and in one dtype; of the input only the shape is used.
    """
    if _engine_takes(call):
        _note(cpu_engine.name)
        return EngineStepping(call)
    _note(reference.name)
    return reference.ReferenceStepping(call)


def run_step(
    cell: Cell, key: str, input: Tensor, states: tuple[Tensor, ...], weights: Mapping[str, Tensor]
) -> tuple[Tensor, ...]:
    """One differentiable step, on torch's own step if it has one, else on the reference.

    Args:
        cell: the equations.
        key: the cell's key in known_cells.py.
        input: (B, I).
        states: each (B, H).
        weights: the parameters of one direction by name.

    Returns:
        The new states, each (B, H).

    Raises:
        RuntimeError: if a forced backend has no step of the cell.
    """
    compiling = torch.compiler.is_compiling()
    # torch's own steps give torch.nn's numbers to the bit, but have no rule for vmap over the weights.
    if torch_fused.has_step(key) and (compiling or _allows(torch_fused.name)) and not transformed():
        if not compiling:
            _note(torch_fused.name)
        return torch_fused.run_step(key, input, states, weights)
    if compiling and not transformed():
        return _step_as_layer(cell, key, input, states, weights)
    if not compiling:
        if not _allows(reference.name):
            raise RuntimeError(
                f"the backend that recurra.backend names cannot run a single step of {cell!r}; "
                "leave its block, or name 'reference'."
            )
        _note(reference.name)
    return reference.run_step(cell, key, input, states, weights)


def _step_as_layer(
    cell: Cell, key: str, input: Tensor, states: tuple[Tensor, ...], weights: Mapping[str, Tensor]
) -> tuple[Tensor, ...]:
    """The step as a layer over one step: one operator, because torch.compile cannot trace a cell's own equations."""
    first = tuple(state.unsqueeze(0) for state in states)
    call = LayerCall(cell, input.unsqueeze(0), first, (weights,), key=key)
    # Under autocast the operator's results have a narrower dtype than the states; a step keeps the states' dtype.
    return tuple(new.squeeze(0).to(old.dtype) for new, old in zip(run_layer(call).final, states, strict=True))


class Stack(Protocol):
    """Layers one above the other, as far as the choice of their backend depends on them: a `recurra.Recurrent`.

    Attributes:
        cell: the equations of all layers.
        proj_size: P, or 0 without a projection.
        like_torch: whether torch.nn has such layers.
    """

    cell: Cell
    proj_size: int

    @property
    def like_torch(self) -> bool: ...


def keeps_packed(stack: Stack, input: Tensor, all_states: bool) -> bool:
    """Whether the backend of a stack takes packed rows; for any other they are padded once, before the first layer.

    Args:
        stack: the layers.
        input: packed rows (N, I).
        all_states: whether every state of every step is wanted.
    """
    if all_states:
        return False
    return _engine_takes_stack(stack, input) or (torch_fused.packs(input) and _torch_takes_stack(stack, input))


def stack_runner(
    stack: Stack, input: Tensor, all_states: bool, ragged: bool
) -> Callable[..., tuple[Tensor, tuple[Tensor, ...]]] | None:
    """The function that runs a stack in one call, `torch_fused.run_stack`; None if its layers are to run one by one.

    Args:
        stack: the layers.
        input: (T, B, I), or packed rows (N, I).
        all_states: whether every state of every step is wanted.
        ragged: whether rows differ in length: the input is packed, or comes with lengths.
    """
    if all_states or input.shape[0] == 0 or (ragged and not torch_fused.packs(input)):
        return None
    if not _torch_takes_stack(stack, input):
        return None
    _note(torch_fused.name)
    return torch_fused.run_stack


def _engine_takes_stack(stack: Stack, input: Tensor) -> bool:
    if watched() or _in_place.get() is not None:
        return False
    return _allows(cpu_engine.name) and cpu_engine.available(stack.cell, input) is None


def _torch_takes_stack(stack: Stack, input: Tensor) -> bool:
    """Whether torch's kernels are to run the whole stack in one call, exactly as torch.nn does."""
    return (
        # torch.jit.trace records torch's own call, as it does for torch.nn's layers, and not an operator of recurra.
        (not watched() or torch.jit.is_tracing())
        and _in_place.get() is None
        and not _engine_takes_stack(stack, input)
        and stack.like_torch
        and torch_fused.kind_of(stack.cell) is not None
        and not (stack.proj_size and input.device.type == "mps")
        and _allows(torch_fused.name)
        and not transformed()
    )
