"""What other processes measure in tests: a spawned process imports its function from a file."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from recurra.comparison.runs import Measurement


def facts(case: Mapping[str, Any]) -> Measurement:
    """The process, its threads, whether torch was loaded, and random numbers that were not seeded here."""
    return Measurement(
        {"process": os.getpid(), "threads": os.environ["OMP_NUM_THREADS"], "torch": "torch" in sys.modules},
        {"square": np.arange(3.0) * case["seed"]},
    )


def dies(case: Mapping[str, Any]) -> Measurement:
    if case["seed"] == 1:
        os._exit(7)
    if case["seed"] == 2:
        raise ValueError("two is bad")
    return Measurement({"value": case["seed"]})


def slow(folder: Path, case: Mapping[str, Any]) -> Measurement:
    """Ends in an order of its own: seed 2 first, and seed 1 when the line of seed 2 has been kept."""
    if case["seed"] == 1:
        deadline = time.monotonic() + 60
        while "seed" not in (folder / "results.jsonl").read_text() and time.monotonic() < deadline:
            time.sleep(0.01)
    return Measurement({"value": case["seed"]})
