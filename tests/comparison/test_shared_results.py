"""Claims that end with their processes, and results that are there whole or not at all."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from recurra.comparison.shared_results import Claimed, claimed, holder, keep, read_result
from recurra.errors import RunError

HOLD = """
import sys, time
from pathlib import Path
from recurra.comparison.shared_results import claimed
with claimed(Path(sys.argv[1]), "one"):
    print("held", flush=True)
    time.sleep(60)
"""


def test_one_process_at_a_time_and_a_killed_one_leaves_nothing(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None and process.stdout.readline() == "held\n"
        assert (holder(tmp_path, "one") or "").startswith(f"process {process.pid} on ")
        with (
            pytest.raises(Claimed, match=rf"^one: process {process.pid} on .* wait for its end"),
            claimed(tmp_path, "one"),
        ):
            pass
        # Another piece of work is free.
        with claimed(tmp_path, "two"):
            assert holder(tmp_path, "two") is not None
    finally:
        process.kill()
        process.wait()
    assert holder(tmp_path, "one") is None and holder(tmp_path, "two") is None
    with claimed(tmp_path, "one"):
        pass


def test_asking_who_is_at_it_takes_nothing_away(tmp_path: Path) -> None:
    assert holder(tmp_path, "one") is None
    with claimed(tmp_path, "one"):
        assert all(holder(tmp_path, "one") for _ in range(3))
    assert holder(tmp_path, "one") is None


def test_a_result_comes_back_with_its_outcomes(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "trials"
    assert read_result(folder, "one") is None
    keep(folder, "one", {"loss": 1.5, "settings": {"a.b": [1, "x"]}}, {"nats": np.arange(6.0).reshape(3, 2)})
    found = read_result(folder, "one")
    assert found == {"loss": 1.5, "settings": {"a.b": [1, "x"]}, "outcomes": "one.npz"}
    with np.load(folder / found["outcomes"]) as arrays:
        assert arrays["nats"].tolist() == [[0, 1], [2, 3], [4, 5]]
    assert sorted(path.name for path in folder.iterdir()) == ["one.json", "one.npz"]


def test_what_is_no_result_is_named(tmp_path: Path) -> None:
    for text in ("", "{", "[1]"):
        (tmp_path / "one.json").write_text(text)
        with pytest.raises(RunError, match=r"one\.json: is no result"):
            read_result(tmp_path, "one")
    (tmp_path / "file").touch()
    with pytest.raises(RunError, match="cannot be written"):
        keep(tmp_path / "file" / "trials", "one", {})
