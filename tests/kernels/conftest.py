"""What tests of kernels share."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

from recurra.kernels.cpu import compiled

from .own_compiler import Compiler, forget


@pytest.fixture
def instruction_set(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> object:
    offered = compiled.engine().instruction_sets()
    if request.param not in offered:
        pytest.skip(f"this machine has no {request.param}")
    monkeypatch.setenv("RECURRA_ISA", request.param)
    compiled.instruction_set.cache_clear()
    compiled.compiled.cache_clear()
    yield request.param
    monkeypatch.undo()
    compiled.instruction_set.cache_clear()
    compiled.compiled.cache_clear()


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "not made yet" / "cache"


@pytest.fixture
def compiler(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Compiler]:
    compiler = Compiler(tmp_path)
    monkeypatch.setenv("RECURRA_CACHE", str(cache))
    monkeypatch.setenv("CXX", f"'{compiler.path}'")
    monkeypatch.delenv("RECURRA_NO_COMPILE", raising=False)
    # The quickest to compile for; one test takes each.
    monkeypatch.setenv("RECURRA_ISA", "portable")
    forget()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield compiler
    monkeypatch.undo()
    forget()
