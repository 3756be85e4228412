"""Ways of tensors that are not plain ones and of modes around a call: subclasses, fake and meta tensors, autocast."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map
from torch.utils.flop_counter import FlopCounterMode

from .problem import B, H, I, Problem, T, compare, gradients, lengths_of
from .tracing import compiled

__all__ = ["WAYS", "Tagged", "Wrapped", "expected_flops"]


class Tagged(torch.Tensor):
    """A subclass that keeps torch's own __torch_function__: a tensor with a name on it."""


class Wrapped(torch.Tensor):
    """A tensor that holds another and has no memory of its own."""

    inner: Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, inner: Tensor) -> Wrapped:
        return torch.Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls,
            inner.shape,
            strides=inner.stride(),
            storage_offset=inner.storage_offset(),
            dtype=inner.dtype,
            device=inner.device,
            requires_grad=inner.requires_grad,
        )

    def __init__(self, inner: Tensor) -> None:
        self.inner = inner.detach()

    def __repr__(self) -> str:  # type: ignore[override]
        return f"Wrapped({tuple(self.shape)})"

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        def unwrap(value: Any) -> Any:
            return value.inner if isinstance(value, Wrapped) else value

        def wrap(value: Any) -> Any:
            return cls(value) if type(value) is Tensor else value

        return tree_map(wrap, func(*tree_map(unwrap, args), **tree_map(unwrap, kwargs or {})))


def unwrapped(values: Any) -> list[Tensor]:
    return [value.inner if isinstance(value, Wrapped) else value for value in values]


def untagged(values: Any) -> list[Tensor]:
    return [value.as_subclass(Tensor) for value in values]


def subclass_input(p: Problem) -> None:
    x, *states = p.inputs(requires_grad=True)
    outputs = p.runner(x.as_subclass(Tagged), *states)
    found = gradients(outputs, (x, *states, *p.parameters.values()))
    p.check(untagged(outputs), untagged(found))


def subclass_weights(p: Problem) -> None:
    given = {name: value.as_subclass(Tagged).requires_grad_() for name, value in p.detached.items()}
    inputs = p.inputs(requires_grad=True)
    outputs = p.with_parameters(given, *inputs)
    p.check(untagged(outputs), untagged(gradients(outputs, (*inputs, *given.values()))))


def wrapper_input(p: Problem) -> None:
    inputs = tuple(Wrapped(value).requires_grad_() for value in p.inputs())
    outputs = p.runner(*inputs)
    p.check(unwrapped(outputs), unwrapped(gradients(outputs, (*inputs, *p.parameters.values()))))


def wrapper_x_alone(p: Problem) -> None:
    x, *states = p.inputs()
    with torch.no_grad():
        p.check_outputs(unwrapped(p.runner(Wrapped(x), *states)))


def wrapper_states_alone(p: Problem) -> None:
    x, *states = p.inputs()
    with torch.no_grad():
        p.check_outputs(unwrapped(p.runner(x, *map(Wrapped, states))))


def wrapper_weights(p: Problem) -> None:
    """In the place of parameters for one call."""
    given = {name: Wrapped(value).requires_grad_() for name, value in p.detached.items()}
    inputs = p.inputs(requires_grad=True)
    outputs = p.with_parameters(given, *inputs)
    p.check(unwrapped(outputs), unwrapped(gradients(outputs, (*inputs, *given.values()))))


def wrapper_weight_alone(p: Problem) -> None:
    given: dict[str, Any] = p.detached
    given["weight_hh_l1"] = Wrapped(given["weight_hh_l1"])
    with torch.no_grad():
        p.check_outputs(unwrapped(p.with_parameters(given, *p.inputs())))


def wrapper_parameters(p: Problem) -> None:
    """As the parameters themselves, as quantised weights are."""
    for name, value in p.detached.items():
        setattr(p.layer, name, nn.Parameter(Wrapped(value)))
    inputs = p.inputs(requires_grad=True)
    outputs = p.runner(*inputs)
    p.check(unwrapped(outputs), unwrapped(gradients(outputs, (*inputs, *p.layer.parameters()))))


def fake(given: Callable[[Problem, FakeTensorMode], tuple[Any, Any]]) -> Callable[[Problem], None]:
    """Fake results of the right shapes and types, and a layer that is none the worse for it."""

    def way(p: Problem) -> None:
        mode = FakeTensorMode(allow_non_fake_inputs=True)
        p.check_outputs(p.runner(*p.inputs()))
        inputs, weights = given(p, mode)
        with mode:
            outputs = p.runner(*inputs) if weights is None else p.with_parameters(weights, *inputs)
        check_fake(outputs, p.expected()[0])
        p.run_and_check(p.runner)

    return way


def check_fake(values: Any, expected: Any) -> None:
    for value, right in zip(values, expected, strict=True):
        assert isinstance(value, FakeTensor), f"a {type(value).__name__} came of fake tensors"
        assert (value.shape, value.dtype, value.device) == (right.shape, right.dtype, right.device)


def fake_outside_its_mode(p: Problem) -> None:
    """Fake tensors in a plain call carry their mode along, in backward too."""
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    inputs = [mode.from_tensor(value).requires_grad_() for value in p.inputs()]
    weights = {name: mode.from_tensor(value).requires_grad_() for name, value in p.detached.items()}
    outputs = p.with_parameters(weights, *inputs)
    check_fake(outputs, p.expected()[0])
    found = gradients(outputs, (*inputs, *weights.values()))
    check_fake(found, p.expected()[1] if found else ())
    p.run_and_check(p.runner)


def fake_backward(p: Problem) -> None:
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    weights = {name: mode.from_tensor(value).requires_grad_() for name, value in p.detached.items()}
    inputs = [mode.from_tensor(value).requires_grad_() for value in p.inputs()]
    with mode:
        outputs = p.with_parameters(weights, *inputs)
        found = gradients(outputs, (*inputs, *weights.values()))
    check_fake(found, p.expected()[1] if p.has_gradients or found else ())
    p.run_and_check(p.runner)


def default_device_meta(p: Problem) -> None:
    """The device of what is made without one must not matter to tensors that are there."""
    inputs = p.inputs(requires_grad=True)
    torch.set_default_device("meta")
    try:
        outputs = p.runner(*inputs)
    finally:
        torch.set_default_device(None)
    p.check(outputs, gradients(outputs, (*inputs, *p.parameters.values())))


def meta_tensors(p: Problem) -> None:
    """On the meta device shapes are all there is."""
    real = p.inputs()
    weights = {name: value.to("meta").requires_grad_() for name, value in p.detached.items()}
    inputs = [value.to("meta").requires_grad_() for value in real]
    outputs = p.with_parameters(weights, *inputs)
    found = gradients(outputs, (*inputs, *weights.values()))
    assert found or not p.has_gradients
    right, right_found = p.expected()
    for value, expected in zip((*outputs, *found), (*right, *(right_found if found else ())), strict=True):
        assert value.is_meta and (value.shape, value.dtype) == (expected.shape, expected.dtype)


def autocast(p: Problem) -> None:
    """bfloat16 keeps 8 bits: values near one come within 0.05, gradients within a twentieth of the largest."""
    p = Problem(p.cell, p.entry, p.layers, torch.float32)
    inputs = p.inputs(requires_grad=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        outputs = p.runner(*inputs)
    near(p, outputs, gradients([value.float() for value in outputs], (*inputs, *p.parameters.values())))


def near(p: Problem, outputs: Any, found: Any) -> None:
    right, right_found = p.expected()
    for value, expected in zip(outputs, right, strict=True):
        assert value.shape == expected.shape and value.dtype in (torch.bfloat16, torch.float32)
        assert (value.double() - expected).abs().max() < 0.05
    if not p.has_gradients and not found:
        return
    for value, expected in zip(found, right_found, strict=True):
        assert value.dtype == torch.float32
        assert (value.double() - expected).abs().max() < 0.05 * (1 + expected.abs().max())


def autocast_compiled(p: Problem) -> None:
    """The types of eager autocast, and its numbers to a few roundings of bfloat16."""
    p = Problem(p.cell, p.entry, p.layers, torch.float32)
    results = []
    for run in (p.runner, compiled(p.runner)):
        inputs = p.inputs(requires_grad=True)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            outputs = run(*inputs)
        found = gradients([value.float() for value in outputs], (*inputs, *p.parameters.values()))
        near(p, outputs, found)
        results.append([value.dtype for value in (*outputs, *found)])
    assert results[0] == results[1]


def autocast_off_inside(p: Problem) -> None:
    inputs = p.inputs(requires_grad=True)
    with torch.autocast("cpu", dtype=torch.bfloat16), torch.autocast("cpu", enabled=False):
        outputs = p.runner(*inputs)
    p.check(outputs, gradients(outputs, (*inputs, *p.parameters.values())))


def autocast_recomputed(p: Problem) -> None:
    """A checkpoint under autocast recomputes under autocast: bit for bit what no checkpoint gives."""
    p = Problem(p.cell, p.entry, p.layers, torch.float32)
    results = []
    for again in (False, True):
        inputs = p.inputs(requires_grad=True)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            run = torch.utils.checkpoint.checkpoint
            outputs = run(p.runner, *inputs, use_reentrant=False) if again else p.runner(*inputs)
        found = gradients([value.float() for value in outputs], (*inputs, *p.parameters.values()))
        results.append([*outputs, *found])
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


def expected_flops(p: Problem) -> tuple[int, int]:
    """The least and the most that products of one forward take: 2 G H (I + H) a step, row and layer."""
    gates = p.parameters["weight_ih_l0"].shape[0] // H
    a_step = sum(2 * gates * H * (inputs + H) for inputs in [I] + [H] * (p.layers - 1))
    lengths = lengths_of(p.entry, T, B)
    return a_step * (T * B if lengths is None else sum(lengths)), a_step * T * B


def flop_counter(p: Problem) -> None:
    inputs = p.inputs(requires_grad=True)
    least, most = expected_flops(p)
    with FlopCounterMode(display=False) as counter:
        outputs = p.runner(*inputs)
    p.check_outputs(outputs)
    assert least <= counter.get_total_flops() <= most
    if not p.has_gradients:
        return
    with FlopCounterMode(display=False) as counter:
        found = gradients(outputs, (*inputs, *p.parameters.values()))
    compare("gradient", found, p.expected()[1])
    assert 2 * least <= counter.get_total_flops()


class Log(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.seen.append(str(func))
        return func(*args, **(kwargs or {}))


class FunctionLog(TorchFunctionMode):
    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.seen.append(str(func))
        return func(*args, **(kwargs or {}))


def products(names: list[str]) -> list[str]:
    return [
        name for name in names if any(word in name for word in ("mm", "linear", "matmul", "recurra", "lstm", "gru"))
    ]


def dispatch_mode(p: Problem) -> None:
    """A mode that logs sees the arithmetic of the layer, forward and backward, and changes nothing."""
    inputs = p.inputs(requires_grad=True)
    with Log() as log:
        outputs = p.runner(*inputs)
    assert products(log.seen), f"the layer's arithmetic did not pass through the mode, only {sorted(set(log.seen))}"
    with Log() as log:
        found = gradients(outputs, (*inputs, *p.parameters.values()))
    p.check(outputs, found)
    assert products(log.seen) or not p.has_gradients


def function_mode(p: Problem) -> None:
    def run(*inputs: Tensor) -> Any:
        with FunctionLog() as log:
            outputs = p.runner(*inputs)
        assert log.seen
        return outputs

    p.run_and_check(run)


def deterministic(p: Problem) -> None:
    torch.use_deterministic_algorithms(True)
    try:
        p.run_and_check(p.runner)
    finally:
        torch.use_deterministic_algorithms(False)


def anomaly_mode(p: Problem) -> None:
    with torch.autograd.detect_anomaly(check_nan=True):
        p.run_and_check(p.runner)


WAYS: dict[str, Callable[[Problem], None]] = {
    "subclass_input": subclass_input,
    "subclass_weights": subclass_weights,
    "wrapper_input": wrapper_input,
    "wrapper_x_alone": wrapper_x_alone,
    "wrapper_states_alone": wrapper_states_alone,
    "wrapper_weights": wrapper_weights,
    "wrapper_weight_alone": wrapper_weight_alone,
    "wrapper_parameters": wrapper_parameters,
    "fake_inputs": fake(lambda p, mode: ([mode.from_tensor(value) for value in p.inputs()], None)),
    "fake_weights": fake(
        lambda p, mode: (p.inputs(), {name: mode.from_tensor(value) for name, value in p.detached.items()})
    ),
    "fake_everything": fake(
        lambda p, mode: (
            [mode.from_tensor(value) for value in p.inputs()],
            {name: mode.from_tensor(value) for name, value in p.detached.items()},
        )
    ),
    "fake_outside_its_mode": fake_outside_its_mode,
    "fake_backward": fake_backward,
    "default_device_meta": default_device_meta,
    "meta_tensors": meta_tensors,
    "autocast": autocast,
    "autocast_compiled": autocast_compiled,
    "autocast_off_inside": autocast_off_inside,
    "autocast_recomputed": autocast_recomputed,
    "flop_counter": flop_counter,
    "dispatch_mode": dispatch_mode,
    "function_mode": function_mode,
    "deterministic": deterministic,
    "anomaly_mode": anomaly_mode,
}
