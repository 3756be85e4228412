"""Running a layer or a model loads torch, but not torch's compiler, which takes about a second to import."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.util import find_spec

import pytest

HEAVY = ["torch._dynamo", "torch._inductor", "torch._functorch.aot_autograd", "torch.onnx", "sympy"]

LAYER = """
import recurra, torch
x = torch.randn(5, 2, 3)
layer = recurra.LSTM(3, 4)
layer(x)[0].sum().backward()
layer.stream(2).step(x[0])
recurra.GRUCell(3, 4)(x[0])
with torch.no_grad():
    layer(x)
"""
LANGUAGE_MODEL = """
import torch
from recurra.systems.language_model.config import ModelConfig
from recurra.systems.language_model.network import LanguageModel
model = LanguageModel(9, ModelConfig(hidden_size=4)).eval()
with torch.no_grad():
    model(torch.zeros(5, 2, dtype=torch.int64))
"""


def loaded(script: str) -> set[str]:
    """The heavy modules that a script, run by itself, has imported at its end."""
    script += f"\nimport json, sys\nprint(json.dumps([name for name in {HEAVY} if name in sys.modules]))"
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    return set(json.loads(ended.stdout))


@pytest.mark.parametrize("script", [LAYER, LANGUAGE_MODEL], ids=["layer", "language model"])
def test_torchs_compiler_is_not_imported(script: str) -> None:
    assert loaded(script) == set()


@pytest.mark.parametrize("name", HEAVY)
def test_the_heavy_modules_exist(name: str) -> None:
    assert find_spec(name) is not None
