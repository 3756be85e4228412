"""Write the C++ of all cells to a file: python -m recurra.kernels.cpu.generator FILE, or this file run by its path.

Run by its path it needs neither torch nor an installed recurra, as the build does.
"""

from __future__ import annotations

import importlib
import sys
import types
from pathlib import Path


def _without_torch() -> None:
    """Make recurra.cells and this package importable without running the packages above them, which need torch."""
    here = Path(__file__).resolve().parent
    root = here.parents[2]
    for name, path in (
        ("recurra", root),
        ("recurra.kernels", root / "kernels"),
        ("recurra.kernels.cpu", root / "kernels" / "cpu"),
    ):
        module = types.ModuleType(name)
        module.__path__ = [str(path)]
        sys.modules[name] = module


def main() -> None:
    if not __package__:
        _without_torch()
    emit = importlib.import_module("recurra.kernels.cpu.generator.emit")
    plan = importlib.import_module("recurra.kernels.cpu.generator.plan").plan
    cells = importlib.import_module("recurra.cells").CELLS
    Path(sys.argv[1]).write_text(emit.table_source([plan(cell) for cell in cells.values()]))


if __name__ == "__main__":
    main()
