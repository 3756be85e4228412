"""What every test runs under."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest
from hypothesis import settings

# How long an example takes is the machine's affair, and no test's.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


def pytest_make_parametrize_id(val: object) -> str | None:
    """Names a case of bytes by their number: packed bytes carry the time, and no two workers' cases are named alike."""
    return f"{len(val)} bytes" if isinstance(val, bytes) else None


@pytest.fixture(autouse=True, scope="session")
def compiled_cells_outside_the_users_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Cells that tests have compiled, in this process and those it starts, are not left behind."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RECURRA_CACHE", str(tmp_path_factory.mktemp("compiled")))
        yield


@pytest.fixture(autouse=True)
def nothing_stays_compiled() -> Iterator[None]:
    """torch compiles a function so many times and no more, and all tests of a process share those of the layers."""
    yield
    if "torch._dynamo" in sys.modules:
        sys.modules["torch._dynamo"].reset()
