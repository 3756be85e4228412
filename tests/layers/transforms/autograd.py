"""Ways of the autograd engine: saved tensors, checkpoints, second backwards, second derivatives, threads."""

from __future__ import annotations

import ctypes
import mmap
import threading
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import save_on_cpu, saved_tensors_hooks
from torch.utils.checkpoint import CheckpointPolicy, checkpoint, create_selective_checkpoint_contexts

from .problem import Problem, compare, gradients, loss

__all__ = ["WAYS", "in_other_strides", "in_read_only_memory"]


def eager(p: Problem) -> None:
    p.run_and_check(p.runner)
    p.run_and_check(p.runner, seed=1)


def functional_call(p: Problem) -> None:
    given = {name: value.requires_grad_() for name, value in p.detached.items()}
    with torch.no_grad():
        for parameter in p.parameters.values():
            parameter.zero_()
    inputs = p.inputs(requires_grad=True)
    outputs = p.with_parameters(given, *inputs)
    p.check(outputs, gradients(outputs, (*inputs, *given.values())))


def no_grad(p: Problem) -> None:
    with torch.no_grad():
        outputs = p.runner(*p.inputs(requires_grad=True))
    assert not any(value.requires_grad for value in outputs)
    p.check_outputs(outputs)


def inference_mode(p: Problem) -> None:
    with torch.inference_mode():
        outputs = p.runner(*p.inputs())
        assert all(value.is_inference() for value in outputs) or not p.has_gradients
        p.check_outputs(outputs)
    p.run_and_check(p.runner)


def inference_tensors(p: Problem) -> None:
    """Inputs made in inference mode, used outside of it."""
    with torch.inference_mode():
        inputs = p.inputs()
    with torch.no_grad():
        p.check_outputs(p.runner(*inputs))


def some_need_gradients(p: Problem) -> None:
    """Each differentiable thing alone."""
    for chosen in range(1 + p.states + len(p.names)):
        inputs = p.inputs()
        everything = (*inputs, *p.parameters.values())
        for index, value in enumerate(everything):
            value.requires_grad_(index == chosen)
        outputs = p.runner(*inputs)
        p.check_outputs(outputs)
        p.check_derivatives(gradients(outputs, (everything[chosen],)), (p.expected()[1][chosen],))


def checkpointed(use_reentrant: bool) -> Callable[[Problem], None]:
    def way(p: Problem) -> None:
        p.run_and_check(lambda *z: checkpoint(p.runner, *z, use_reentrant=use_reentrant))

    return way


def reentrant_checkpoint(p: Problem) -> None:
    """Reentrant checkpoints have torch.autograd.backward alone."""
    inputs = p.inputs(requires_grad=True)
    outputs = checkpoint(p.runner, *inputs, use_reentrant=True)
    loss(outputs).backward()
    p.check(outputs, [value.grad for value in (*inputs, *p.parameters.values())])


def selective_checkpoint(policy: CheckpointPolicy) -> Callable[[Problem], None]:
    def way(p: Problem) -> None:
        def contexts() -> Any:
            return create_selective_checkpoint_contexts(lambda context, op, *a, **k: policy)

        p.run_and_check(lambda *z: checkpoint(p.runner, *z, use_reentrant=False, context_fn=contexts))

    return way


def with_hooks(pack: Callable[[Tensor], Any], unpack: Callable[[Any], Tensor]) -> Callable[[Problem], None]:
    def way(p: Problem) -> None:
        seen = []

        def packing(value: Tensor) -> Any:
            seen.append(value.shape)
            return pack(value)

        def run(*inputs: Tensor) -> Any:
            with saved_tensors_hooks(packing, unpack):
                return p.runner(*inputs)

        p.run_and_check(run)
        assert seen, "no tensor that backward needs went through the hooks"

    return way


def saved_on_cpu(p: Problem) -> None:
    def run(*inputs: Tensor) -> Any:
        with save_on_cpu():
            return p.runner(*inputs)

    p.run_and_check(run)


def in_other_strides(value: Tensor) -> Tensor:
    """The same numbers with gaps in memory, the dimensions in the reverse order there."""
    if value.layout is not torch.strided:
        return value
    held = value.detach().new_empty([2 * size for size in reversed(value.shape)])
    view = held[tuple(slice(None, None, 2) for _ in value.shape)].permute(*reversed(range(value.dim())))
    return view.copy_(value.detach())


def in_read_only_memory(value: Tensor) -> Tensor:
    """The same numbers in memory that the system forbids to write to."""
    content = value.detach().cpu().contiguous()
    if not content.numel():
        return content
    raw = content.reshape(-1).view(torch.uint8).numpy().tobytes()
    place = mmap.mmap(-1, len(raw))
    place.write(raw)
    result = torch.frombuffer(place, dtype=torch.uint8)
    address, pages = result.data_ptr(), -(-len(raw) // mmap.PAGESIZE) * mmap.PAGESIZE
    protect(address, pages)
    return result.view(content.dtype).view(content.shape)


def protect(address: int, size: int) -> None:
    if ctypes.CDLL(None, use_errno=True).mprotect(ctypes.c_void_p(address), ctypes.c_size_t(size), 1) != 0:
        raise OSError(ctypes.get_errno(), "mprotect failed")


def read_only_hooks(p: Problem) -> None:
    with_hooks(in_read_only_memory, lambda value: value)(p)


def another_dtype(p: Problem) -> None:
    """float32 where float64 was saved: its rounding, or an error."""
    inputs = p.inputs(requires_grad=True)
    with saved_tensors_hooks(lambda value: value, lambda v: v.float() if v.is_floating_point() else v):
        outputs = p.runner(*inputs)
    p.check_outputs(outputs)
    found = gradients(outputs, (*inputs, *p.parameters.values()))
    # A saved number is rounded by up to 6e-8 of itself, and a sum has some dozens of them.
    p.check_derivatives(found, p.expected()[1], 1e-4)


def retained_twice(p: Problem) -> None:
    inputs = p.inputs(requires_grad=True)
    outputs = p.runner(*inputs)
    for last in (False, False, True):
        p.check(outputs, gradients(outputs, (*inputs, *p.parameters.values()), retain_graph=not last))


def double_backward(p: Problem) -> None:
    """Gradients of a penalty on gradients, by everything."""
    results = []
    for run in (p.runner, lambda *z: p.plain(p.parameters, *z)):
        inputs = p.inputs(requires_grad=True)
        everything = (*inputs, *p.parameters.values())
        first = gradients(run(*inputs), everything, create_graph=True)
        penalty = torch.stack([(index + 1) * value.square().sum() for index, value in enumerate(first)]).sum()
        results.append(torch.autograd.grad(penalty, everything, materialize_grads=True))
    compare("second derivative", *results)


def from_two_threads(p: Problem) -> None:
    inputs = p.inputs(requires_grad=True)
    everything = (*inputs, *p.parameters.values())
    outputs = p.runner(*inputs)
    found: list[Any] = []

    def work() -> None:
        try:
            for _ in range(10):
                found.append(gradients(outputs, everything, retain_graph=True))
        except BaseException as error:
            found.append(error)

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for result in found:
        if isinstance(result, BaseException):
            raise result
        p.check(outputs, result)
    assert len(found) == 20


WAYS: dict[str, Callable[[Problem], None]] = {
    "eager": eager,
    "functional_call": functional_call,
    "no_grad": no_grad,
    "inference_mode": inference_mode,
    "inference_tensors": inference_tensors,
    "some_need_gradients": some_need_gradients,
    "checkpoint": checkpointed(False),
    "reentrant_checkpoint": reentrant_checkpoint,
    "selective_checkpoint_saves": selective_checkpoint(CheckpointPolicy.MUST_SAVE),
    "selective_checkpoint_recomputes": selective_checkpoint(CheckpointPolicy.MUST_RECOMPUTE),
    "hooks_identity": with_hooks(lambda value: value, lambda value: value),
    "hooks_save_on_cpu": saved_on_cpu,
    "hooks_copies": with_hooks(lambda value: value.detach().clone(), lambda value: value.clone()),
    "hooks_other_strides": with_hooks(lambda value: value, in_other_strides),
    "hooks_other_dtype": another_dtype,
    "hooks_read_only": read_only_hooks,
    "retain_graph": retained_twice,
    "double_backward": double_backward,
    "two_threads": from_two_threads,
}
