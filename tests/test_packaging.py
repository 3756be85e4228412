"""What the build makes: the compiled module's libraries, and a generator that needs nothing but Python."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import recurra
from recurra.kernels.cpu import compiled

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


def test_scripts_of_pages_are_in_the_package() -> None:
    scripts = {path.name for path in (PACKAGE / "pages" / "scripts").iterdir()}
    assert {"common.js", "states.js", "pictures.js", "start.js", "attention.js", "contributions.js"} <= scripts


needs_engine = pytest.mark.skipif(compiled.engine() is None, reason="this installation was built without the engine")
on_linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads Linux's /proc")


def run(script: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=100)


@needs_engine
def test_engine_is_linked_to_no_openmp() -> None:
    # A machine may have none but torch's, whose name differs from wheel to wheel.
    file = Path(compiled.engine().__file__).read_bytes()
    assert not [name for name in (b"libgomp", b"libomp", b"libiomp", b"GOMP_parallel") if name in file]


@needs_engine
@on_linux
def test_openmp_is_that_of_torch() -> None:
    functions = compiled.openmp_functions(torch._C.__file__)
    assert functions is not None
    places = [line.split() for line in Path("/proc/self/maps").read_text().splitlines()]
    for function in functions:
        (file,) = [
            Path(place[-1])
            for place in places
            if int(place[0].split("-")[0], 16) <= function < int(place[0].split("-")[1], 16)
        ]
        # torch/lib, or torch.libs beside torch.
        assert Path(torch.__file__).parents[1] in file.parents, file
    assert compiled.openmp_functions(compiled.engine().__file__) is None


@needs_engine
@on_linux
def test_engine_shares_the_threads_of_torch() -> None:
    # A pool of its own would be more threads, on the same cores as torch's.
    printed = run("""
import time
from pathlib import Path
import torch, recurra

def threads():
    return {task.name for task in Path("/proc/self/task").iterdir()}

def sleeps(thread):
    status = Path(f"/proc/self/task/{thread}/status").read_text()
    return int(status.split("voluntary_ctxt_switches:")[1].split()[0])

torch.set_num_threads(2)
layer, x = recurra.Recurrent("lstm", 128, 128), torch.randn(10, 32, 128)
before = threads()
torch.ones(1024, 1024) @ torch.ones(1024, 1024)
(of_torch,) = threads() - before
everyone = threads()
# Until it no longer spins, so that it has to be woken.
time.sleep(0.5)
slept = sleeps(of_torch)
with torch.no_grad():
    layer(x)
time.sleep(0.5)
print(threads() == everyone, sleeps(of_torch) > slept)
""").stdout
    assert printed.split() == ["True", "True"]


def test_an_engine_that_cannot_be_loaded_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(error: ImportError) -> None:
        def importing(*names: str) -> None:
            raise error

        monkeypatch.setattr(compiled, "import_module", importing)

    fail(ImportError("libc.so.6: version `GLIBC_2.99' not found"))
    with pytest.warns(UserWarning, match="cannot be loaded here .*GLIBC_2.99"):
        assert compiled.engine.__wrapped__() is None
    fail(ModuleNotFoundError("No module named '_engine'"))
    assert compiled.engine.__wrapped__() is None


@needs_engine
def test_without_openmp_the_engine_says_so_and_computes_the_same() -> None:
    ran = run("""
import torch, recurra
from recurra.kernels.cpu import compiled
layer, x = recurra.Recurrent("lstm", 128, 128), torch.randn(10, 32, 128)
torch.set_num_threads(1)
expected = layer(x)[0]
compiled.engine.cache_clear()
compiled.openmp_functions = lambda library: None
compiled.engine().use_openmp(0, 0, 0)
torch.set_num_threads(2)
print(torch.equal(layer(x)[0], expected))
""")
    assert ran.stdout.strip() == "True"
    assert "runs on one thread" in ran.stderr
