"""Two processes under torchrun: the same training as one with a batch twice as large, resumed bit for bit too."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from recurra.run.checkpoint import load_checkpoint, unpack
from recurra.run.metrics import read_metrics

SCRIPT = f"""
import os
import sys
from pathlib import Path

import torch

sys.path.insert(0, {str(Path(__file__).parent)!r})
from regression import Regression, opened

from recurra.config.sections import LoggingConfig, TrainingConfig
from recurra.training.loop import Trainer
from recurra.training.processes import Processes

run_dir, dropout, kill_at, resume = Path(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3]), sys.argv[4] == "resume"
config = TrainingConfig(max_epochs=3, learning_rate=0.1, device="cpu", save_every=4, accumulate=2, clip_norm=0.5)
logging = LoggingConfig(every_steps=3, tensorboard=False, picture=False, progress=False)
processes = Processes(config)
if processes.is_main:
    run_dir.mkdir(exist_ok=True)
processes.wait()
task = Regression(8 // processes.world_size, dropout, processes, 80)
steps = 0


def after_batch(position):
    global steps
    task.mean = torch.zeros((), dtype=torch.float64)
    steps += 1
    if steps == kill_at:
        os._exit(9)


task.after_batch = after_batch
outcome = Trainer(task, opened(run_dir, logging, config), processes).run(resume=resume)
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
    return [{k: v for k, v in line.items() if k != "seconds" and not k.endswith("_per_second")} for line in lines]


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
