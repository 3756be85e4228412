"""A cell's trace printed as formulas, for reading or for LaTeX."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from .cell import Cell
from .trace import Node, Trace, trace

__all__ = ["ACTIVATIONS", "LATEX", "TEXT", "Printer", "Style", "equations", "names_of"]

ACTIVATIONS = ("sigmoid", "tanh", "relu", "exp", "clamp")


@dataclass(frozen=True)
class Style:
    """How symbols are written; `{}` stands for a name or an argument."""

    now: str
    before: str
    weight: str
    recurrent: str
    bias: str
    recurrent_bias: str
    vector: str
    times: str
    open: str
    close: str
    functions: dict[str, str]


TEXT = Style(
    now="{}_t",
    before="{}_t-1",
    weight="W_{} x_t",
    recurrent="U_{} ",
    bias="b_{}",
    recurrent_bias="b'_{}",
    vector="w_{}",
    times=" ⊙ ",
    open="(",
    close=")",
    functions={name: name for name in ACTIVATIONS} | {"sigmoid": "σ"},
)

LATEX = Style(
    now="{}_t",
    before="{}_{{t-1}}",
    weight="W_{{{}}} x_t",
    recurrent="U_{{{}}} ",
    bias="b_{{{}}}",
    recurrent_bias="b'_{{{}}}",
    vector="w_{{{}}}",
    times=r" \odot ",
    open=r"\left(",
    close=r"\right)",
    functions={
        "sigmoid": r"\sigma",
        "tanh": r"\tanh",
        "relu": r"\operatorname{relu}",
        "exp": r"\exp",
        "clamp": r"\operatorname{clamp}",
    },
)

# How tightly each form binds; an argument that binds less than its place gets brackets.
SUM, PRODUCT, ATOM = 1, 2, 3


def equations(cell: Cell, style: Style) -> list[str]:
    """One formula for each gate and state, in the order of computation."""
    traced = trace(cell)
    names = names_of(traced)
    printer = Printer(names, style)
    return [
        f"{style.now.format(names[id(node)])} = {printer.expand(node)}" for node in traced.nodes() if id(node) in names
    ]


def names_of(traced: Trace) -> dict[int, str]:
    """Name a gate's activation by its gate, and new states by themselves; a value that is both is the state."""
    nodes = traced.nodes()
    consumers: dict[int, list[Node]] = {}
    for node in nodes:
        for argument in node.args:
            consumers.setdefault(id(argument), []).append(node)
    names: dict[int, str] = {}
    for node in nodes:
        if node.op != "input":
            continue
        value = node
        while len(above := consumers.get(id(value), [])) == 1 and above[0].op in ("add", *ACTIVATIONS):
            value = above[0]
            if value.op in ACTIVATIONS:
                break
        names[id(value)] = node.name
    for name, node in traced.outputs.items():
        names[id(node)] = name
    return names


class Printer:
    """Writes the nodes of a trace.

    Args:
        names: of the nodes that have one, by `id`.
        style: how symbols are written.
    """

    def __init__(self, names: dict[int, str], style: Style) -> None:
        self.names = names
        self.style = style

    def expand(self, node: Node) -> str:
        """The formula of a node that has a name, by its own operation."""
        return self._own(node)[0]

    def _show(self, node: Node, place: int) -> str:
        if id(node) in self.names:
            return self.style.now.format(self.names[id(node)])
        text, binds = self._own(node)
        return f"{self.style.open}{text}{self.style.close}" if binds < place else text

    def _own(self, node: Node) -> tuple[str, int]:
        style = self.style
        if node.op in ("add", "input", "product"):
            return self._sum(node)
        if node.op == "sub":
            return f"{self._show(node.args[0], SUM)} - {self._show(node.args[1], PRODUCT)}", SUM
        if node.op == "neg":
            return f"-{self._show(node.args[0], PRODUCT)}", SUM
        if node.op == "mul":
            return style.times.join(self._show(argument, PRODUCT) for argument in node.args), PRODUCT
        if node.op == "div":
            return " / ".join(self._show(argument, ATOM) for argument in node.args), PRODUCT
        if node.op == "constant":
            return f"{node.values[0]:g}", ATOM
        if node.op == "state":
            return style.before.format(node.name), ATOM
        if node.op == "vector":
            return style.vector.format(node.name), ATOM
        inside = ", ".join([self._show(node.args[0], SUM), *(f"{value:g}" for value in node.values)])
        return f"{style.functions[node.op]}{style.open}{inside}{style.close}", ATOM

    def _sum(self, node: Node) -> tuple[str, int]:
        """A chain of additions; a gate's two biases meeting in one chain are written as one."""
        style = self.style
        terms: list[str] = []
        biases: Counter[str] = Counter()
        recurrent_biases: Counter[str] = Counter()

        def collect(part: Node, top: bool = False) -> None:
            if id(part) in self.names and not top:
                terms.append(self._show(part, SUM))
            elif part.op == "add":
                for argument in part.args:
                    collect(argument)
            elif part.op == "input":
                terms.append(style.weight.format(part.name))
                biases[part.name] += 1
            elif part.op == "product":
                name = part.name.removeprefix("hh.")
                terms.append(style.recurrent.format(name) + self._show(part.args[0], ATOM))
                if part.name.startswith("hh."):
                    recurrent_biases[name] += 1
            else:
                terms.append(self._show(part, SUM))

        collect(node, top=True)
        for name in biases:
            terms.append(style.bias.format(name))
            recurrent_biases.pop(name, None)
        terms += [style.recurrent_bias.format(name) for name in recurrent_biases]
        return " + ".join(terms), SUM if len(terms) > 1 else ATOM
