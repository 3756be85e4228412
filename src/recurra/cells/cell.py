"""The base of every cell: names of its states, gates and extra parameters, and one step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import MISSING, fields, is_dataclass
from typing import Any

from .algebra import State

__all__ = ["Cell"]


class Cell:
    """A recurrent cell as its published equations.

    A cell declares names and one `step`; weights, layers, kernels, printed equations and tests follow from them. For H
    hidden units, I inputs and G gates a layer holds `weight_ih` (G*H, I) and `weight_hh` (G*H, H) with the gates' rows
    in the order of `gates`, their biases (G*H,) each, and one parameter for each of `vectors` and `matrices`.

    Subclasses set:
        states: names of what is carried from step to step; the first, `h`, is the output.
        gates: names of the pre-activations W x + U h + b, in the row order of the weights.
        vectors: names of parameters of shape (H,), such as peepholes; in `step` as `weight.NAME`.
        matrices: names of further parameters of shape (H, H); in `step` as `weight.NAME @ value`.
        forget_bias_gate: the gate whose bias a layer's `forget_bias` sets, or None.

    A cell is a value: it has no parameters, and two of one class with the same options are equal.
    """

    states: Sequence[str] = ("h",)
    gates: Sequence[str] = ()
    vectors: Sequence[str] = ()
    matrices: Sequence[str] = ()
    forget_bias_gate: str | None = None

    def step(self, gate: Any, state: Any, weight: Any) -> State:
        """One step: new states from the gates' pre-activations, the old states and the extra parameters.

        Args:
            gate: `gate.NAME` for each of `gates`, a `recurra.cells.algebra.Gate`.
            state: `state.NAME` for each of `states`, their values one step ago.
            weight: `weight.NAME` for each of `vectors` and `matrices`.

        Returns:
            A `State` with a value for each of `states`.
        """
        raise NotImplementedError(f"{type(self).__name__} defines no step")

    @property
    def citation(self) -> str:
        """The first line of the class's docstring: name and source."""
        return (type(self).__doc__ or type(self).__name__).strip().splitlines()[0]

    def equations(self) -> list[str]:
        """The step as one Unicode formula a line, printed from its trace."""
        from .formulas import TEXT, equations

        return equations(self, TEXT)

    def latex(self) -> str:
        """The step as a LaTeX `aligned` block, printed from its trace."""
        from .formulas import LATEX, equations

        lines = [line.replace(" = ", " &= ", 1) for line in equations(self, LATEX)]
        return "\\begin{aligned}\n" + " \\\\\n".join(lines) + "\n\\end{aligned}"

    def __repr__(self) -> str:
        defaults: dict[str, Any] = {field.name: field.default for field in fields(self)} if is_dataclass(self) else {}
        options = [f"{name}={value!r}" for name, value in vars(self).items() if value != defaults.get(name, MISSING)]
        return f"{type(self).__name__}({', '.join(options)})"

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and vars(self) == vars(other)

    def __hash__(self) -> int:
        return hash((type(self), tuple(sorted(vars(self).items()))))
