"""A cell that comes with a run is a program: it runs if the user has trained with it or trusts it, and else not."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import recurra
from recurra.cli.main import app
from recurra.config.load import load_config, save_config
from recurra.errors import RunError
from recurra.run import own_cell
from recurra.systems.language_model.config import LanguageModelConfig
from recurra.training.training_run import train

SOURCE = """
from pathlib import Path
from recurra.cells import Cell
from recurra.cells.algebra import State, tanh

with open(Path(__file__).parent / "ran.txt", "a") as file:
    file.write("x")

class Own(Cell):
    gates = ("n",)
    def step(self, gate, state, weight):
        return State(h=tanh(gate.n + {number}))
"""


@pytest.fixture(autouse=True)
def another_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Nobody has accepted anything; called, somebody else sits there."""

    def sits_there(name: str) -> None:
        monkeypatch.setenv("RECURRA_CACHE", str(tmp_path / "caches" / name))
        monkeypatch.setattr(own_cell, "_accepted", set())
        forget_modules()

    sits_there("first")
    return sits_there


def forget_modules() -> None:
    """A file that was imported is not run another time in a process."""
    for module in [name for name in sys.modules if name.startswith("recurra_cell_")]:
        del sys.modules[module]


def trained(folder: Path, number: float = 0.25) -> Path:
    """A run with a cell of its own."""
    folder.mkdir()
    (folder / "own.py").write_text(SOURCE.format(number=number))
    (folder / "text.txt").write_text("the apple and pear salad is ready\n" * 30)
    settings = LanguageModelConfig.model_validate(
        {
            "data": {"train": [str(folder / "text.txt")]},
            "tokenizer": {"kind": "word"},
            "model": {"hidden_size": 4, "num_layers": 1, "cell": f"{folder / 'own.py'}:Own", "forget_bias": None},
            "training": {"batch_size": 2, "sequence_length": 5, "max_steps": 2, "device": "cpu"},
            "logging": {"tensorboard": False, "picture": False, "progress": False},
        }
    )
    train(settings, folder / "run")
    (folder / "run" / "ran.txt").unlink()
    forget_modules()
    return folder / "run"


def ran(run: Path) -> bool:
    return (run / "ran.txt").exists()


def call(*arguments: Any) -> Any:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def commands(run: Path) -> list[list[Any]]:
    return [
        ["next", run, "the apple"],
        ["score", run, "--text", "the apple"],
        ["generate", run, "--length", "3"],
        ["evaluate", run, "--data", run.parent / "text.txt"],
        ["train", "--run", run, "--resume", "--set", "training.max_steps=3"],
        [
            *(
                "train",
                "language-model",
                "--from",
                run,
                "--data",
                run.parent / "text.txt",
                "--run",
                run.parent / "next",
            ),
            *("--set", "training.batch_size=2", "training.sequence_length=5", "training.max_steps=2"),
        ],
    ]


def test_who_trained_with_a_cell_is_not_asked(tmp_path: Path) -> None:
    run = trained(tmp_path / "a")
    assert recurra.load(run).score(["the apple"])
    # Wherever it lies.
    shutil.copytree(run, tmp_path / "b")
    own_cell._accepted.clear()
    assert recurra.load(tmp_path / "b").score(["the apple"])


@pytest.mark.parametrize("number", range(6))
def test_nobody_elses_cell_is_run_unless_it_is_trusted(number: int, tmp_path: Path, another_user: Any) -> None:
    run = trained(tmp_path / "a")
    another_user("second")
    command = commands(run)[number]
    refused = call(*command)
    assert refused.exit_code != 0 and not ran(run)
    assert f"{run / 'own.py'}: this program came with the run" in refused.stderr and "--trust-cell" in refused.stderr
    trusted = call(*command, "--trust-cell")
    assert trusted.exit_code == 0, trusted.stderr
    assert ran(run)
    # From now on, in every process.
    own_cell._accepted.clear()
    assert call("next", run, "the apple").exit_code == 0
    # But no other program.
    (run / "own.py").write_text(SOURCE.format(number=0.5))
    assert "this program came with the run" in call("next", run, "the apple").stderr


def test_trust_in_python(tmp_path: Path, another_user: Any) -> None:
    run = trained(tmp_path / "a")
    another_user("second")
    with pytest.raises(RunError, match="trust_cell=True"):
        recurra.load(run)
    assert not ran(run)
    assert recurra.load(run, trust_cell=True).score(["the apple"])
    assert recurra.load(run).score(["the apple"])


def test_looking_at_a_run_runs_nothing(tmp_path: Path, another_user: Any) -> None:
    run = trained(tmp_path / "a")
    another_user("second")
    shown = call("info", run)
    assert shown.exit_code == 0 and not ran(run)
    assert "own.py:Own" in shown.stdout
    sizes = [line.split()[1] for line in shown.stdout.splitlines() if line.startswith("parameters")]
    assert sizes == [f"{sum(p.numel() for p in recurra.load(run, trust_cell=True).model.parameters()):,}"]


@pytest.mark.parametrize("where", ["../own.py", "folder/own.py", "{absolute}", "../../own.py"])
def test_a_cell_lies_in_the_run_itself(where: str, tmp_path: Path) -> None:
    run = trained(tmp_path / "a")
    for folder in (run.parent, run.parent.parent, run / "folder"):
        folder.mkdir(exist_ok=True)
        shutil.copy(run / "own.py", folder / "own.py")
    cell = f"{where.format(absolute=run / 'own.py')}:Own"
    save_config(load_config(run / "config.yaml", [{"model": {"cell": cell}}]), run / "config.yaml")
    for command in commands(run)[:4]:
        refused = call(*command)
        assert refused.exit_code == 1 and "lies elsewhere; a run brings its own file" in refused.stderr
    assert call("info", run).exit_code == 0 and not ran(run)


def test_a_cell_is_no_link_and_no_pipe(tmp_path: Path) -> None:
    run = trained(tmp_path / "a")
    (run / "own.py").rename(run / "other.py")
    (run / "own.py").symlink_to(run / "other.py")
    assert "is a link" in call("next", run, "the apple").stderr
    (run / "own.py").unlink()
    os.mkfifo(run / "own.py")
    assert "is no file of the run's own" in call("next", run, "the apple").stderr
    (run / "own.py").unlink()
    (run / "own.py").write_bytes((run / "other.py").read_bytes() + b"#" * (1 << 20))
    assert "is larger than 1,048,576 bytes" in call("next", run, "the apple").stderr
    assert not ran(run)


def test_a_resumed_run_takes_no_file_of_that_name_from_where_one_stands(
    tmp_path: Path, another_user: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = trained(tmp_path / "a")
    another_user("second")
    monkeypatch.chdir(run)
    refused = call("train", "--run", ".", "--resume", "--set", "training.max_steps=3")
    assert "this program came with the run" in refused.stderr and not ran(run)
