"""How a cell's step is cut into matrix products and pointwise phases."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from ....cells.cell import Cell
from ....cells.trace import Node, trace
from .values import TRANSCENDENTAL, Builder, Value, adjoints, topological

__all__ = ["Plan", "Product", "plan"]


@dataclass(frozen=True)
class Product:
    """A matrix product that is added to a slot.

    Attributes:
        slot: the accumulator that gets it.
        matrix: "ih" and "hh", of which it takes the rows of `gate`, or the name of one of the cell's matrices.
        gate: index into the cell's gates; 0 for a matrix of its own.
        source: what is multiplied: "input", "state" or "operand".
        index: number of the state or operand.
        phase: the phase of the step that needs it: it is taken right before that phase's pointwise part.
    """

    slot: int
    matrix: str
    gate: int
    source: str
    index: int
    phase: int


@dataclass
class Plan:
    """What the engine has to know of a cell.

    A step runs phase by phase: the products of the phase are added to their slots (one accumulator each unit), then
    the phase's pointwise part runs. The last phase makes the new states; each phase before it makes operands, which
    products of later phases multiply.

    Attributes:
        slots: how many accumulators a unit has.
        kept: how many values of a step are kept for each unit: pre-activations, and what the backward pass needs.
        saved_at: where the saved values begin among the kept ones; 0 if they replace the pre-activations.
        forward: for each phase what it computes: ("operand" or "state", index, value).
        saved: the saved values, in the order of their places.
        saved_in: for each saved value the phase that saves it.
        backward: for each phase the gradients that it computes: ("slot", "old" or "vector", index, value).
    """

    cell: Cell
    slots: int
    products: list[Product]
    phases: int
    operand_phase: list[int]
    forward: list[list[tuple[str, int, Value]]]
    saved: list[Value]
    saved_in: list[int]
    saved_at: int
    backward: list[list[tuple[str, int, Value]]] = field(default_factory=list)

    @property
    def kept(self) -> int:
        return max(self.slots, self.saved_at + len(self.saved))


def plan(cell: Cell) -> Plan:
    """Cut a cell's step into products and phases, and differentiate the phases.

    Raises:
        TypeError, ValueError: as `trace` does.
    """
    return _Planner(cell).plan()


_SOURCES = ("input", "state", "operand")


class _Planner:
    def __init__(self, cell: Cell) -> None:
        self.cell = cell
        self.trace = trace(cell)
        self.build = Builder()
        self.nodes = self.trace.nodes()
        self.uses: Counter[int] = Counter(argument.order for node in self.nodes for argument in node.args)
        self.uses.update(node.order for node in self.trace.outputs.values())
        self.operands: list[Node] = []
        self.phase = self._phases()
        self.slot_terms: list[list[Node]] = []
        self.slot_of: dict[int, int] = {}
        self.rest: dict[int, list[Node]] = {}
        self._make_slots()
        self.values: dict[int, Value] = {}

    def _phases(self) -> dict[int, int]:
        """The phase in which each node is known."""
        phase: dict[int, int] = {}
        for node in self.nodes:
            if node.op == "product":
                (operand,) = node.args
                if operand.op == "state":
                    phase[node.order] = 0
                else:
                    phase[node.order] = phase[operand.order] + 1
                    if operand not in self.operands:
                        self.operands.append(operand)
            else:
                phase[node.order] = max((phase[argument.order] for argument in node.args), default=0)
        return phase

    def _make_slots(self) -> None:
        """Give all inputs and products of one sum a common accumulator, and every other product its own."""
        adds = {node.order for node in self.nodes if node.op == "add"}
        inner = {
            argument.order
            for node in self.nodes
            if node.op == "add"
            for argument in node.args
            if argument.order in adds and self.uses[argument.order] == 1
        }

        def terms(node: Node) -> list[Node]:
            if node.order in adds:
                return [
                    term
                    for argument in node.args
                    for term in (terms(argument) if argument.order in inner else [argument])
                ]
            return [node]

        for node in self.nodes:
            if node.order in adds and node.order not in inner:
                parts = terms(node)
                own = [part for part in parts if part.op in ("input", "product") and self.uses[part.order] == 1]
                # An input's product overwrites its slot and is not added to it, so a slot can have only one of them.
                inputs = [part for part in own if part.op == "input"]
                own = [part for part in own if part not in inputs[1:]]
                if own:
                    self.slot_of[node.order] = len(self.slot_terms)
                    self.slot_terms.append(own)
                    self.rest[node.order] = [part for part in parts if part not in own]
        covered = {term.order for slot in self.slot_terms for term in slot}
        for node in self.nodes:
            if node.op in ("input", "product") and node.order not in covered:
                self.slot_of[node.order] = len(self.slot_terms)
                self.slot_terms.append([node])
                self.rest[node.order] = []

    def value(self, node: Node) -> Value:
        """A node as an expression of slots, old states, vectors and constants."""
        if node.order not in self.values:
            self.values[node.order] = self._value(node)
        return self.values[node.order]

    def _value(self, node: Node) -> Value:
        build = self.build
        if node.order in self.slot_of:
            total = build.make("slot", index=self.slot_of[node.order])
            for part in self.rest[node.order]:
                total = build.make("add", total, self.value(part))
            return total
        if node.op == "state":
            return build.make("old", index=list(self.cell.states).index(node.name))
        if node.op == "vector":
            return build.make("vector", index=list(self.cell.vectors).index(node.name))
        if node.op == "constant":
            return build.constant(node.values[0])
        return build.make(node.op, *[self.value(argument) for argument in node.args], numbers=node.values)

    def products(self) -> list[Product]:
        found = []
        gates, states = list(self.cell.gates), list(self.cell.states)
        for slot, terms in enumerate(self.slot_terms):
            for term in terms:
                if term.op == "input":
                    found.append(Product(slot, "ih", gates.index(term.name), "input", 0, 0))
                    continue
                (operand,) = term.args
                if operand.op == "state":
                    source, index = "state", states.index(operand.name)
                else:
                    source, index = "operand", self.operands.index(operand)
                own = term.name.startswith("hh.")
                matrix, gate = ("hh", gates.index(term.name[3:])) if own else (term.name, 0)
                found.append(Product(slot, matrix, gate, source, index, self.phase[term.order]))
        # If a matrix is used twice, its gradients are added up in this order.
        return sorted(found, key=lambda product: (_SOURCES.index(product.source), product.index))

    def plan(self) -> Plan:
        build = self.build
        products = self.products()
        phases = 1 + max((product.phase for product in products), default=0)
        slot_phase = [max(self.phase[term.order] for term in terms) for terms in self.slot_terms]
        operand_phase = [self.phase[node.order] for node in self.operands]
        operands = [self.value(node) for node in self.operands]
        outputs = [self.value(self.trace.outputs[name]) for name in self.cell.states]
        forward: list[list[tuple[str, int, Value]]] = [[] for _ in range(phases)]
        for index, (phase, value) in enumerate(zip(operand_phase, operands, strict=True)):
            forward[phase].append(("operand", index, value))
        forward[-1] += [("state", index, value) for index, value in enumerate(outputs)]

        seeds = [(value, build.make("d_new", index=index)) for index, value in enumerate(outputs)]
        seeds += [(value, build.make("d_operand", index=index)) for index, value in enumerate(operands)]
        gradient = adjoints(build, seeds)
        backward: list[list[tuple[str, int, Value]]] = [[] for _ in range(phases)]
        zero = build.constant(0.0)
        for slot, phase in enumerate(slot_phase):
            backward[phase].append(("slot", slot, gradient.get(build.make("slot", index=slot), zero)))
        for index in range(len(self.cell.states)):
            backward[0].append(("old", index, gradient.get(build.make("old", index=index), zero)))
        for index in range(len(self.cell.vectors)):
            backward[0].append(("vector", index, gradient.get(build.make("vector", index=index), zero)))

        # The backward pass finds the new states in memory, so a value that is a new state need not be saved.
        known = {id(value): build.make("new", index=index) for index, value in enumerate(outputs)}
        saved = self._choose_saved([value for phase in backward for _, _, value in phase], known)
        backward = [
            [(kind, index, self._replace(value, known, saved)) for kind, index, value in phase] for phase in backward
        ]
        saved_in = [self._saved_in(value, forward) for value in saved]
        return Plan(
            self.cell,
            len(self.slot_terms),
            products,
            phases,
            operand_phase,
            forward,
            saved,
            saved_in,
            0 if phases == 1 else len(self.slot_terms),
            backward,
        )

    def _choose_saved(self, needed: list[Value], known: dict[int, Value]) -> list[Value]:
        """The values to save: without them the backward pass would have to compute a matrix product again."""
        saved: list[Value] = []
        have: dict[int, bool] = {}

        def available(value: Value) -> bool:
            """Whether a forward value can be computed again from states and parameters alone."""
            if id(value) not in have:
                if id(value) in known:
                    have[id(value)] = True
                else:
                    have[id(value)] = value.op != "slot" and all(available(argument) for argument in value.args)
            return have[id(value)]

        def visit(value: Value) -> None:
            if value in saved or available(value):
                return
            is_forward = value.op in TRANSCENDENTAL or value.op == "slot"
            if is_forward or not value.args:
                saved.append(value)
                return
            for argument in value.args:
                visit(argument)

        for value in needed:
            visit(value)
        return saved

    def _replace(self, value: Value, known: dict[int, Value], saved: list[Value]) -> Value:
        # A saved value is read back as it is; its arguments are not computed again.
        done: dict[int, Value] = {id(kept): kept for kept in saved}

        def visit(value: Value) -> Value:
            if id(value) in known:
                return known[id(value)]
            if id(value) not in done:
                arguments = tuple(visit(argument) for argument in value.args)
                done[id(value)] = (
                    value
                    if arguments == value.args
                    else self.build.make(value.op, *arguments, index=value.index, numbers=value.numbers)
                )
            return done[id(value)]

        return visit(value)

    def _saved_in(self, value: Value, forward: list[list[tuple[str, int, Value]]]) -> int:
        """The first phase that computes a value."""
        for phase, outputs in enumerate(forward):
            if value in topological([output for _, _, output in outputs]):
                return phase
        return len(forward) - 1
