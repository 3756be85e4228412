"""Which backend runs a layer: the first that does not refuse it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from . import reference, torch_fused
from .call import LayerCall, LayerResult
from .cpu import run as cpu_engine
from .packing import run_padded

__all__ = ["BACKENDS", "allows", "backend", "engine_runs", "note", "record_backends", "run_eagerly"]

# In order of preference; the reference, which refuses nothing, is last.
BACKENDS = {module.name: module for module in (cpu_engine, torch_fused, reference)}

_forced: ContextVar[str | None] = ContextVar("recurra_backend", default=None)
_record: ContextVar[list[str] | None] = ContextVar("recurra_backend_record", default=None)


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


def allows(name: str) -> bool:
    """Whether no other backend is forced."""
    return _forced.get() in (None, name)


def note(name: str) -> None:
    """Record that a backend ran."""
    record = _record.get()
    if record is not None:
        record.append(name)


def engine_runs(call: LayerCall) -> bool:
    """Whether the fused CPU engine is the backend that runs a layer."""
    return allows(cpu_engine.name) and cpu_engine.refusal(call) is None


def run_eagerly(call: LayerCall) -> LayerResult:
    """Run a layer on the first backend that takes it.

    Raises:
        RuntimeError: if a forced backend refuses it.
    """
    if allows(cpu_engine.name):
        result = cpu_engine.run_at_once(call)
        if result is not None:
            note(cpu_engine.name)
            return result
    for name, module in BACKENDS.items():
        if not allows(name):
            continue
        if call.batch_sizes is not None and module is not cpu_engine:
            return run_padded(run_eagerly, call)
        reason = module.refusal(call)
        if reason is None:
            note(name)
            return module.run(call)
        if _forced.get() == name:
            raise RuntimeError(f"backend {name!r} cannot run this layer: {reason}.")
    raise AssertionError("the reference refuses nothing")
