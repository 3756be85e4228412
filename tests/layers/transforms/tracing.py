"""Ways that turn a layer into a graph: compile, export, make_fx, torch.jit.trace; the graph runs on other numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.export import Dim
from torch.func import grad, jacrev, jvp, vmap
from torch.fx.experimental.proxy_tensor import make_fx

from .functional import loss_of, tangent_of
from .problem import B, Problem, T, compare, gradients, lengths_of, loss

__all__ = ["WAYS"]

# Entry points whose steps and rows are shapes of tensors; elsewhere they are numbers of Python.
OF_ANY_SIZE = ("forward", "lengths", "all_states")


def compiled(run: Callable[..., Any], backend: str = "aot_eager") -> Callable[..., Any]:
    torch._dynamo.reset()
    return torch.compile(run, backend=backend, fullgraph=True)


def compile_inference(p: Problem) -> None:
    run = compiled(p.runner)
    with torch.no_grad():
        for seed in range(2):
            p.check_outputs(run(*p.inputs(seed)), seed)


def compile_training(p: Problem, backend: str = "aot_eager") -> None:
    run = compiled(p.runner, backend)
    for seed in range(2):
        p.run_and_check(run, seed)


def compile_inductor(p: Problem) -> None:
    compile_training(p, "inductor")


def compile_grad(p: Problem) -> None:
    weights = tuple(p.detached.values())
    count = 1 + p.states + len(weights)
    run = compiled(grad(loss_of(p), tuple(range(count))))
    for seed in range(2):
        p.check_derivatives(run(*p.inputs(seed), *weights), p.expected(seed)[1])


def compile_grad_by_x(p: Problem) -> None:
    """With the layer's own parameters, which the compiler lifts into the graph."""
    run = compiled(lambda *z: grad(lambda *y: loss(p.runner(*y)))(*z))
    right = p.expected()[1]
    p.check_derivatives((run(*p.inputs()),), right[:1])


def compile_jacrev(p: Problem) -> None:
    found = compiled(lambda *z: jacrev(p.runner, tuple(range(1 + p.states)))(*z))(*p.inputs())
    p.check_derivatives([v for row in found for v in row], [v for row in p.jacobians() for v in row])


def compile_jvp(p: Problem) -> None:
    directions = p.inputs(seed=5)
    outputs, tangents = compiled(lambda z, t: jvp(p.runner, z, t))(p.inputs(), directions)
    p.check_outputs(outputs)
    p.check_derivatives(tangents, tangent_of(p, directions))


def compile_vmap(p: Problem) -> None:
    stacked = [torch.stack(values) for values in zip(*[p.inputs(seed) for seed in range(B)], strict=True)]
    outputs = compiled(lambda *z: vmap(p.runner)(*z))(*stacked)
    for seed in range(B):
        p.check_outputs([value[seed] for value in outputs], seed)


def compile_vmap_parameters(p: Problem) -> None:
    parameters, inputs = p.detached, p.inputs()
    stacked = {name: torch.stack([value, -value]) for name, value in parameters.items()}
    outputs = compiled(lambda weights, z: vmap(lambda w: p.with_parameters(w, *z))(weights))(stacked, inputs)
    p.check_outputs([value[0] for value in outputs])
    right = p.plain({name: -value for name, value in parameters.items()}, *inputs)
    compare("output", [value[1] for value in outputs], right)


def lengths_for(p: Problem, steps: int, batch: int) -> Tensor | None:
    given = lengths_of(p.entry, steps, batch)
    return None if p.entry != "lengths" else torch.tensor(given)


def exported(strict: bool) -> Callable[[Problem], None]:
    def way(p: Problem) -> None:
        time, batch = Dim("time", min=2, max=512), Dim("batch", min=2, max=512)
        free = p.entry in OF_ANY_SIZE
        lengths = lengths_for(p, 5, 4) if free else None
        more: dict[str, Any] = {} if lengths is None else {"lengths": lengths}
        shapes: Any = None
        if free:
            shapes = {"x": {0: time, 1: batch}, "states": tuple({1: batch} for _ in range(p.states))}
            if more:
                shapes["lengths"] = {0: batch}
        example = p.inputs(0, 5, 4) if free else p.inputs()
        program = torch.export.export(p.runner, example, more, dynamic_shapes=shapes, strict=strict).module()
        for steps, rows in ((4, 3), (7, 2)) if free else ((4, 3),):
            given = lengths_for(p, steps, rows)
            outputs = program(*p.inputs(1, steps, rows), **({} if given is None else {"lengths": given}))
            p.check_outputs(outputs, 1, steps, rows)

    return way


def traced_by_fx(mode: str, backward: bool) -> Callable[[Problem], None]:
    """The graph of a function of everything, run on other parameters, states, inputs and, in "symbolic", rows."""

    def way(p: Problem) -> None:
        def run(inputs: tuple[Tensor, ...], weights: tuple[Tensor, ...], buffers: dict[str, Tensor]) -> Any:
            outputs = p.with_parameters(dict(zip(p.names, weights, strict=True)), *inputs, buffers=buffers)
            return tuple(outputs), gradients(outputs, (*inputs, *weights)) if backward else ()

        def arguments(seed: int, batch: int, factor: float = 1) -> Any:
            weights = tuple((factor * w).requires_grad_(backward) for w in p.detached.values())
            inputs = p.inputs(seed, T, batch, requires_grad=backward)
            return inputs, weights, dict(p.runner_for(T, batch).named_buffers())

        # Other numbers of the same lengths: what was read from an example must not stay in the graph.
        other = p.entry in OF_ANY_SIZE and mode == "symbolic"
        # Five rows, since sizes that are equal in the example, as rows and units would be, share a symbol.
        graph = make_fx(run, tracing_mode=mode)(*arguments(3, 5 if other else 3, 0.5))
        for batch in (3, 2) if other else (3,):
            outputs, found = graph(*arguments(1, batch))
            right = p.expected(1, T, batch)
            compare("output", outputs, right[0])
            if backward:
                p.check_derivatives(found, right[1])

    return way


def jit_trace(p: Problem) -> None:
    program = torch.jit.trace(p.runner, p.inputs(3), check_trace=False)
    for seed in range(2):
        p.run_and_check(program, seed) if p.has_gradients else p.check_outputs(program(*p.inputs(seed)), seed)


def jit_trace_with_changed_parameters(p: Problem) -> None:
    """A traced layer goes on with the parameters of its module, as torch.jit.trace promises."""
    with torch.no_grad():
        saved = p.detached
        for value in p.parameters.values():
            value.zero_()
        program = torch.jit.trace(p.runner, p.inputs(3), check_trace=False)
        for name, value in p.parameters.items():
            value.copy_(saved[name])
        p.check_outputs(program(*p.inputs()))


WAYS: dict[str, Callable[[Problem], None]] = {
    "compile_inference": compile_inference,
    "compile_training": compile_training,
    "compile_grad": compile_grad,
    "compile_grad_by_x": compile_grad_by_x,
    "compile_jacrev": compile_jacrev,
    "compile_jvp": compile_jvp,
    "compile_vmap": compile_vmap,
    "compile_vmap_parameters": compile_vmap_parameters,
    "compile_inductor": compile_inductor,
    "export": exported(False),
    "export_strict": exported(True),
    **{
        f"make_fx_{mode}{'_backward' if backward else ''}": traced_by_fx(mode, backward)
        for mode in ("real", "fake", "symbolic")
        for backward in (False, True)
    },
    "jit_trace": jit_trace,
    "jit_trace_with_changed_parameters": jit_trace_with_changed_parameters,
}
