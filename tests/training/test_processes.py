"""Two processes under torchrun: the same training as one with a batch twice as large, resumed bit for bit too."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from recurra.training.checkpoint import load_checkpoint, unpack
from recurra.training.logging import read_metrics

SCRIPT = """
import os
import sys
from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn

from recurra.config import LoggingConfig, TrainingConfig
from recurra.training.loop import Trainer
from recurra.training.processes import Processes
from recurra.training.task import Evaluation, Loss


class Rows(NamedTuple):
    x: torch.Tensor
    y: torch.Tensor
    rate_scale: float = 1.0

    @property
    def tokens(self):
        return len(self.x)


class Regression:
    characters_per_token = 0.0

    def __init__(self, processes, dropout, kill_at):
        self.processes, self.dropout, self.kill_at = processes, dropout, kill_at
        generator = torch.Generator().manual_seed(0)
        self.model = nn.Linear(5, 1, dtype=torch.float64)
        with torch.no_grad():
            # DDP starts every process from the first one's weights.
            self.model.weight.fill_(0.5 + processes.rank)
            self.model.bias.fill_(-0.5)
        x = torch.randn(80, 5, generator=generator, dtype=torch.float64)
        y = x @ torch.arange(5.0, dtype=torch.float64)[:, None] + 1
        mine = slice(processes.rank, None, processes.world_size)
        self.x, self.y = x[mine], y[mine]
        self.rows = len(self.x) // 10
        self.position = self.steps = 0

    def steps_in_epoch(self, epoch):
        return 10

    @property
    def epoch_done(self):
        return self.position >= 10

    def batches(self):
        self.position %= 10
        while not self.epoch_done:
            rows = slice(self.position * self.rows, (self.position + 1) * self.rows)
            self.position += 1
            yield Rows(self.x[rows], self.y[rows])

    def loss(self, model, batch):
        self.steps += 1
        if self.steps == self.kill_at:
            os._exit(9)
        loss = (model(nn.functional.dropout(batch.x, self.dropout)) - batch.y).square().mean()
        return Loss(loss, loss.detach())

    def evaluate(self):
        return Evaluation(float((self.model(self.x) - self.y).square().sum()), len(self.x))

    def state_dict(self):
        return {"position": self.position}

    def load_state_dict(self, state):
        self.position = state["position"]


run_dir, dropout, kill_at, resume = Path(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3]), sys.argv[4] == "resume"
config = TrainingConfig(max_epochs=3, learning_rate=0.1, device="cpu", save_every=4, accumulate=2, clip_norm=0.5)
logging = LoggingConfig(every_steps=3, tensorboard=False, picture=False, progress=False)
processes = Processes(config)
if processes.is_main:
    run_dir.mkdir(exist_ok=True)
processes.wait()
outcome = Trainer(Regression(processes, dropout, kill_at), run_dir, config, logging, processes).run(resume=resume)
assert outcome.steps == 15 and outcome.stopped_because == "max_epochs"
"""


def launch(
    folder: Path, run: str, processes: int, *, dropout: float = 0.0, kill_at: int = 0, resume: bool = False
) -> int:
    script = folder / "script.py"
    script.write_text(SCRIPT)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    command = torchrun if processes > 1 else [sys.executable]
    command += [str(script), str(folder / run), str(dropout), str(kill_at), "resume" if resume else "start"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert kill_at or done.returncode == 0, done.stderr[-3000:]
    return done.returncode


def numbers(run_dir: Path) -> list[dict[str, object]]:
    lines = read_metrics(run_dir / "metrics.jsonl")
    return [{k: v for k, v in line.items() if k not in ("seconds", "tokens_per_second")} for line in lines]


def final_weights(run_dir: Path) -> torch.Tensor:
    checkpoint = load_checkpoint(run_dir / "checkpoints")
    assert checkpoint is not None
    state = unpack(checkpoint.tensors, checkpoint.state)
    assert state["step"] == 15
    return torch.cat([value.flatten() for value in state["model"].values()])


@pytest.mark.slow
def test_two_processes_train_as_one_with_a_batch_twice_as_large(tmp_path: Path) -> None:
    launch(tmp_path, "one", 1)
    launch(tmp_path, "two", 2)
    torch.testing.assert_close(final_weights(tmp_path / "two"), final_weights(tmp_path / "one"), rtol=1e-11, atol=1e-12)
    one, two = numbers(tmp_path / "one"), numbers(tmp_path / "two")
    assert len(one) == len(two) == 8
    for a, b in zip(one, two, strict=True):
        assert (a["step"], a["kind"]) == (b["step"], b["kind"])
        assert a["loss"] == pytest.approx(b["loss"], rel=1e-10)


@pytest.mark.slow
@pytest.mark.check
def test_two_processes_resume_bit_for_bit(tmp_path: Path) -> None:
    launch(tmp_path, "whole", 2, dropout=0.3)
    assert launch(tmp_path, "part", 2, dropout=0.3, kill_at=13) != 0
    assert read_metrics(tmp_path / "part" / "metrics.jsonl")[-1]["step"] < 15
    launch(tmp_path, "part", 2, dropout=0.3, resume=True)
    assert numbers(tmp_path / "part") == numbers(tmp_path / "whole")
    assert torch.equal(final_weights(tmp_path / "part"), final_weights(tmp_path / "whole"))


@pytest.mark.slow
def test_the_command_trains_by_two_processes_on_the_device_that_there_is(tmp_path: Path) -> None:
    lines = [f"{a} {b}" for a in "qwert" for b in "asdf"] * 4
    for name, rows in (("source", lines), ("target", [" ".join(reversed(line.split())) for line in lines])):
        (tmp_path / name).write_text("".join(f"{row}\n" for row in rows))
    script = tmp_path / "script.py"
    script.write_text("from recurra.cli.main import main\nmain()\n")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "--", str(script)]
    command += ["train", "translation", "--source", str(tmp_path / "source"), "--target", str(tmp_path / "target")]
    command += ["--run", str(tmp_path / "run"), "--json", "--set", "tokenizer.kind=word", "model.hidden_size=8"]
    command += ["training.max_steps=4", "training.batch_tokens=30", "training.evaluate_every=2"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert json.loads(done.stdout)["steps"] == 4
    steps = [line["step"] for line in read_metrics(tmp_path / "run" / "metrics.jsonl") if line["kind"] == "valid"]
    assert steps == [2, 4]
