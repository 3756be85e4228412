"""Small recipe books where a pear belongs in a salad and a pair does not, and runs that are trained on them once."""

from __future__ import annotations

import itertools
import random
from pathlib import Path

import pytest
from typer.testing import CliRunner

from recurra.cli.main import app
from recurra.data.text import spool_standard_input


def recipes(seed: int, count: int) -> str:
    """Sentences of recipes; "pair" occurs as often as "pear", but only where two things belong together."""
    choose = random.Random(seed)
    fruits = ["apple", "pear", "plum", "fig", "melon", "cherry"]
    dishes = ["salad", "cake", "tart", "jam"]
    lines = []
    for first, second in itertools.islice(itertools.cycle(itertools.permutations(fruits, 2)), count):
        dish = choose.choice(dishes)
        lines += [
            f"the {first} and {second} {dish} is ready",
            f"wash the {first} and cut the {second}",
            f"use a pair of {choose.choice(['tongs', 'gloves', 'spoons'])} for the {dish}",
            "사과와 배 샐러드를 만든다",
            "베 한 필을 산다",
        ]
    choose.shuffle(lines)
    return "\n".join(lines) + "\n"


def train(folder: Path, *settings: str) -> Path:
    """Train through the command line, on one thread; returns the run directory."""
    (folder / "recipes.txt").write_text(recipes(1, 120), encoding="utf-8")
    (folder / "more.txt").write_text(recipes(2, 60), encoding="utf-8")
    (folder / "valid.txt").write_text(recipes(3, 12), encoding="utf-8")
    arguments = ["train", "language-model", "--data", str(folder / "recipes.txt"), str(folder / "more.txt")]
    arguments += ["--valid", str(folder / "valid.txt"), "--run", str(folder / "run"), "--json", "--set", *settings]
    arguments += ["training.device=cpu", "training.num_threads=1", "logging.tensorboard=false", "logging.picture=false"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.stderr
    (folder / "train.json").write_text(result.stdout, encoding="utf-8")
    return folder / "run"


@pytest.fixture(autouse=True)
def fresh_standard_input() -> None:
    """Standard input is read once a process; a test runner is many command lines in one process."""
    spool_standard_input.cache_clear()


@pytest.fixture(scope="session")
def word_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(
        tmp_path_factory.mktemp("words"),
        "tokenizer.kind=word", "model.hidden_size=48", "model.num_layers=1", "training.max_steps=120",
        "training.batch_size=16", "training.sequence_length=24", "training.learning_rate=0.02",
    )  # fmt: skip


@pytest.fixture(scope="session")
def character_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(
        tmp_path_factory.mktemp("characters"),
        "tokenizer.kind=character", "model.hidden_size=96", "model.num_layers=1", "training.max_steps=500",
        "training.batch_size=16", "training.sequence_length=48", "training.learning_rate=0.01",
    )  # fmt: skip
