"""The C++ of a cell's pointwise arithmetic, from its plan."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

from .plan import Plan
from .values import Value, topological

__all__ = ["cell_source", "fingerprint", "table_source", "unit_source"]

_FUNCTIONS = {"sigmoid": "vsigmoid<T>", "tanh": "vtanh<T>", "exp": "vexp<T>", "relu": "vrelu<T>"}
_OPERATORS = {"sub": "-", "div": "/"}
_LEAVES = {
    "slot": "slot",
    "old": "old_state",
    "new": "new_state",
    "vector": "vector",
    "operand": "operand",
    "d_new": "d_new",
    "d_operand": "d_operand",
}
_STORES = {"operand": "set_operand", "state": "set_state", "old": "set_d_old", "vector": "add_d_vector"}


def fingerprint(plan: Plan) -> str:
    """A name for a cell's arithmetic. Cells with the same fingerprint may share compiled code."""
    return hashlib.sha256(_bodies(plan, "").encode()).hexdigest()[:16]


def cell_source(plan: Plan) -> str:
    """The structs of one cell, Forward, Training and Backward of each phase, named after its fingerprint."""
    return _bodies(plan, f"Cell{fingerprint(plan)}")


def table_source(plans: Sequence[Plan]) -> str:
    """The structs of all cells and the table that the engine looks them up in."""
    unique = {fingerprint(plan): plan for plan in plans}
    parts = [
        "// Generated from the cells' equations; not to be edited.",
        "namespace recurra::RECURRA_ISA {",
        *(cell_source(plan) for plan in unique.values()),
        "const CellEntry kCells[] = {",
        *(_entry(plan) for plan in unique.values()),
        "};",
        f"const int kCellCount = {len(unique)};",
        "}  // namespace recurra",
        "",
    ]
    return "\n".join(parts)


def unit_source(plan: Plan, isa: str) -> str:
    """A translation unit of one cell for one instruction set, to be compiled to a library of its own."""
    return "\n".join(
        [
            '#include "tile.hpp"',
            # The name is written out: flags that give RECURRA_ISA another value then fail to compile.
            f"namespace recurra::{isa} {{",
            # Python writes these numbers as inf and nan, for which C++ has no literals.
            'constexpr double inf = __builtin_inf(), nan = __builtin_nan("");',
            # Without the comment that names the cell, so that equal arithmetic gives equal text.
            cell_source(plan).removeprefix(f"// {plan.cell!r}\n"),
            "const CellEntry kCell[] = {",
            _entry(plan),
            "};",
            "}",
            'extern "C" __attribute__((visibility("default"))) const recurra::CellEntry* recurra_cell() {',
            f"  return recurra::{isa}::kCell;",
            "}",
            "",
        ]
    )


def _entry(plan: Plan) -> str:
    name = fingerprint(plan)

    def functions(scalar: str) -> str:
        kinds = (
            ", ".join(
                f"(const void*)&over<Cell{name}{kind}{phase}<{scalar}>, {scalar}>" for phase in range(plan.phases)
            )
            for kind in ("Forward", "Training", "Backward")
        )
        return "{" + ", ".join("{" + kind + "}" for kind in kinds) + "}"

    return f'    {{"{name}", {functions("float")}, {functions("double")}}},'


def _bodies(plan: Plan, prefix: str) -> str:
    parts = [f"// {plan.cell!r}" if prefix else ""]
    for phase, outputs in enumerate(plan.forward):
        given = {value: place for place, value in enumerate(plan.saved) if plan.saved_in[place] < phase}
        saves = [(place, value) for place, value in enumerate(plan.saved) if plan.saved_in[place] == phase]
        for kind, kept in (("Forward", plan.phases > 1), ("Training", True)):
            stores = [("save", plan.saved_at + place, value) for place, value in saves] if kept else []
            parts.append(_struct(f"{prefix}{kind}{phase}", [*outputs, *stores], given, plan.saved_at, 0))
    everything = {value: place for place, value in enumerate(plan.saved)}
    for phase, outputs in enumerate(plan.backward):
        stores = [("set_d_slot" if kind == "slot" else kind, index, value) for kind, index, value in outputs]
        vectors = len(plan.cell.vectors) if phase == 0 else 0
        parts.append(_struct(f"{prefix}Backward{phase}", stores, everything, plan.saved_at, vectors))
    return "\n".join(parts)


def _struct(
    name: str, stores: Iterable[tuple[str, int, Value]], given: dict[Value, int], saved_at: int, vectors: int
) -> str:
    stores = list(stores)
    lines = []
    names: dict[Value, str] = {}
    order = topological([value for _, _, value in stores], given)
    uses: dict[Value, int] = {}
    for value in order:
        if value not in given:
            for argument in value.args:
                uses[argument] = uses.get(argument, 0) + 1
    for _, _, value in stores:
        uses[value] = uses.get(value, 0) + 1
    fused = {
        argument
        for value in order
        if value.op == "add" and value not in given
        for argument in [_factor(value, uses, given)]
        if argument is not None
    }
    for value in order:
        if value in fused:
            continue
        names[value] = f"v{len(names)}"
        if value in given:
            expression = f"io.saved({saved_at + given[value]})"
        else:
            expression = _expression(value, names, fused)
        lines.append(f"    const Vec<T> {names[value]} = {expression};")
    for kind, index, value in stores:
        lines.append(f"    io.{_STORES.get(kind, kind)}({index}, {names[value]});")
    return "\n".join(
        [
            f"template <class T> struct {name} {{",
            f"  static constexpr int kVectors = {vectors};",
            "  template <class L> static RECURRA_INLINE void run(const L& io) {",
            *lines,
            "  }",
            "};",
        ]
    )


def _factor(value: Value, uses: dict[Value, int], given: dict[Value, int]) -> Value | None:
    """The product in a sum that a fused multiply-add can compute; None if every product is used elsewhere too."""
    for argument in reversed(value.args):
        if argument.op == "mul" and uses[argument] == 1 and argument not in given:
            return argument
    return None


def _expression(value: Value, names: dict[Value, str], fused: set[Value]) -> str:
    if value.op in _LEAVES:
        return f"io.{_LEAVES[value.op]}({value.index})"
    if value.op == "constant":
        return f"splat({_number(value.numbers[0])})"
    if value.op == "add":
        for product, other in (value.args, value.args[::-1]):
            if product in fused:
                a, b = product.args
                return f"madd({names[a]}, {names[b]}, {names[other]})"
        return f"{names[value.args[0]]} + {names[value.args[1]]}"
    arguments = [names[argument] for argument in value.args]
    if value.op == "mul":
        return f"{arguments[0]} * {arguments[1]}"
    if value.op in _OPERATORS:
        return f"{arguments[0]} {_OPERATORS[value.op]} {arguments[1]}"
    if value.op == "neg":
        return f"-{arguments[0]}"
    if value.op in _FUNCTIONS:
        return f"{_FUNCTIONS[value.op]}({arguments[0]})"
    if value.op == "where_positive":
        return f"where_positive<T>({arguments[0]}, {arguments[1]})"
    bounds = ", ".join(_number(number) for number in value.numbers)
    if value.op == "clamp":
        return f"vclamp<T>({arguments[0]}, {bounds})"
    if value.op == "within":
        return f"within<T>({arguments[0]}, {arguments[1]}, {bounds})"
    raise ValueError(f"there is no C++ for {value.op}")


def _number(number: float) -> str:
    return f"T({number!r})"
