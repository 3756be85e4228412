"""Ways of torch.func, of forward-mode dual numbers, and of gradients for many cotangents at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.func import functional_call, grad, hessian, jacfwd, jacrev, jvp, vjp, vmap

from .problem import B, Problem, compare, gradients, loss

__all__ = ["WAYS", "tangent_of"]


def loss_of(p: Problem) -> Callable[..., Tensor]:
    """The loss as a function of x and the states, then the parameters in their order."""
    count = 1 + p.states

    def run(*everything: Tensor) -> Tensor:
        return loss(p.with_parameters(dict(zip(p.names, everything[count:], strict=True)), *everything[:count]))

    return run


def func_grad(p: Problem) -> None:
    everything = (*p.inputs(), *p.detached.values())
    found = grad(loss_of(p), tuple(range(len(everything))))(*everything)
    p.check_derivatives(found, p.expected()[1])


def func_vjp(p: Problem) -> None:
    outputs, back = vjp(p.runner, *p.inputs())
    p.check_outputs(outputs)
    found = back(tuple((index + 1) * (1 + value) for index, value in enumerate(outputs)))
    p.check_derivatives(found, p.expected()[1][: 1 + p.states])


def check_jacobian(p: Problem, found: Sequence[Sequence[Tensor]]) -> None:
    right = p.jacobians()
    p.check_derivatives([value for row in found for value in row], [value for row in right for value in row])


def func_jacrev(p: Problem) -> None:
    check_jacobian(p, jacrev(p.runner, tuple(range(1 + p.states)))(*p.inputs()))


def func_jacfwd(p: Problem) -> None:
    check_jacobian(p, jacfwd(p.runner, tuple(range(1 + p.states)))(*p.inputs()))


def func_hessian(p: Problem) -> None:
    """The second derivative of a small part of the loss by x."""
    _, *states = p.inputs()
    parameters = p.detached

    def ours(x: Tensor) -> Tensor:
        return loss(p.runner(x, *states))

    def plain(x: Tensor) -> Tensor:
        return loss(p.plain(parameters, x, *states))

    x = p.inputs()[0]
    right = torch.autograd.functional.hessian(plain, x)
    p.check_derivatives((hessian(ours)(x),), (right,))


def tangent_of(p: Problem, directions: Sequence[Tensor]) -> list[Tensor]:
    """The derivative of each output along these directions of x and the states, from the plain Jacobian."""
    return [
        torch.stack([torch.tensordot(part, t, dims=t.dim()) for part, t in zip(row, directions, strict=True)]).sum(0)
        for row in p.jacobians()
    ]


def func_jvp(p: Problem) -> None:
    directions = p.inputs(seed=5)
    outputs, tangents = jvp(p.runner, p.inputs(), directions)
    p.check_outputs(outputs)
    p.check_derivatives(tangents, tangent_of(p, directions))


def parameters_jvp(p: Problem) -> None:
    """The derivative along a direction of the parameters: with the cotangents of the loss, its gradient along it."""
    parameters = p.detached
    directions = {name: torch.cos(3 * value) for name, value in parameters.items()}
    inputs = p.inputs()
    outputs, tangents = jvp(lambda weights: p.with_parameters(weights, *inputs), (parameters,), (directions,))
    p.check_outputs(outputs)
    along = torch.stack([((i + 1) * (1 + o) * t).sum() for i, (o, t) in enumerate(zip(outputs, tangents, strict=True))])
    found = p.expected()[1][1 + p.states :]
    right = torch.stack([(a * b).sum() for a, b in zip(found, directions.values(), strict=True)])
    p.check_derivatives((along.sum(),), (right.sum(),))


def dual_numbers(p: Problem) -> None:
    directions = p.inputs(seed=5)
    with forward_ad.dual_level():
        duals = [forward_ad.make_dual(value, t) for value, t in zip(p.inputs(), directions, strict=True)]
        parts = [forward_ad.unpack_dual(value) for value in p.runner(*duals)]
        outputs = [part.primal for part in parts]
        tangents = [torch.zeros_like(part.primal) if part.tangent is None else part.tangent for part in parts]
    p.check_outputs(outputs)
    p.check_derivatives(tangents, tangent_of(p, directions))


def vmap_inputs(p: Problem) -> None:
    """Over x and the states, by their own dimensions."""
    many = [p.inputs(seed) for seed in range(B)]
    stacked = [torch.stack(values, dim) for dim, values in enumerate(zip(*many, strict=True))]
    outputs = vmap(p.runner, tuple(range(len(stacked))))(*stacked)
    for seed in range(B):
        p.check_outputs([value[seed] for value in outputs], seed)


def vmap_of_x_alone(p: Problem) -> None:
    x, *states = p.inputs()
    outputs = vmap(p.runner, (0, *[None for _ in states]))(torch.stack([x, x.flip(0), -x]), *states)
    p.check_outputs([value[0] for value in outputs])
    right = p.plain(p.parameters, -x, *states)
    compare("output", [value[2] for value in outputs], right)


def vmap_of_states_alone(p: Problem) -> None:
    x, *states = p.inputs()
    stacked = [torch.stack([state, -state], 1) for state in states]
    outputs = vmap(p.runner, (None, *[1 for _ in states]))(x, *stacked)
    p.check_outputs([value[0] for value in outputs])
    right = p.plain(p.parameters, x, *[-state for state in states])
    compare("output", [value[1] for value in outputs], right)


def vmap_parameters(p: Problem) -> None:
    parameters = p.detached
    stacked = {name: torch.stack([value, value / 2, -value]) for name, value in parameters.items()}
    inputs = p.inputs()
    outputs = vmap(lambda weights: p.with_parameters(weights, *inputs))(stacked)
    for index, factor in enumerate((1, 0.5, -1)):
        right = p.plain({name: factor * value for name, value in parameters.items()}, *inputs)
        compare("output", [value[index] for value in outputs], right)


def vmap_grad(p: Problem) -> None:
    """Gradients of each sample, by the parameters and by x."""
    many = [p.inputs(seed) for seed in range(2)]
    stacked = [torch.stack(values) for values in zip(*many, strict=True)]
    weights = tuple(p.detached.values())
    every = tuple(range(len(stacked) + len(weights)))
    in_dims = (*[0 for _ in stacked], *[None for _ in weights])
    found = vmap(grad(loss_of(p), every), in_dims)(*stacked, *weights)
    for seed in range(2):
        p.check_derivatives([value[seed] for value in found], p.expected(seed)[1])


def is_grads_batched(p: Problem) -> None:
    inputs = p.inputs(requires_grad=True)
    everything = (*inputs, *p.parameters.values())
    outputs = p.runner(*inputs)
    cotangents = [torch.stack([(i + 1) * (1 + o.detach()), o.detach().cos()]) for i, o in enumerate(outputs)]
    found = torch.autograd.grad(outputs, everything, cotangents, is_grads_batched=True, materialize_grads=True)
    p.check_derivatives([value[0] for value in found], p.expected()[1])
    right = p.plain(p.parameters, *inputs)
    second = torch.autograd.grad(right, everything, [value[1] for value in cotangents])
    p.check_derivatives([value[1] for value in found], second)


def vmap_of_autograd_grad(p: Problem) -> None:
    inputs = p.inputs(requires_grad=True)
    output = p.runner(*inputs)[0]
    right = p.plain(p.parameters, *inputs)[0]
    basis = torch.eye(output.numel(), dtype=output.dtype).view(-1, *output.shape)[::5]
    everything = (*inputs, p.parameters["weight_hh_l0"])
    found = vmap(lambda v: torch.autograd.grad(output, everything, v, retain_graph=True))(basis)
    for row, cotangent in enumerate(basis):
        expected = torch.autograd.grad(right, everything, cotangent, retain_graph=True)
        p.check_derivatives([value[row] for value in found], expected)


def vectorized_jacobian(strategy: str) -> Callable[[Problem], None]:
    def way(p: Problem) -> None:
        found = torch.autograd.functional.jacobian(p.runner, p.inputs(), vectorize=True, strategy=strategy)
        check_jacobian(p, found)

    return way


def gradcheck(p: Problem) -> None:
    inputs = p.inputs(requires_grad=True)
    torch.autograd.gradcheck(p.runner, inputs, check_batched_grad=True, check_forward_ad=False, fast_mode=True)
    p.run_and_check(p.runner)


def gradcheck_forward(p: Problem) -> None:
    inputs = p.inputs(requires_grad=True)
    torch.autograd.gradcheck(p.runner, inputs, check_forward_ad=True, check_backward_ad=False, fast_mode=True)


def grad_through_functional_call_on_the_layer(p: Problem) -> None:
    """grad by the parameters as the documentation of torch.func writes it, around the module itself."""
    inputs = p.inputs()
    own = {f"layer.{name}": value for name, value in p.detached.items()}
    found = grad(lambda weights: loss(functional_call(p.runner, weights, inputs)))(own)
    right = p.expected()[1][1 + p.states :]
    p.check_derivatives(list(found.values()), right)


def grad_of_grad(p: Problem) -> None:
    """A derivative of a derivative through two nested transforms."""
    x, *states = p.inputs()

    def norm(value: Tensor) -> Tensor:
        return grad(lambda z: loss(p.runner(z, *states)))(value).square().sum()

    found = grad(norm)(x)
    x.requires_grad_()
    (first,) = gradients(p.plain(p.detached, x, *states), (x,), create_graph=True)
    p.check_derivatives((found,), torch.autograd.grad(first.square().sum(), x))


WAYS: dict[str, Callable[[Problem], None]] = {
    "func_grad": func_grad,
    "func_grad_of_module": grad_through_functional_call_on_the_layer,
    "func_grad_of_grad": grad_of_grad,
    "func_vjp": func_vjp,
    "func_jacrev": func_jacrev,
    "func_jacfwd": func_jacfwd,
    "func_hessian": func_hessian,
    "func_jvp": func_jvp,
    "func_jvp_of_parameters": parameters_jvp,
    "dual_numbers": dual_numbers,
    "vmap_inputs": vmap_inputs,
    "vmap_of_x_alone": vmap_of_x_alone,
    "vmap_of_states_alone": vmap_of_states_alone,
    "vmap_parameters": vmap_parameters,
    "vmap_grad": vmap_grad,
    "is_grads_batched": is_grads_batched,
    "vmap_of_autograd_grad": vmap_of_autograd_grad,
    "jacobian_vectorized": vectorized_jacobian("reverse-mode"),
    "jacobian_vectorized_forward": vectorized_jacobian("forward-mode"),
    "gradcheck_batched": gradcheck,
    "gradcheck_forward": gradcheck_forward,
}
