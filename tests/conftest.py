"""What every test runs under."""

from __future__ import annotations

from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True, scope="session")
def compiled_cells_outside_the_users_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Cells that tests have compiled, in this process and those it starts, are not left behind."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RECURRA_CACHE", str(tmp_path_factory.mktemp("compiled")))
        yield
