"""Reading the log of a run, metrics.jsonl."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..errors import RunError
from ..files import regular
from ..strict_json import read_json

__all__ = ["best_evaluation", "read_metrics", "read_records"]


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The records of a metrics.jsonl, each of a step; an unfinished last line and damaged ones are passed over.

    A record has the keys step (a whole number), kind (train or valid) and loss. All values but kind are numbers, or
    None in place of infinity and NaN, which JSON does not have.

    Raises:
        RunError: if it is there and cannot be read.
    """
    return [record for record in read_records(path) if _is_of_training(record)]


def best_evaluation(records: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    """The evaluation of the lowest criterion, or loss where none is set; None if there is none."""
    found = [record for record in records if record["kind"] == "valid" and record["loss"] is not None]
    return min(found, key=_criterion, default=None)


def _criterion(record: dict[str, Any]) -> float:
    found: float | None = record.get("criterion")
    return record["loss"] if found is None else found


def _is_of_training(record: dict[str, Any]) -> bool:
    numbers = (value for key, value in record.items() if key != "kind")
    whole = all(value is None or type(value) in (int, float) for value in numbers)
    return whole and record.get("kind") in ("train", "valid") and "loss" in record


def read_records(path: Path) -> list[dict[str, Any]]:
    records = []
    try:
        # Not splitlines, which also parts at the separators of Unicode that JSON lets stand in a text.
        lines = regular(path).read_bytes().split(b"\n")[:-1] if path.exists() else []
    except OSError as error:
        raise RunError(f"{path}: cannot be read ({error.strerror or error}).") from error
    for line in lines:
        try:
            record = read_json(line)
        except ValueError:
            continue
        if isinstance(record, dict) and type(record.get("step")) is int:
            records.append(record)
    return records
