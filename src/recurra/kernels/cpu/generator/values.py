"""Expressions over vectors of units, which combine pre-activation slots, states and weights, and their derivatives."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

__all__ = ["Builder", "Value", "adjoints", "topological"]


@dataclass(frozen=True, eq=False)
class Value:
    """One expression. Equal expressions are the same object if one `Builder` made them.

    Attributes:
        op: the kind of expression. Leaves are "slot", "old", "new", "vector", "operand", "d_new" and "d_operand", whose
            `index` is their number among those of their kind, and "constant". Operations on `args` are "add", "sub",
            "mul", "div", "neg", "sigmoid", "tanh", "relu", "exp" and "clamp". Derivatives need two more: "within" of
            a gradient and x, with bounds in `numbers`, and "where_positive" of a gradient and y.
    """

    op: str
    args: tuple[Value, ...] = ()
    index: int = 0
    numbers: tuple[float, ...] = ()


TRANSCENDENTAL = frozenset({"sigmoid", "tanh", "exp"})


class Builder:
    """Makes values, simplified and each once."""

    def __init__(self) -> None:
        self._made: dict[tuple[object, ...], Value] = {}

    def make(self, op: str, *args: Value, index: int = 0, numbers: Sequence[float] = ()) -> Value:
        key = (op, tuple(id(argument) for argument in args), index, tuple(repr(n) for n in numbers))
        if key not in self._made:
            self._made[key] = Value(op, args, index, tuple(numbers))
        return self._made[key]

    def constant(self, number: float) -> Value:
        return self.make("constant", numbers=(number,))

    def add(self, a: Value | None, b: Value | None) -> Value | None:
        if a is None or b is None:
            return b if a is None else a
        return self.make("add", a, b)

    def mul(self, a: Value, b: Value) -> Value:
        for one, other in ((a, b), (b, a)):
            if one.op == "constant" and one.numbers == (1.0,):
                return other
        return self.make("mul", a, b)

    def neg(self, a: Value) -> Value:
        return a.args[0] if a.op == "neg" else self.make("neg", a)

    def sub(self, a: Value, b: Value) -> Value:
        return self.make("sub", a, b)


def topological(values: Iterable[Value], stop: Iterable[Value] = ()) -> list[Value]:
    """The values and everything that they are computed from, arguments first; values in `stop` are not looked into."""
    order: list[Value] = []
    seen: set[int] = set()
    given = {id(value) for value in stop}

    def visit(value: Value) -> None:
        if id(value) in seen:
            return
        seen.add(id(value))
        if id(value) not in given:
            for argument in value.args:
                visit(argument)
        order.append(value)

    for value in values:
        visit(value)
    return order


def adjoints(build: Builder, seeds: Sequence[tuple[Value, Value]]) -> dict[Value, Value]:
    """Gradients by reverse-mode differentiation.

    Args:
        build: makes the new values.
        seeds: values, each with its own gradient.

    Returns:
        The gradient of every value that those of `seeds` are computed from.
    """
    gradient: dict[Value, Value] = {}
    for value, seed in seeds:
        total = build.add(gradient.get(value), seed)
        assert total is not None
        gradient[value] = total
    for value in reversed(topological([value for value, _ in seeds])):
        d = gradient.get(value)
        if d is None:
            continue
        for argument, part in zip(value.args, _parts(build, value, d), strict=True):
            if argument.op == "constant":
                continue
            total = build.add(gradient.get(argument), part)
            assert total is not None
            gradient[argument] = total
    return gradient


def _parts(build: Builder, value: Value, d: Value) -> list[Value]:
    """The share of a value's gradient d that each of its arguments gets.

    Derivatives are written with the value itself, such as 1 - tanh(x)^2, so that nothing is computed twice.
    """
    one = build.constant(1.0)
    a = value.args[0] if value.args else value
    match value.op:
        case "add":
            return [d, d]
        case "sub":
            return [d, build.neg(d)]
        case "mul":
            return [build.mul(d, value.args[1]), build.mul(d, a)]
        case "div":
            b = value.args[1]
            return [build.make("div", d, b), build.neg(build.make("div", build.mul(d, value), b))]
        case "neg":
            return [build.neg(d)]
        case "sigmoid":
            return [build.mul(build.mul(d, value), build.sub(one, value))]
        case "tanh":
            return [build.mul(d, build.sub(one, build.mul(value, value)))]
        case "exp":
            return [build.mul(d, value)]
        case "relu":
            return [build.make("where_positive", d, value)]
        case "clamp":
            return [build.make("within", d, a, numbers=value.numbers)]
    return []
