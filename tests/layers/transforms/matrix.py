"""The cells of the matrix, which of them may refuse and why, and the verdict on one."""

from __future__ import annotations

import re
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import NamedTuple

import torch
from torch._subclasses.fake_tensor import DataDependentOutputException, DynamicOutputShapeException
from torch.fx.experimental.symbolic_shapes import GuardOnDataDependentSymNode

from . import autograd, functional, modes, tracing
from .problem import CELLS, ENTRIES, Problem

__all__ = ["CASES", "Case", "is_refusal", "judge", "reason_to_refuse"]

WAYS: dict[str, Callable[[Problem], None]] = {**autograd.WAYS, **functional.WAYS, **tracing.WAYS, **modes.WAYS}

# Ways that take a second or more a cell, and not every cell of the matrix.
EXPENSIVE = [
    *(way for way in tracing.WAYS if way.startswith(("compile", "export", "make_fx_fake", "make_fx_symbolic"))),
    "autocast_compiled",
]

# Ways with one layer too, but with every cell: a backward for each of a hundred numbers, a node for each operation.
LONG = ("func_jac*", "func_hessian", "jacobian_*", "gradcheck_*", "make_fx_real*")

# Ways in which a fault may end the process: they run in a process of their own.
ENDING = (
    *("hooks_*", "two_threads", "some_need_gradients", "wrapper_*", "fake_*", "meta_*", "default_device_meta"),
    *("dispatch_mode", "flop_counter", "make_fx_real*", "jit_*", "is_grads_batched", "vmap_of_autograd_grad"),
)

# Ways that are about a backward pass, which a stream does not have.
BACKWARD = (
    *("some_need_gradients", "*checkpoint*", "hooks_*", "retain_graph", "double_backward", "two_threads"),
    *("is_grads_batched", "vmap_of_autograd_grad", "gradcheck_batched", "autocast_recomputed"),
)

GRAPHS = ("compile_*", "autocast_compiled", "export*", "make_fx_*")
TRANSFORMS = ("func_*", "dual_numbers", "vmap_*", "jacobian_*", "gradcheck_forward")


class MayRefuse(NamedTuple):
    """Ways, entry points and cells that may refuse, with the reason. All others must give the right numbers."""

    ways: tuple[str, ...]
    entries: Sequence[str]
    reason: str
    cells: Sequence[str] = tuple(CELLS)


MAY_REFUSE = [
    MayRefuse(GRAPHS, ("packed",), "how many rows each step of a packed batch has is data, and a graph holds no data"),
    MayRefuse(
        ("fake_*", "meta_*"), ("packed",), "sizes and order of a packed batch are data, and these tensors have none"
    ),
    MayRefuse(
        (
            "func_jvp*",
            "func_jacfwd",
            "func_hessian",
            "dual_numbers",
            "jacobian_vectorized_forward",
            "gradcheck_forward",
        ),
        ("packed",),
        "torch's own packing has no rule for forward mode",
    ),
    MayRefuse(GRAPHS, ("stream",), "a stream holds its state and copies of the weights where a graph cannot see them"),
    MayRefuse(
        ("jit_*",), ("stream",), "a stream holds its state and copies of the weights where a graph cannot see them"
    ),
    MayRefuse(TRANSFORMS, ("stream",), "a stream has no gradients, and its state has no dimension for vmap"),
    MayRefuse(("fake_*", "meta_*"), ("stream",), "a stream computes at once, and there is nothing to compute with"),
    MayRefuse(("wrapper_*",), ENTRIES, "a tensor without memory of its own cannot reach a kernel"),
    MayRefuse(("fake_inputs", "fake_weights"), ENTRIES, "numbers and tensors without numbers do not mix"),
    MayRefuse(
        ("subclass_input", "flop_counter", "dispatch_mode"),
        ("stream",),
        "a stream steps where torch does not look, so that nothing could be counted or recorded",
    ),
    MayRefuse(
        ("compile_jvp*", "compile_grad*", "compile_jac*", "compile_vmap*"),
        ENTRIES,
        "a transformed layer is its equations, and torch.compile cannot follow a gate that is added to a tensor",
        ("own",),
    ),
    MayRefuse(("hooks_other_dtype",), ENTRIES, "backward may want the type that forward saved"),
]

# Errors in which torch's compilers say that they cannot follow.
OF_COMPILERS = (
    *(torch._dynamo.exc.TorchDynamoException, GuardOnDataDependentSymNode),
    *(DataDependentOutputException, DynamicOutputShapeException),
)
OF_DTENSOR = "got mixed torch.Tensor and DTensor"
OF_MAKE_FX = "It appears that you're trying to get value out of a tracing tensor"
BROKEN = (torch._dynamo.exc.InternalTorchDynamoError,)
FORBIDDEN = re.compile(r"internal (error|assert)|data pointer|storage|not allocated|file an issue", re.IGNORECASE)
ABOUT_LAYERS = re.compile(r"\b(layers?|streams?|PackedSequence|lengths|cells?|weights?|input|states?|recurra)\b")


@dataclass(frozen=True)
class Case:
    way: str
    entry: str
    cell: str

    def __str__(self) -> str:
        return f"{self.way}-{self.entry}-{self.cell}"

    @property
    def layers(self) -> int:
        return 1 if self.way in EXPENSIVE or self.matches(LONG) else 2

    @property
    def in_turn(self) -> bool:
        """Whether it is this cell's turn at this entry point: each entry point has one, and each way another."""
        turn = ENTRIES.index(self.entry) + list(WAYS).index(self.way)
        return list(CELLS)[turn % len(CELLS)] == self.cell

    @property
    def isolated(self) -> bool:
        return self.matches(ENDING)

    @property
    def slow(self) -> bool:
        """The long tail: of an expensive way one entry point, and of a way in its own process one cell, are kept."""
        if self.isolated:
            return not self.in_turn
        if self.way == "compile_training":
            return self.entry != "forward" and not self.in_turn
        if self.way not in EXPENSIVE:
            return False
        heavy = self.matches(("export*", "make_fx_symbolic*", "compile_inductor"))
        return heavy or self.entry != ENTRIES[EXPENSIVE.index(self.way) % len(ENTRIES)]

    def matches(self, patterns: tuple[str, ...]) -> bool:
        return any(fnmatchcase(self.way, pattern) for pattern in patterns)


def cases() -> list[Case]:
    found = [Case(way, entry, cell) for way in WAYS for entry in ENTRIES for cell in CELLS]
    found = [case for case in found if not (case.entry == "stream" and case.matches(BACKWARD))]
    return [case for case in found if case.way not in EXPENSIVE or case.way == "compile_training" or case.in_turn]


CASES = cases()


def reason_to_refuse(case: Case) -> str | None:
    for rule in MAY_REFUSE:
        if case.entry in rule.entries and case.cell in rule.cells and case.matches(rule.ways):
            return rule.reason
    return None


def is_refusal(error: BaseException) -> bool:
    """Whether an error says in a sentence about the layer, or in the compiler's own words, that this cannot be done."""
    text = str(error)
    if isinstance(error, BROKEN) or FORBIDDEN.search(text):
        return False
    if isinstance(error, OF_COMPILERS) or text.startswith(OF_MAKE_FX) or OF_DTENSOR in text:
        return True
    kinds = (RuntimeError, ValueError, TypeError, NotImplementedError)
    return isinstance(error, kinds) and len(text.split()) >= 5 and ABOUT_LAYERS.search(text) is not None


def judge(case: Case) -> str:
    """ "right", "refused", or what is wrong."""
    try:
        WAYS[case.way](Problem(case.cell, case.entry, case.layers))
    except Exception as error:
        if reason_to_refuse(case) is not None and is_refusal(error):
            return "refused"
        return "".join(traceback.format_exception(error)[-3:])
    return "right"
