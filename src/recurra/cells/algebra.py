"""What a cell's step may use.

Each function calls the method of the same name on its operand, so the same step runs on tensors, on symbols and on
anything else that has these methods; this file imports no tensor library.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

__all__ = ["Gate", "State", "clamp", "exp", "relu", "sigmoid", "tanh"]


def sigmoid(value: Any) -> Any:
    """1 / (1 + exp(-value)), elementwise."""
    return value.sigmoid()


def tanh(value: Any) -> Any:
    """Hyperbolic tangent, elementwise."""
    return value.tanh()


def relu(value: Any) -> Any:
    """max(value, 0), elementwise."""
    return value.relu()


def exp(value: Any) -> Any:
    """e to the power of value, elementwise."""
    return value.exp()


def clamp(value: Any, low: float, high: float) -> Any:
    """value, but at least `low` and at most `high`, elementwise."""
    return value.clamp(low, high)


class State:
    """The states of a cell by name: what a step is given, and what it returns.

    Args:
        values: the value of each state, which become attributes.
    """

    # Not a SimpleNamespace, for torch.compile cannot follow the making of one.
    def __init__(self, **values: Any) -> None:
        for name, value in values.items():
            setattr(self, name, value)

    def __repr__(self) -> str:
        return f"State({', '.join(f'{name}={value!r}' for name, value in vars(self).items())})"

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"there is no {name} among {', '.join(vars(self)) or 'no names'}")


class Gate:
    """The pre-activation W x + U h + b of one gate; used in arithmetic it is that sum.

    Attributes:
        x: the input side alone, W x + b_ih.
        h: the recurrent side alone, U h + b_hh.
    """

    __slots__ = ("_h", "_recurrent", "_sum", "x")

    def __init__(self, x: Any, recurrent: Callable[[Any], Any]) -> None:
        self.x = x
        self._recurrent = recurrent
        self._h: Any = None
        self._sum: Any = None

    @property
    def h(self) -> Any:
        if self._h is None:
            self._h = self._recurrent(None)
        return self._h

    @property
    def sum(self) -> Any:
        """W x + U h + b, computed once however often it is used."""
        if self._sum is None:
            self._sum = self.x + self.h
        return self._sum

    def on(self, value: Any) -> Any:
        """W x + U value + b: the recurrent product taken on something other than h."""
        return self.x + self._recurrent(value)

    def sigmoid(self) -> Any:
        return self.sum.sigmoid()

    def tanh(self) -> Any:
        return self.sum.tanh()

    def relu(self) -> Any:
        return self.sum.relu()

    def exp(self) -> Any:
        return self.sum.exp()

    def clamp(self, low: float, high: float) -> Any:
        return self.sum.clamp(low, high)

    def __add__(self, other: Any) -> Any:
        return self.sum + other

    def __radd__(self, other: Any) -> Any:
        return other + self.sum

    def __sub__(self, other: Any) -> Any:
        return self.sum - other

    def __rsub__(self, other: Any) -> Any:
        return other - self.sum

    def __mul__(self, other: Any) -> Any:
        return self.sum * other

    def __rmul__(self, other: Any) -> Any:
        return other * self.sum

    def __truediv__(self, other: Any) -> Any:
        return self.sum / other

    def __rtruediv__(self, other: Any) -> Any:
        return other / self.sum

    def __neg__(self) -> Any:
        return -self.sum
