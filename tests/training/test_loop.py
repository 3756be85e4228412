"""The loop on a small regression task, so that nothing here depends on language models."""

from __future__ import annotations

import json
import os
import shutil
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from recurra.config.sections import LoggingConfig, TrainingConfig
from recurra.errors import ConfigError, RunError
from recurra.run.checkpoint import load_checkpoint, unpack
from recurra.run.metrics import read_metrics
from recurra.training.loop import Outcome, Trainer
from recurra.training.optimizers import NTASGD
from recurra.training.processes import Processes
from recurra.training.task import Loss

from .regression import Regression, Rows, opened

QUIET = LoggingConfig(every_steps=3, tensorboard=False, picture=False, progress=False)


class Still(Regression):
    """Without the carried mean: then nothing but the rows decides."""

    def loss(self, model: nn.Module, batch: Rows) -> Loss:
        self.mean = torch.zeros((), dtype=torch.float64)
        return super().loss(model, batch)


def trainer(run_dir: Path, task: Regression | None = None, logging: LoggingConfig = QUIET, **options: Any) -> Trainer:
    run_dir.mkdir(exist_ok=True)
    config = TrainingConfig(**{"learning_rate": 0.05, "max_epochs": 4, "device": "cpu"} | options)
    return Trainer(task or Regression(), opened(run_dir, logging, config), Processes(config))


def numbers(run_dir: Path) -> list[dict[str, Any]]:
    timing = ("seconds", "rows_per_second")
    lines = read_metrics(run_dir / "metrics.jsonl")
    return [{key: value for key, value in line.items() if key not in timing} for line in lines]


def weights(run: Trainer) -> list[float]:
    return torch.cat([parameter.detach().flatten() for parameter in run.task.model.parameters()]).tolist()


def test_learns_and_reports_every_field(tmp_path: Path) -> None:
    run = trainer(tmp_path, Still(dropout=0.0), max_epochs=30, learning_rate=0.2)
    outcome = run.run()
    assert outcome.best_loss < 1e-3 and outcome.steps == 300 and outcome.stopped_because == "max_epochs"
    lines = read_metrics(tmp_path / "metrics.jsonl")
    train = [line for line in lines if line["kind"] == "train"]
    assert [line["step"] for line in train] == list(range(3, 301, 3))
    # What the system measures, in its unit, and nothing of other systems.
    assert set(train[0]) == {
        *("step", "epoch", "kind", "loss", "rmse", "learning_rate", "gradient_norm", "rows_per_second", "seconds")
    }
    valid = [line for line in lines if line["kind"] == "valid"]
    assert [(line["step"], line["epoch"]) for line in valid] == [(10 * epoch, epoch) for epoch in range(1, 31)]
    assert outcome.best_loss == min(line["loss"] for line in valid)
    assert train[-1]["learning_rate"] == pytest.approx(0.2 * 0.01)


@pytest.mark.parametrize("picture", [False, True])
def test_a_run_that_is_removed_while_it_trains_is_said_and_does_not_come_back(tmp_path: Path, picture: bool) -> None:
    task, run_dir = Regression(), tmp_path / "run"

    def remove(position: int) -> None:
        if position == 20 and (run_dir / "checkpoints" / "last").is_dir():
            shutil.rmtree(run_dir)

    task.after_batch = remove
    run = trainer(run_dir, task, QUIET.model_copy(update={"picture": picture}))
    with pytest.raises(RunError, match="its folder was removed or renamed"):
        run.run()
    assert run.step == 20
    assert not run_dir.exists()


def test_the_reported_loss_and_norm_are_means_since_the_last_report(tmp_path: Path) -> None:
    run = trainer(
        tmp_path, Regression(dropout=0.0), optimizer="sgd", schedule="constant", learning_rate=0.01, clip_norm=1.0
    )
    run.run()
    model, task = nn.Linear(5, 1, dtype=torch.float64), Regression(dropout=0.0)
    model.load_state_dict(task.model.state_dict())
    losses, norms = [], []
    for batch in task.epoch(0):
        loss = task.loss(model, batch).objective
        model.zero_grad()
        loss.backward()
        norms.append(float(torch.cat([parameter.grad.flatten() for parameter in model.parameters()]).norm()))  # type: ignore[union-attr]
        losses.append(float(loss.detach()))
        with torch.no_grad():
            for parameter in model.parameters():
                parameter -= 0.01 * parameter.grad * min(1.0, 1.0 / (norms[-1] + 1e-6))  # type: ignore[operator]
    first = numbers(tmp_path)[:3]
    assert [line["loss"] for line in first] == pytest.approx(np.reshape(losses[:9], (3, 3)).mean(1), rel=1e-9)
    assert [line["gradient_norm"] for line in first] == pytest.approx(np.reshape(norms[:9], (3, 3)).mean(1), rel=1e-9)


def test_accumulation_equals_a_larger_batch(tmp_path: Path) -> None:
    # 40 rows in batches of 3: the last batch has one row, and the last step of an epoch fewer batches.
    small = trainer(tmp_path / "small", Still(3, dropout=0.0), accumulate=4)
    large = trainer(tmp_path / "large", Still(12, dropout=0.0))
    assert small.run().steps == large.run().steps == 16
    assert weights(small) == pytest.approx(weights(large), rel=1e-12)
    for one, other in zip(numbers(tmp_path / "small"), numbers(tmp_path / "large"), strict=True):
        assert one["loss"] == pytest.approx(other["loss"], rel=1e-12)


@pytest.mark.parametrize("options", [{}, {"optimizer": "nt-asgd", "nt_asgd_patience": 1}, {"schedule": "plateau"}])
@pytest.mark.parametrize("save_every", [1, 7])
def test_resuming_at_any_point_changes_no_bit(tmp_path: Path, options: dict[str, Any], save_every: int) -> None:
    options = options | {"save_every": save_every, "evaluate_every": 4, "learning_rate": 0.3}
    whole = trainer(tmp_path / "whole", **options)
    whole.run()

    class Killed(BaseException):
        pass

    part = tmp_path / "part"
    for life, kill_at in enumerate((3, 9, 8, 2, 10)):
        task = Regression()
        steps = 0

        def count(_: int, kill_at: int = kill_at) -> None:
            nonlocal steps
            steps += 1
            if steps == kill_at:
                raise Killed

        task.after_batch = count
        with pytest.raises(Killed):
            trainer(part, task, **options).run(resume=life > 0)
    last = trainer(part, **options)
    outcome = last.run(resume=True)
    assert outcome.steps == 40
    assert numbers(part) == numbers(tmp_path / "whole")
    assert weights(last) == weights(whole)


@pytest.mark.parametrize(
    "options",
    [
        {"schedule": "plateau", "plateau_patience": 0},
        {"optimizer": "nt-asgd", "nt_asgd_patience": 1, "schedule": "constant"},
        {"schedule": "constant", "keep_evaluated": 2, "select_by": "fit"},
    ],
)
@pytest.mark.parametrize("lives", [(10,), (10, 10), (3, 17)])
def test_an_extended_training_is_as_one_asked_for_at_once(
    tmp_path: Path, options: dict[str, Any], lives: tuple[int, ...]
) -> None:
    # At 3, 10 and 17 nothing is evaluated but for being the end.
    options = options | {"evaluate_every": 4, "learning_rate": 0.4, "max_epochs": None}
    whole = trainer(tmp_path / "whole", **options, max_steps=30)
    expected = whole.run()
    part = tmp_path / "part"
    for life, steps in enumerate(lives):
        ended = trainer(part, **options, max_steps=steps).run(resume=life > 0)
        last = numbers(part)[-1]
        assert ended.steps == last["step"] == steps and last["kind"] == "valid"
        best = load_checkpoint(part / "checkpoints", ("best",))
        assert best is not None and best.state["step"] == ended.best_step
    extended = trainer(part, **options, max_steps=30)
    outcome = extended.run(resume=True)
    assert numbers(part) == numbers(tmp_path / "whole")
    assert weights(extended) == weights(whole)
    assert outcome._replace(seconds=0.0) == expected._replace(seconds=0.0)
    folders = [
        sorted(path.name for path in (run / "checkpoints").iterdir() if path.name != "previous")
        for run in (part, tmp_path / "whole")
    ]
    assert folders[0] == folders[1]
    pair = [load_checkpoint(run / "checkpoints", ("best",)) for run in (part, tmp_path / "whole")]
    assert pair[0] is not None and pair[1] is not None and pair[0].state == pair[1].state
    assert all(torch.equal(pair[0].tensors[name], pair[1].tensors[name]) for name in pair[0].tensors)


def test_a_damaged_last_checkpoint_resumes_from_the_previous_one(tmp_path: Path, capsys) -> None:  # type: ignore[no-untyped-def]
    trainer(tmp_path / "whole", save_every=5).run()
    trainer(tmp_path / "part", save_every=5, max_steps=25).run()
    bounded = numbers(tmp_path / "part")
    damaged = tmp_path / "part" / "checkpoints" / "last" / "tensors.safetensors"
    os.truncate(damaged, 100)
    # The shorter schedule made other steps: compare with it, not with the whole run.
    trainer(tmp_path / "part", save_every=5, max_steps=25).run(resume=True)
    assert "cut short" in capsys.readouterr().err
    assert numbers(tmp_path / "part") == bounded
    assert load_checkpoint(tmp_path / "part" / "checkpoints", ("last",)) is not None


def test_early_stopping_counts_evaluations_since_the_best(tmp_path: Path) -> None:
    task = Regression()
    task.validation = [5.0, 4.0, 4.5, 3.0, 3.0, 3.5, 9.0, 9.0]
    outcome = trainer(tmp_path, task, patience=3, evaluate_every=2, max_epochs=100).run()
    assert outcome.stopped_because == "patience"
    assert (outcome.steps, outcome.best_step, outcome.best_loss) == (14, 8, 3.0)
    # A resumed run stops at once for the same reason.
    again = trainer(tmp_path, patience=3, evaluate_every=2, max_epochs=100).run(resume=True)
    assert again[:3] == outcome[:3] and again.stopped_because == "patience"


def test_the_best_checkpoint_holds_the_weights_that_were_evaluated(tmp_path: Path) -> None:
    """With NT-ASGD these are the averages."""
    options = {"optimizer": "nt-asgd", "nt_asgd_patience": 1, "schedule": "constant"}
    run = trainer(tmp_path, **options, learning_rate=0.35, max_epochs=30)
    outcome = run.run()
    assert isinstance(run.optimizer, NTASGD) and run.optimizer.averaging
    best = load_checkpoint(tmp_path / "checkpoints", ("best",))
    assert best is not None
    state = unpack(best.tensors, best.state)
    task = Regression()
    task.model.load_state_dict(state["model"])
    with torch.no_grad():
        loss = _evaluating(task).evaluate().loss
    assert loss == outcome.best_loss == state["loss"]
    assert state["step"] == outcome.best_step


def _evaluating(task: Regression) -> Regression:
    task.model.eval()
    return task


def test_minutes_bound_training_and_count_on_after_a_resume(tmp_path: Path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    now = 100.0
    monkeypatch.setattr("time.monotonic", lambda: now)

    def tick(_: int) -> None:
        nonlocal now
        now += 10.0

    task = Regression()
    task.after_batch = tick
    options = {"max_epochs": None, "max_minutes": 2.0, "save_every": 1, "schedule": "linear"}
    trainer(tmp_path, task, **options | {"max_steps": 5}).run()
    task = Regression()
    task.after_batch = tick
    outcome = trainer(tmp_path, task, **options).run(resume=True)
    assert outcome.stopped_because == "max_minutes" and outcome.steps == 12 and outcome.seconds == 120.0


@pytest.mark.parametrize("where", ["loss", "gradient"])
def test_what_is_not_finite_stops_the_run_and_keeps_the_checkpoint(tmp_path: Path, where: str) -> None:
    task = Regression()

    def spoil(position: int) -> None:
        if task.spoil and position == 24:  # type: ignore[attr-defined]
            if where == "loss":
                task.mean.fill_(float("nan"))
            else:
                task.model.weight.register_hook(lambda gradient: gradient * float("inf"))

    task.spoil = True  # type: ignore[attr-defined]
    task.after_batch = spoil
    with pytest.raises(RunError, match=r"finite number at step [67] \(the checkpoint of step 4 is kept\)"):
        trainer(tmp_path, task, save_every=4).run()
    kept = load_checkpoint(tmp_path / "checkpoints")
    assert kept is not None and kept.state["step"] == 4
    assert all(tensor.isfinite().all() for tensor in kept.tensors.values())


def test_a_validation_loss_that_is_not_finite_stops_too(tmp_path: Path) -> None:
    task = Regression()
    task.validation = [1.0, float("nan")]
    with pytest.raises(RunError, match="validation loss"):
        trainer(tmp_path, task).run()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_step_saves_and_can_be_resumed(tmp_path: Path, number: signal.Signals) -> None:
    whole = trainer(tmp_path / "whole")
    whole.run()
    task = Regression()
    task.after_batch = lambda position: os.kill(os.getpid(), number) if position == 28 else None
    before = signal.getsignal(number)
    outcome = trainer(tmp_path / "part", task).run()
    assert signal.getsignal(number) is before
    assert outcome.stopped_because == "interrupted" and outcome.steps == 7
    part = trainer(tmp_path / "part")
    assert part.run(resume=True).stopped_because == "max_epochs"
    assert numbers(tmp_path / "part") == numbers(tmp_path / "whole") and weights(part) == weights(whole)


def test_a_second_interrupt_stops_at_once(tmp_path: Path) -> None:
    task = Regression()

    def twice(_: int) -> None:
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGINT)

    task.after_batch = twice
    with pytest.raises(KeyboardInterrupt):
        trainer(tmp_path, task).run()


def test_trains_outside_the_main_thread(tmp_path: Path) -> None:
    outcomes: list[Outcome] = []
    thread = threading.Thread(target=lambda: outcomes.append(trainer(tmp_path).run()))
    thread.start()
    thread.join()
    assert outcomes[0].steps == 40


def test_the_rate_follows_the_batchs_scale(tmp_path: Path) -> None:
    class Scaled(Regression):
        def epoch(self, number: int) -> Iterator[Rows]:
            for batch in super().epoch(number):
                yield batch._replace(rate_scale=0.25)

    trainer(tmp_path, Scaled(), schedule="constant", learning_rate=0.08).run()
    assert {line["learning_rate"] for line in numbers(tmp_path)} == {0.02}


def test_devices_and_precision_are_checked() -> None:
    with pytest.raises(ConfigError, match="fp16 needs a GPU"):
        Processes(TrainingConfig(device="cpu", precision="fp16"))
    with pytest.raises(ConfigError, match="not a device"):
        Processes(TrainingConfig(device="warp"))
    with pytest.raises(ConfigError, match="has no"):
        Processes(TrainingConfig(device="cuda:99"))


def test_checkpoints_and_logs_hold_no_pickle(tmp_path: Path) -> None:
    trainer(tmp_path, logging=LoggingConfig(progress=False)).run()
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    kinds = {path.suffix for path in files if "tensorboard" not in path.parts}
    assert kinds == {".json", ".jsonl", ".png", ".safetensors"}
    for path in files:
        if path.suffix == ".json":
            json.loads(path.read_text())
