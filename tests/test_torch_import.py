"""Stored graphs of layers load wherever recurra has been imported, in either order with torch."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

import recurra


@pytest.mark.parametrize(
    "imports",
    [
        "import recurra, torch",
        pytest.param("import torch, recurra", marks=pytest.mark.check),
        pytest.param("import recurra.kernels.cpu.run, torch", marks=pytest.mark.check),
    ],
)
def test_a_stored_graph_loads_after_importing_recurra(imports: str, tmp_path: Path) -> None:
    layer = recurra.Recurrent("gru_cho", 3, 4).eval()
    x = torch.randn(5, 2, 3)
    torch.export.save(torch.export.export(layer, (x,)), tmp_path / "graph.pt2")
    torch.save(x, tmp_path / "x.pt")
    script = (
        f"{imports}\n"
        f"graph = torch.export.load({str(tmp_path / 'graph.pt2')!r})\n"
        f"print(graph.module()(torch.load({str(tmp_path / 'x.pt')!r}))[0].double().sum().item())"
    )
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    assert float(ended.stdout) == layer(x)[0].double().sum().item()


def test_recurra_alone_does_not_import_torch() -> None:
    script = "import sys, recurra, recurra.cells\nassert 'torch' not in sys.modules\nimport recurra.cli.main"
    subprocess.run([sys.executable, "-c", script], check=True)


def test_torch_is_found_as_python_finds_it() -> None:
    script = (
        "import recurra, sys, importlib.util\nassert importlib.util.find_spec('torch').origin\n"
        "import torch\nassert torch.__spec__.loader is torch.__loader__\n"
        "assert not [finder for finder in sys.meta_path if type(finder).__module__ == 'recurra.torch_import']\n"
        "assert torch.ops.recurra.layer"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
