"""Registers the operators of the layers (kernels/operators) as soon as both torch and recurra have been imported.

A stored graph names the operators, and a program that loads it with torch.export.load may have imported recurra alone.
recurra itself does not import torch, so that the command line answers before torch has been loaded.
"""

from __future__ import annotations

import importlib
import sys
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

__all__ = ["register_with_torch"]

_HOME = "recurra.kernels"


class _AfterTorch:
    """A finder that finds torch as Python does, and registers the operators when torch has been loaded."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        if name != "torch":
            return None
        others = (finder for finder in sys.meta_path if finder is not self)
        spec = next(filter(None, (finder.find_spec(name, path, target) for finder in others)), None)
        if spec is None or spec.loader is None:
            return spec
        loader: Any = spec.loader
        load = loader.exec_module

        def exec_module(module: ModuleType) -> None:
            del loader.exec_module
            load(module)
            sys.meta_path.remove(self)
            importlib.import_module(_HOME)

        loader.exec_module = exec_module
        return spec


def register_with_torch() -> None:
    """Register the operators now if torch is there, else when it is imported."""
    if "torch" in sys.modules:
        importlib.import_module(_HOME)
    else:
        sys.meta_path.insert(0, _AfterTorch())
