"""Runs of several seeds: kept as they end, gone on with, one process each."""

from __future__ import annotations

import functools
import importlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from recurra.comparison import runs
from recurra.comparison.runs import Measurement, case_name, finish, outcomes_of, spread, train, with_seeds
from recurra.config.load import load_config
from recurra.errors import RunError


@pytest.fixture
def measuring(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """tests/comparison/measuring.py under a name that spawned processes find too: they take over sys.path."""
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    return importlib.import_module("measuring")


CASES = with_seeds([{"cell": "lstm"}, {"cell": "gru"}], [1, 2])


def count(done: list[Mapping[str, Any]], case: Mapping[str, Any]) -> Measurement:
    done.append(case)
    return Measurement({"loss": len(case["cell"]) + case["seed"] / 10}, {"nats": np.full(4, float(case["seed"]))})


def test_all_cases_with_a_seed_come_before_the_next_seed() -> None:
    assert [(case["cell"], case["seed"]) for case in CASES] == [("lstm", 1), ("gru", 1), ("lstm", 2), ("gru", 2)]


def test_results_are_kept_and_not_measured_again(tmp_path: Path) -> None:
    kept, done = tmp_path / "new" / "results.jsonl", []
    measure = functools.partial(count, done)
    first = finish(kept, CASES[:2], measure, own_process=False)
    assert [result["loss"] for result in first] == [4.1, 3.1] and len(done) == 2
    shown: list[str] = []
    every = finish(kept, CASES, measure, own_process=False, report=shown.append)
    assert done == CASES and len(shown) == 2
    assert [{key: result[key] for key in ("cell", "seed")} for result in every] == CASES
    assert [json.loads(line) for line in kept.read_text().splitlines()] == every
    nats = outcomes_of(kept, [result for result in every if result["cell"] == "gru"], "nats")
    assert nats.tolist() == [[[1.0]] * 4, [[2.0]] * 4]
    # The files can be moved together.
    moved = kept.parent.rename(tmp_path / "moved") / "results.jsonl"
    assert outcomes_of(moved, every, "nats").shape == (4, 4, 1)


def test_a_line_that_was_cut_off_is_measured_again(tmp_path: Path) -> None:
    kept, done = tmp_path / "results.jsonl", []
    finish(kept, CASES, functools.partial(count, done), own_process=False)
    text = kept.read_bytes()
    for end in (len(text) - 1, len(text) - 20, len(text.splitlines()[0]) - 5):
        kept.write_bytes(text[:end])
        done.clear()
        found = finish(kept, CASES, functools.partial(count, done), own_process=False)
        assert len(done) == 4 - text[:end].count(b"\n") and len(found) == 4
        assert kept.read_bytes() == text


def test_a_foreign_line_is_named(tmp_path: Path) -> None:
    kept = tmp_path / "results.jsonl"
    for line in ("nonsense\n", "[1]\n"):
        kept.write_text('{"a": 1}\n' + line)
        with pytest.raises(RunError, match=r"results\.jsonl:2: is no"):
            finish(kept, CASES, functools.partial(count, []), own_process=False)


def test_a_result_of_other_settings_is_not_taken(tmp_path: Path) -> None:
    kept, done = tmp_path / "results.jsonl", []
    # The last one has a result, although tuples are lists in JSON.
    for width in (8, 16, 8):
        case = {"cell": "gru", "seed": 1, "sizes": (width, 2)}
        finish(kept, [case], functools.partial(count, done), own_process=False)
    assert len(done) == 2
    assert case_name({"a": 1, "b": 23}) != case_name({"a": 12, "b": 3}) and "/" not in case_name({"file": "a/b: c"})


def test_each_case_has_a_process_of_its_own(tmp_path: Path, measuring: ModuleType) -> None:
    kept, cases = tmp_path / "results.jsonl", with_seeds([{}], [1, 2, 3])
    before = os.environ.get("OMP_NUM_THREADS")
    found = finish(kept, cases, measuring.facts, workers=2, threads=3)
    assert os.environ.get("OMP_NUM_THREADS") == before
    assert len({result["process"] for result in found} | {os.getpid()}) == 4
    assert {result["threads"] for result in found} == {"3"} and not any(result["torch"] for result in found)
    assert outcomes_of(kept, found, "square")[:, :, 0].tolist() == [[0, 1, 2], [0, 2, 4], [0, 3, 6]]


def test_what_ends_first_is_kept_first(tmp_path: Path, measuring: ModuleType) -> None:
    kept = tmp_path / "results.jsonl"
    found = finish(kept, with_seeds([{}], [1, 2]), functools.partial(measuring.slow, tmp_path), workers=2)
    assert [json.loads(line)["seed"] for line in kept.read_text().splitlines()] == [2, 1]
    assert [result["seed"] for result in found] == [1, 2]


def test_a_case_that_fails_or_crashes_takes_no_other_with_it(tmp_path: Path, measuring: ModuleType) -> None:
    kept = tmp_path / "results.jsonl"
    with pytest.raises(RunError, match=r"2 of 3 cases failed") as caught:
        finish(kept, with_seeds([{}], [1, 2, 3]), measuring.dies)
    assert "exit code 7" in str(caught.value)
    assert json.loads(kept.read_text()) == {"seed": 3, "value": 3}
    with pytest.raises(RunError, match="ValueError: two is bad"):
        finish(kept, with_seeds([{}], [3, 2]), measuring.dies)


def test_a_value_cannot_overwrite_the_case(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="call it otherwise"):
        finish(tmp_path / "r.jsonl", [{"loss": 1}], lambda case: Measurement({"loss": 2}), own_process=False)


def test_lost_outcomes_are_named(tmp_path: Path) -> None:
    kept = tmp_path / "results.jsonl"
    found = finish(kept, CASES[:2], functools.partial(count, []), own_process=False)
    with pytest.raises(RunError, match="no outcomes bleu"):
        outcomes_of(kept, found, "bleu")
    (tmp_path / found[0]["outcomes"]).unlink()
    with pytest.raises(RunError, match="run again"):
        outcomes_of(kept, found, "nats")


def test_spread_is_that_of_a_sample() -> None:
    assert spread([1.0, 2.0, 3.0, 6.0]) == pytest.approx((3.0, 14**0.5 / 3**0.5, 4))
    assert spread([2.5]) == (2.5, None, 1)


def test_a_training_that_was_begun_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[str, ...]] = []
    monkeypatch.setattr(runs, "command", lambda *arguments: calls.append(arguments))
    run, settings = tmp_path / "runs" / "gru.1", tmp_path / "runs" / "gru.1.yaml"
    train(run, {"model": {"cell": "gru"}}, "--data", "text.txt")
    call = ("train", "--config", str(settings), "--run", str(run), "--data", "text.txt")
    assert calls == [call] and load_config(settings).model.cell == "gru"
    run.mkdir()
    (run / "config.yaml").touch()
    train(run, {}, "--data", "text.txt")
    assert calls[1:] == [(*call, "--resume")]


@pytest.mark.check
def test_trains_and_goes_on(tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text("all work and no play\n" * 60)
    config: dict[str, Any] = {
        "tokenizer": {"kind": "character"},
        "model": {"hidden_size": 4, "num_layers": 1},
        "training": {"max_steps": 2, "batch_size": 2, "sequence_length": 8, "device": "cpu", "num_threads": 1},
        "logging": {"tensorboard": False, "picture": False, "progress": False},
    }
    run = tmp_path / "runs" / "one"
    train(run, config, "--data", str(text))
    assert (run / "model.safetensors").exists()
    config["training"]["max_steps"] = 3
    train(run, config, "--data", str(text))
    steps = [json.loads(line)["step"] for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert max(steps) == 3
    config["model"]["hidden_size"] = 5
    with pytest.raises(RunError, match="hidden_size"):
        train(run, config, "--data", str(text))


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_an_interrupted_training_may_save(tmp_path: Path) -> None:
    # In place of recurra a program that takes a second to save.
    program = tmp_path / "program"
    lines = ["#!/bin/sh", f"trap 'sleep 1; touch {tmp_path}/saved; exit 1' INT", f"touch {tmp_path}/begun", "sleep 9"]
    program.write_text("\n".join(lines))
    program.chmod(0o755)
    script = f"import sys; from recurra.comparison.runs import command; sys.executable = {str(program)!r}; command()"
    process = subprocess.Popen(
        [sys.executable, "-c", script],
        start_new_session=True,
        stderr=subprocess.PIPE,
        # Whoever runs the tests in the background may have been started to ignore it.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    while not (tmp_path / "begun").exists():
        assert process.poll() is None
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert b"KeyboardInterrupt" in said and (tmp_path / "saved").exists()


def test_torch_is_not_imported_where_numpy_suffices() -> None:
    modules = "contestants, differences, findings, ngram, ngram_baseline, resampling, runs, search, search_curve"
    modules += (
        ", shared_results, side_by_side, significance, sizes, student, study, study_findings, study_training, table"
    )
    script = f"from recurra.comparison import {modules}; import sys; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", script], check=True)
