"""The fused CPU engine's memory: what it keeps between calls, and what happens when there is none."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from recurra.kernels.cpu import compiled

pytestmark = [
    pytest.mark.skipif(compiled.engine() is None, reason="this installation was built without the engine"),
    pytest.mark.skipif(sys.platform != "linux", reason="it reads how much memory Linux has given a process"),
]

COMMON = """
import re
import resource

import torch

import recurra

torch.set_num_threads(2)


def status(field):
    with open("/proc/self/status") as file:
        return int(re.search(field + r":\\s+(\\d+) kB", file.read())[1]) << 10


recurra.backend("cpu").__enter__()
torch.manual_seed(0)
"""

# Each row's address takes memory within the threads, of which there are two as there are two vectors of units.
SHORT = """
layer = recurra.Recurrent("rnn_tanh", 1, 32).requires_grad_(False)
x, h = torch.randn(1, 400_000, 1), torch.zeros(1, 400_000, 32)


def step(rows):
    return layer(x[:, :rows], h[:, :rows])


# Threads are started, but nothing is kept that a large batch could use.
step(1000)
failed = passed = 0
for extra in range(0, 400, 2):
    resource.setrlimit(resource.RLIMIT_AS, (status("VmSize") + (extra << 20), -1))
    try:
        found = step(400_000)
        passed += 1
    except (MemoryError, RuntimeError) as error:
        # torch says it its own way.
        assert isinstance(error, MemoryError) or "memory" in str(error), error
        failed += isinstance(error, MemoryError)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (-1, -1))
    if passed:
        break
assert passed and all(map(torch.equal, step(400_000), found))
print(failed)
"""


def run(script: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", COMMON + script],
        env={**os.environ, "OMP_NUM_THREADS": "2", **environment},
        capture_output=True,
        text=True,
        timeout=100,
    )


def test_too_little_memory_is_an_error_in_python() -> None:
    ended = run(SHORT, RECURRA_KEEP_MIB="0")
    assert ended.returncode == 0, ended.stderr
    assert int(ended.stdout) > 2


KEPT = """
layer = recurra.Recurrent("rnn_tanh", 64, 4096).requires_grad_(False)
x = torch.randn(2, 1, 64)
small = recurra.Recurrent("rnn_tanh", 1, 1).requires_grad_(False)
small(x[..., :1])
before = status("VmRSS")
# A second call finds the pages of torch's own tensors.
layer(x), layer(x)
print((status("VmRSS") - before) >> 20)
"""


@pytest.mark.parametrize(("mib", "least", "most"), [("", -32, 16), ("0", -32, 16), ("64", -32, 16), ("200", 48, 100)])
def test_a_thread_keeps_no_more_than_it_may(mib: str, least: int, most: int) -> None:
    # Packed weights take 64 MiB and something.
    ended = run(KEPT, RECURRA_KEEP_MIB=mib)
    assert ended.returncode == 0, ended.stderr
    assert least <= int(ended.stdout) <= most


@pytest.mark.parametrize("mib", ["much", "-1", "1.5", "99999999999999999999"])
def test_what_is_no_number_of_mib_is_refused(mib: str) -> None:
    ended = run(KEPT, RECURRA_KEEP_MIB=mib)
    assert f"ValueError: RECURRA_KEEP_MIB={mib}: it must be a whole number of MiB" in ended.stderr
