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
    pytest.mark.skipif("libasan" in os.environ.get("LD_PRELOAD", ""), reason="the sanitizer's memory is counted too"),
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


# Each in a fork, for the first call of a process settles how much is kept.
KEPT = """
import os


def in_a_fork(mib):
    os.environ["RECURRA_KEEP_MIB"] = mib
    layer = recurra.Recurrent("rnn_tanh", 64, 4096).requires_grad_(False)
    x = torch.randn(2, 1, 64)
    small = recurra.Recurrent("rnn_tanh", 1, 1).requires_grad_(False)
    small(x[..., :1])
    before = status("VmRSS")
    # A second call finds the pages of torch's own tensors.
    layer(x), layer(x)
    print(mib or "nothing", (status("VmRSS") - before) >> 20, flush=True)


torch.set_num_threads(1)
for mib in VALUES:
    child = os.fork()
    if child == 0:
        try:
            in_a_fork(mib)
        except ValueError as error:
            print(mib, error, flush=True)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
"""


def test_a_thread_keeps_no_more_than_it_may() -> None:
    # Packed weights take 64 MiB and something.
    wanted = {"nothing": (-32, 16), "0": (-32, 16), "64": (-32, 16), "200": (48, 100)}
    ended = run("VALUES = ['', '0', '64', '200']" + KEPT)
    assert ended.returncode == 0, ended.stderr
    kept = {said: int(mib) for said, mib in map(str.split, ended.stdout.splitlines())}
    assert kept.keys() == wanted.keys()
    for said, (least, most) in wanted.items():
        assert least <= kept[said] <= most, kept


def test_what_is_no_number_of_mib_is_refused() -> None:
    wrong = ["much", "-1", "1.5", "99999999999999999999"]
    ended = run(f"VALUES = {wrong}" + KEPT)
    assert ended.returncode == 0, ended.stderr
    refused = "{0} RECURRA_KEEP_MIB={0}: it must be a whole number of MiB, 0 to keep none"
    assert ended.stdout.splitlines() == [refused.format(mib) for mib in wrong]
