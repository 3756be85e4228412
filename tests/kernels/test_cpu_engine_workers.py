"""The fused CPU engine within data workers, forked and spawned, and under torch's deterministic algorithms."""

from __future__ import annotations

import multiprocessing
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import recurra
from recurra.kernels import record_backends
from recurra.kernels.cpu import compiled

pytestmark = pytest.mark.skipif(compiled.engine() is None, reason="this installation was built without the engine")

SCRIPT = """
import sys

import torch
from torch.utils.data import DataLoader, Dataset

import recurra


class Encoded(Dataset):
    # What a data worker gives is what the engine made of the sequence there.
    def __init__(self):
        torch.manual_seed(0)
        self.layer = recurra.Recurrent("gru_cho", 33, 70).requires_grad_(False)
        self.x = torch.randn(6, 50, 1, 33)

    def __len__(self):
        return len(self.x)

    def __getitem__(self, index):
        with recurra.backend("cpu"):
            return self.layer(self.x[index])[0]


if __name__ == "__main__":
    torch.set_num_threads(2)
    data = Encoded()
    expected = [data[index] for index in range(len(data))]
    loader = DataLoader(data, batch_size=None, num_workers=2, multiprocessing_context=sys.argv[1])
    found = list(loader)
    assert len(found) == 6 and all(map(torch.equal, found, expected))
"""


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_data_workers_compute_the_same(method: str, tmp_path: Path) -> None:
    if method not in multiprocessing.get_all_start_methods():
        pytest.skip(f"this system cannot {method}")
    script = tmp_path / "workers.py"
    script.write_text(SCRIPT)
    subprocess.run([sys.executable, str(script), method], check=True, timeout=100)


def test_it_runs_under_deterministic_algorithms_and_repeats_itself() -> None:
    layer = recurra.Recurrent("lstm_peephole", 20, 45, bidirectional=True)
    x = torch.randn(9, 13, 20, requires_grad=True)

    def step() -> list[torch.Tensor]:
        output = layer(x, lengths=[9, 1, 5, 0, 9, 2, 3, 4, 8, 7, 6, 9, 1])[0]
        return [output, *torch.autograd.grad(output.square().sum(), [x, *layer.parameters()])]

    torch.use_deterministic_algorithms(True)
    try:
        with record_backends() as ran:
            first, second = step(), step()
    finally:
        torch.use_deterministic_algorithms(False)
    assert ran == ["cpu", "cpu"]
    assert all(map(torch.equal, first, second))
