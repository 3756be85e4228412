"""What the build makes: the compiled module's libraries, and a generator that needs nothing but Python."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import recurra
from recurra.kernels.cpu.compiled import engine

PACKAGE = Path(recurra.__file__).parent
GENERATOR = PACKAGE / "kernels" / "cpu" / "generator" / "__main__.py"


def generate(target: Path, *, seed: int) -> bytes:
    """The generator's output, from a process of its own with its own order of sets."""
    # -S: as on a machine that builds the package, none of what the installed package depends on is there.
    command = [sys.executable, "-S", str(GENERATOR), str(target)]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment["PYTHONHASHSEED"] = str(seed)
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return target.read_bytes()


def test_generator_needs_only_the_standard_library_and_writes_the_same_every_time(tmp_path: Path) -> None:
    first = generate(tmp_path / "first.inc", seed=1)
    assert b"kCells" in first
    assert first == generate(tmp_path / "second.inc", seed=2)


def test_headers_for_cells_compiled_later_are_in_the_package() -> None:
    headers = {path.name for path in (PACKAGE / "kernels" / "cpu" / "csrc").iterdir()}
    assert {"vec.hpp", "functions.hpp", "tile.hpp", "cell.hpp"} <= headers


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads Linux's /proc")
def test_engine_shares_the_openmp_of_torch() -> None:
    # A second libgomp in the process would be a second pool of threads, on the same cores as torch's.
    if engine() is None:
        pytest.skip("this installation was built without the engine")
    script = (
        "import torch, recurra.kernels.cpu._engine as engine; torch.ones(512, 512) @ torch.ones(512, 512);"
        "print(engine.__file__); print(open('/proc/self/maps').read())"
    )
    printed = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    file, maps = printed.split("\n", 1)
    runtimes = {line.split()[-1] for line in maps.splitlines() if "libgomp" in line or "libomp" in line}
    assert len(runtimes) == 1, runtimes
    # The plain soname, that of torch's copy; a hash in it would be a copy bundled with this module.
    assert b"libgomp.so.1\0" in Path(file).read_bytes()
