"""What tests of kernels share."""

from __future__ import annotations

import pytest

from recurra.kernels.cpu import compiled


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
