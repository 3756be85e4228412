"""The engine's compiled cells: from a cell's equations to the object that runs them."""

from __future__ import annotations

import ctypes
import os
import warnings
from functools import lru_cache
from importlib import import_module
from types import ModuleType
from typing import Any

import torch

from ...cells import Cell
from . import own
from .generator.emit import fingerprint
from .generator.plan import Plan, plan

__all__ = ["WORTH_A_THREAD", "CompiledCell", "compiled", "engine", "instruction_set", "openmp_functions"]

# With fewer multiplications in a step, another thread costs more time than it saves.
WORTH_A_THREAD = 6000

_SOURCES = {"input": 0, "state": 1, "operand": 2}


@lru_cache(maxsize=1)
def engine() -> ModuleType | None:
    """The compiled module, whose threads are those of torch; None if this installation was built without it.

    None also, with a UserWarning, if it cannot be loaded on this machine.
    """
    try:
        module = import_module("._engine", __package__)
    except ModuleNotFoundError:
        return None
    except ImportError as error:
        warnings.warn(
            f"Layers run without the CPU engine, which cannot be loaded here ({error}): install recurra from its "
            "source distribution, which builds it for this machine.",
            stacklevel=2,
        )
        return None
    # The dynamic linker looks among the libraries that the program was started with first (None), then among those that
    # torch is linked to.
    for library in (None, torch._C.__file__):
        if functions := openmp_functions(library):
            module.use_openmp(*functions)
            return module
    warnings.warn(
        "The CPU engine runs on one thread, for torch has no OpenMP: install torch's own wheel.", stacklevel=2
    )
    return module


def openmp_functions(library: str | None) -> tuple[int, ...] | None:
    """Addresses of the OpenMP functions that the engine uses; None if they are not there.

    Args:
        library: the file of a library, which is searched together with those that it is linked to; None for the program
            and what was loaded for all to use.
    """
    found = ctypes.CDLL(library)
    # GCC's library and LLVM's have all three by these names.
    names = ("GOMP_parallel", "omp_get_num_threads", "omp_get_thread_num")
    if not all(hasattr(found, name) for name in names):
        return None
    return tuple(ctypes.cast(getattr(found, name), ctypes.c_void_p).value or 0 for name in names)


@lru_cache(maxsize=1)
def instruction_set() -> str | None:
    """The instruction set whose kernels run: the best of this machine, or what RECURRA_ISA names.

    "amx" is "avx512" with products in bfloat16 on matrix tiles.

    Raises:
        ValueError: if this machine does not have the one that RECURRA_ISA names.
    """
    module = engine()
    if module is None:
        return None
    offered = module.instruction_sets()
    wanted = os.environ.get("RECURRA_ISA")
    if wanted and wanted not in offered:
        raise ValueError(f"RECURRA_ISA={wanted}: this machine has {', '.join(offered)}.")
    return wanted or offered[0]


class CompiledCell:
    """A cell that the engine can run.

    Attributes:
        plan: the cell's step cut into matrix products and pointwise phases.
        run: the engine's object, with `forward` and `backward`.
        gates: how many gates the cell has.
        matrices: the names of the parameters that are multiplied, in the engine's order.
        vectors: the names of the parameters that are not, except for the biases.
        maskable: whether the engine has recurrent dropout for the cell. The engine masks h and every operand that the
            step computes. So weight_hh alone may multiply an operand, no other matrix may multiply h beside weight_hh,
            and weight_hh may multiply no other state.
        used: "input" and the parameters whose every element the step uses; the engine writes their whole gradients.
    """

    def __init__(self, the_plan: Plan, run: Any) -> None:
        self.plan = the_plan
        self.run = run
        cell = the_plan.cell
        # Kept, because a cell may compute its gates each time that they are asked for.
        self.gates = len(cell.gates)
        self.matrices = ["weight_ih", "weight_hh", *(f"weight_{name}" for name in cell.matrices)]
        self.vectors = [f"weight_{name}" for name in cell.vectors]
        rows = {(product.matrix, product.gate) for product in the_plan.products}
        whole = {matrix: all((matrix, gate) in rows for gate in range(len(cell.gates))) for matrix in ("ih", "hh")} | {
            matrix: (matrix, 0) in rows for matrix in cell.matrices
        }
        kinds: dict[tuple[str, int], set[bool]] = {}
        for product in the_plan.products:
            kinds.setdefault((product.source, product.index), set()).add(product.matrix == "hh")
        # The engine masks every operand and, of the states, h alone.
        self.maskable = all(
            len(kind) == 1 and ((source, index) == ("state", 0) or kind == {source == "operand"})
            for (source, index), kind in kinds.items()
        )
        self.used = {f"weight_{matrix}" for matrix, all_rows in whole.items() if all_rows}
        self.used |= {"weight_hr", *(f"weight_{vector}" for vector in cell.vectors)}
        self.used |= {f"bias_{matrix}" for matrix in ("ih", "hh") if whole[matrix]}
        if any(product.matrix == "ih" for product in the_plan.products):
            self.used.add("input")

    def threads(self, batch: int, hidden: int) -> int:
        """How many threads to run a layer on."""
        work = batch * hidden * hidden * len(self.plan.products)
        return 1 if work < 2 * WORTH_A_THREAD else min(torch.get_num_threads(), work // WORTH_A_THREAD)


@lru_cache(maxsize=256)
def compiled(cell: Cell) -> CompiledCell | None:
    """A cell ready for the engine, compiled now if the engine was built without it; None if it cannot be compiled."""
    module, isa = engine(), instruction_set()
    if module is None or isa is None:
        return None
    try:
        the_plan = plan(cell)
    except (TypeError, ValueError):
        return None
    matrices = ["ih", "hh", *cell.matrices]
    products = [
        [p.slot, matrices.index(p.matrix), p.gate, _SOURCES[p.source], p.index, p.phase] for p in the_plan.products
    ]
    arguments = {
        "isa": isa,
        "fingerprint": fingerprint(the_plan),
        "states": len(cell.states),
        "slots": the_plan.slots,
        "kept": the_plan.kept,
        "phases": the_plan.phases,
        "vectors": len(cell.vectors),
        "operand_phase": the_plan.operand_phase,
        "products": products,
    }
    try:
        run = module.Cell(**arguments)
    except ValueError:
        return None
    except KeyError:
        # "amx" differs from "avx512" in the matrix products only, and `entry` compiles everything else.
        entry = own.entry(the_plan, "avx512" if isa == "amx" else isa)
        if entry is None:
            return None
        run = module.Cell(**arguments, entry=entry)
    return CompiledCell(the_plan, run)
