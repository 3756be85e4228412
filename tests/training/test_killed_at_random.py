"""Trainings killed at any moment, and trainings that begin at once, in many rounds: `make check` alone has them."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from recurra.config.load import load_config
from recurra.errors import RunError
from recurra.run.directory import begun_run
from recurra.run.metrics import read_metrics
from recurra.systems.language_model.config import LanguageModelConfig
from recurra.training.training_run import train

pytestmark = [
    pytest.mark.check,
    pytest.mark.skipif(not hasattr(os, "fork"), reason="killed are forks, which need no seconds to import torch"),
]

KILLED = 15
TOGETHER = 400


def forked(work: Callable[[], object]) -> int:
    """Do the work in a child, which leaves at once, with 0 if nothing was raised."""
    child = os.fork()
    if child == 0:
        try:
            work()
        except BaseException:
            os._exit(1)
        os._exit(0)
    return child


def language_settings(folder: Path) -> LanguageModelConfig:
    text = folder / "text.txt"
    text.write_text("the apple is red\nthe pear is green\nan apple and a pear make a salad\n" * 60, encoding="utf-8")
    rates = dict.fromkeys(("dropout", "embedding_dropout", "weight_dropout"), 0.2)
    return load_config(
        None,
        [
            {"task": "language-model", "data": {"train": [str(text)]}, "tokenizer": {"kind": "character"}},
            {"model": {"hidden_size": 8, "num_layers": 2, **rates}},
            {"training": {"max_steps": 60, "batch_size": 4, "sequence_length": 16, "evaluate_every": 10}},
            {"training": {"save_every": 7, "num_threads": 1, "device": "cpu", "vary_sequence_length": True}},
            {"logging": {"every_steps": 5, "tensorboard": False, "progress": False}},
        ],
    )


def translation_settings(folder: Path) -> LanguageModelConfig:
    return load_config(
        None,
        [
            {"task": "translation", "data": {"toy": "copy"}, "tokenizer": {"kind": "whitespace"}},
            {"model": {"hidden_size": 8, "embedding_size": 8, "dropout": 0.2}},
            {"training": {"max_steps": 12, "evaluate_every": 5, "save_every": 4, "num_threads": 1, "device": "cpu"}},
            {"logging": {"every_steps": 5, "tensorboard": False, "progress": False}},
        ],
    )


def written(run: Path) -> tuple[object, ...]:
    timing = ("seconds", "tokens_per_second")
    lines = [{k: v for k, v in line.items() if k not in timing} for line in read_metrics(run / "metrics.jsonl")]
    tensors = [(run / "checkpoints" / name / "tensors.safetensors").read_bytes() for name in ("last", "best")]
    return (lines, (run / "model.safetensors").read_bytes(), *tensors)


@pytest.mark.parametrize("system", ["language-model", "translation"])
def test_killed_at_random_moments_and_resumed_is_the_same_run(system: str, tmp_path: Path) -> None:
    torch.set_num_threads(1)
    settings = (language_settings if system == "language-model" else translation_settings)(tmp_path)
    whole = tmp_path / "whole"
    began = time.monotonic()
    os.waitpid(forked(lambda: train(settings, whole)), 0)  # type: ignore[arg-type]
    takes = time.monotonic() - began
    expected = written(whole)
    chance = random.Random(system)
    killed = 0
    for number in range(KILLED):
        run = tmp_path / f"part {number}"
        # Twice: what a killed resumption leaves has to be a run too.
        for _ in range(2):
            resume = (run / "config.yaml").exists()
            child = forked(lambda run=run, resume=resume: train(settings, run, resume=resume))  # type: ignore[misc]
            time.sleep(chance.uniform(0.0, takes))
            os.kill(child, signal.SIGKILL)
            killed += os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
        train(settings, run, resume=(run / "config.yaml").exists())  # type: ignore[arg-type]
        assert written(run) == expected
    # Some end before they are killed; were it most of them, little would have been looked at.
    assert killed >= KILLED


def test_of_two_trainings_that_begin_at_once_one_is_let_in(tmp_path: Path) -> None:
    settings = language_settings(tmp_path)
    context = multiprocessing.get_context("fork")
    for number in range(TOGETHER):
        run = tmp_path / f"run {number}"
        together, ended = context.Barrier(2), context.Barrier(2)

        def begin(run: Path = run, together: object = together, ended: object = ended) -> None:
            together.wait()  # type: ignore[attr-defined]
            try:
                with begun_run(run, settings, resume=False):
                    ended.wait()  # type: ignore[attr-defined]
            except RunError:
                ended.wait()  # type: ignore[attr-defined]
                raise

        children = [forked(begin) for _ in range(2)]
        codes = sorted(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children)
        assert codes == [0, 1], f"round {number}"
        assert (run / "config.yaml").is_file()
