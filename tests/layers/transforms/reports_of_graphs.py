"""Reported faults about graphs: cells of one name, derivatives inside compile, make_fx, counted products."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.func import grad, jacrev, jvp
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils.flop_counter import FlopCounterMode

import recurra
from recurra import Cell, State
from recurra.cells.algebra import relu, tanh

from ..builders import build, randomise
from .problem import compare

__all__ = ["REPORTS"]

REPORTS: list[Callable[[], None]] = []


def report(function: Callable[[], None]) -> Callable[[], None]:
    REPORTS.append(function)
    return function


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def unit_of(function: Callable[[Any], Any]) -> type[Cell]:
    """A class of the same name and module for every function."""

    class Unit(Cell):
        """A cell of the tests."""

        gates = ("n",)

        def step(self, gate: Any, state: Any, weight: Any) -> State:
            return State(h=function(gate.n))

    return Unit


class Scaled(Cell):
    """A cell of the tests with an option."""

    gates = ("n",)

    def __init__(self, factor: float) -> None:
        self.factor = factor

    def step(self, gate: Any, state: Any, weight: Any) -> State:
        return State(h=self.factor * tanh(gate.n))


def layer_of(cell: Any) -> Any:
    layer = recurra.Recurrent(cell, 3, 4, dtype=torch.float64)
    randomise(layer)
    return layer


def by_hand(layer: Any, function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    h, outputs = x.new_zeros(x.shape[1], 4), []
    for value in x:
        net = value @ layer.weight_ih_l0.T + layer.bias_ih_l0 + h @ layer.weight_hh_l0.T + layer.bias_hh_l0
        h = function(net)
        outputs.append(h)
    return torch.stack(outputs)


def each_has_its_own_equations(make: Callable[[Any], Callable[[Tensor], Any]]) -> None:
    """Cells that share a name, or a class and not its options: made one after the other, and used again afterwards."""
    pairs: list[tuple[Any, Callable[[Tensor], Tensor]]] = [
        (unit_of(tanh)(), torch.tanh),
        (unit_of(relu)(), torch.relu),
        (unit_of(lambda n: 0.5 * tanh(n))(), lambda n: 0.5 * n.tanh()),
        (Scaled(0.25), lambda n: 0.25 * n.tanh()),
        (Scaled(0.75), lambda n: 0.75 * n.tanh()),
    ]
    x, made = noise(4, 2, 3), []
    for cell, function in pairs:
        layer = layer_of(cell)
        run = make(layer)
        compare("output", (run(x)[0],), (by_hand(layer, function, x),))
        made.append((run, layer, function))
    for run, layer, function in made:
        compare("output", (run(-x)[0],), (by_hand(layer, function, -x),))
        compare("output", (layer(-x)[0],), (by_hand(layer, function, -x),))


def compiled(layer: Any) -> Callable[[Tensor], Any]:
    return torch.compile(layer, backend="aot_eager", fullgraph=True)


@report
def cells_of_one_name_run() -> None:
    each_has_its_own_equations(lambda layer: layer)


@report
def cells_of_one_name_compiled() -> None:
    each_has_its_own_equations(compiled)


@report
def cells_of_one_name_exported() -> None:
    each_has_its_own_equations(lambda layer: torch.export.export(layer, (noise(4, 2, 3),)).module())


@report
def cells_of_one_name_traced() -> None:
    each_has_its_own_equations(lambda layer: torch.jit.trace(layer, (noise(4, 2, 3),), check_trace=False))


@report
def cells_of_one_name_stream() -> None:
    for function, right in ((tanh, torch.tanh), (relu, torch.relu)):
        layer, x = layer_of(unit_of(function)()), noise(4, 2, 3)
        steps = layer.stream(2)
        output = torch.stack([steps.step(value) for value in x])
        compare("output", (output,), (by_hand(layer, right, x),))


@report
def cells_with_options_pickled() -> None:
    x = noise(4, 2, 3)
    for factor in (0.25, 0.75):
        layer = layer_of(Scaled(factor))
        compiled(layer)(x)
        other = pickle.loads(pickle.dumps(layer))

        def function(n: Tensor, factor: float = factor) -> Tensor:
            return factor * n.tanh()

        for run in (other, compiled(other)):
            compare("output", (run(x)[0],), (by_hand(layer, function, x),))


@report
def a_cell_that_cannot_be_imported_pickled() -> None:
    """Its class is found by no name: the copy has the right equations, or pickle says that it cannot."""
    for function, right in ((tanh, torch.tanh), (relu, torch.relu)):
        layer, x = layer_of(unit_of(function)()), noise(4, 2, 3)
        layer(x)
        try:
            content = pickle.dumps(layer)
        except (pickle.PicklingError, AttributeError):
            continue
        compare("output", (pickle.loads(content)(x)[0],), (by_hand(layer, right, x),))


@report
def jvp_inside_compile() -> None:
    for name in ("lstm", "gru_cho"):
        layer, x, t = build(name, 3, 4, 1), noise(4, 2, 3), noise(4, 2, 3, seed=1)

        def f(value: Tensor, layer: Any = layer) -> Tensor:
            return layer(value)[0]

        torch._dynamo.reset()
        step = 1e-6
        with recurra.backend("reference"), torch.no_grad():
            right = (f(x + step * t) - f(x - step * t)) / (2 * step)
        found = torch.compile(lambda x, t, f=f: jvp(f, (x,), (t,)), backend="aot_eager")(x, t)[1]
        # The central difference is right to its cancellation, 1e-16 / 1e-6.
        compare("tangent", (found,), (right,), 1e-8)


@report
def gradients_inside_compile() -> None:
    for name in ("lstm", "gru_cho"):
        layer, x = build(name, 3, 4, 1), noise(4, 2, 3)

        def f(value: Tensor, layer: Any = layer) -> Tensor:
            return layer(value)[0]

        with recurra.backend("reference"):
            jacobian = torch.autograd.functional.jacobian(f, x)
        torch._dynamo.reset()
        found = torch.compile(grad(lambda value, f=f: f(value).sum()), backend="aot_eager")(x)
        compare("gradient", (found,), (jacobian.sum((0, 1, 2)),))
        compare("Jacobian", (torch.compile(jacrev(f), backend="aot_eager")(x),), (jacobian,))


@report
def make_fx_of_a_layer() -> None:
    """The graph computes: run on another x it gives the layer's numbers for that."""
    for name in ("lstm", "gru_cho", "gru"):
        layer = build(name, 3, 4, 2)
        graph = make_fx(layer)(noise(4, 2, 3))
        other = noise(4, 2, 3, seed=7)
        with recurra.backend("reference"):
            compare("output", (graph(other)[0],), (layer(other)[0],))


@report
def products_are_counted() -> None:
    """2 T B G H (I + H) a layer forward; forward and backward three times as many, but for the x of the first."""
    T, B, I, H = 5, 3, 6, 8
    for name, gates in (("lstm", 4), ("gru", 3), ("gru_cho", 3)):
        layer = build(name, I, H, 1)
        x = noise(T, B, I).requires_grad_()
        forward = 2 * T * B * gates * H * (I + H)
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            layer(x)
        assert counter.get_total_flops() == forward, f"{name}: {counter.get_total_flops()}, not {forward}"
        with FlopCounterMode(display=False) as counter:
            layer(x)[0].sum().backward()
        with recurra.backend("reference"), FlopCounterMode(display=False) as reference:
            layer(x)[0].sum().backward()
        found, allowed = counter.get_total_flops(), {3 * forward, reference.get_total_flops()}
        assert found in allowed, f"{name}: {found}, not one of {allowed}"


@report
def products_are_counted_in_the_reference() -> None:
    T, B, I, H = 5, 3, 6, 8
    with recurra.backend("reference"), torch.no_grad(), FlopCounterMode(display=False) as counter:
        build("lstm", I, H, 1)(noise(T, B, I))
    assert counter.get_total_flops() == 2 * T * B * 4 * H * (I + H)
