"""What a run writes down, and what of it stands after a resume."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from recurra.config.sections import LoggingConfig
from recurra.measures.likelihood import bits_per_character, perplexity
from recurra.run.metrics import best_evaluation, read_metrics
from recurra.training.logging import RunLog

from .regression import opened

QUIET = LoggingConfig(tensorboard=False, picture=False, progress=False)


def record(step: int, kind: str = "train", loss: float = 1.0) -> dict[str, object]:
    return {"step": step, "epoch": 1, "kind": kind, "loss": loss, "rmse": loss**0.5}


def best_of(run_dir: Path) -> tuple[int, float]:
    best = best_evaluation(read_metrics(run_dir / "metrics.jsonl"))
    assert best is not None
    return best["step"], best["loss"]


def test_perplexity_and_bits() -> None:
    assert perplexity(math.log(50)) == pytest.approx(50) and perplexity(1e4) == math.inf
    # 100 tokens of 3 characters, 2 bits a token: 2/3 bit a character.
    assert bits_per_character(2 * math.log(2), 100, 300) == pytest.approx(2 / 3)
    assert bits_per_character(1.0, 100, 0) is None


@pytest.mark.parametrize(
    "line",
    [
        '{"step": true, "kind": "train", "loss": 1.0}',
        '{"step": 3, "kind": "train"}',
        '{"step": 3, "kind": [], "loss": 1.0}',
        '{"step": 3, "kind": "valid", "loss": "low"}',
        '{"step": 3, "kind": "valid", "loss": 1.0, "bleu": [2]}',
        '{"step": 3, "kind": "valid", "loss": 1.0, "seconds": {}}',
        "3",
    ],
)
def test_a_line_that_is_no_record_is_passed_over(tmp_path: Path, line: str) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1, "kind": "valid", "loss": 2.0}\n' + line + "\n")
    assert [record["step"] for record in read_metrics(path)] == [1]


def test_the_best_evaluation_is_that_of_the_lowest_criterion() -> None:
    records = [
        {"step": 1, "kind": "train", "loss": 0.1},
        {"step": 2, "kind": "valid", "loss": 1.0, "criterion": -3.0},
        {"step": 3, "kind": "valid", "loss": 0.5, "criterion": None},
        {"step": 4, "kind": "valid", "loss": None, "criterion": -9.0},
    ]
    best = best_evaluation(records)
    assert best is not None and best["step"] == 2
    assert best_evaluation(records[:1]) is None


def test_lines_after_the_checkpoint_are_cut_and_a_torn_one_too(tmp_path: Path) -> None:
    log = RunLog(opened(tmp_path, QUIET))
    log.write(record(10))
    size = log.position
    log.write(record(20))
    log.close()
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(path.read_bytes() + b'{"step": 30, "lo')
    assert [line["step"] for line in read_metrics(path)] == [10, 20]
    log = RunLog(opened(tmp_path, QUIET), start=size, step=10)
    log.write(record(20, loss=0.5))
    log.close()
    assert [(line["step"], line["loss"]) for line in read_metrics(path)] == [(10, 1.0), (20, 0.5)]
    RunLog(opened(tmp_path, QUIET)).close()
    assert path.read_bytes() == b""


def test_lines_are_json_even_where_numbers_are_endless(tmp_path: Path) -> None:
    log = RunLog(opened(tmp_path, QUIET))
    log.write(record(1, loss=1e5) | {"rmse": math.inf})
    log.close()

    def refuse(constant: str) -> float:
        raise AssertionError(constant)

    line = json.loads((tmp_path / "metrics.jsonl").read_text(), parse_constant=refuse)
    assert line["rmse"] is None and line["loss"] == 1e5


def test_samples_may_hold_any_line_separator(tmp_path: Path) -> None:
    text = "a\u2028b\u2029c\u0085d\x0be"
    for _ in range(2):
        log = RunLog(opened(tmp_path, QUIET))
        for step in (1, 2):
            log.show_samples(step, [{"source": text, "text": text}])
        log.close()
    lines = [json.loads(line) for line in (tmp_path / "samples.jsonl").read_bytes().split(b"\n")[:-1]]
    assert [(line["step"], line["source"]) for line in lines] == [(1, text), (2, text)]


def test_tensorboard_and_picture(tmp_path: Path) -> None:
    log = RunLog(opened(tmp_path, LoggingConfig(progress=False)))
    for step, loss in ((1, 3.0), (2, 2.0)):
        log.write(record(step, loss=loss))
        log.write(record(step, "valid", loss + 0.5))
    log.close()
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [(event.step, event.value) for event in events.Scalars("loss/valid")] == [(1, 3.5), (2, 2.5)]
    assert events.Scalars("rmse/train")[0].value == pytest.approx(3**0.5)
    image = imread(tmp_path / "learning_curve.png")
    orange = np.abs(image[..., :3] - np.array([1.0, 0.498, 0.055])).max(axis=-1) < 0.02
    assert image.shape[1] > 600 and orange.sum() > 100


def test_the_best_is_what_the_weights_are_kept_by(tmp_path: Path) -> None:
    log = RunLog(opened(tmp_path, QUIET))
    log.write(record(1, "valid", 2.0) | {"criterion": -20.0})
    log.write(record(2, "valid", 2.5) | {"criterion": -30.0})
    assert best_of(tmp_path) == (2, 2.5)
    log.draw()
    log.close()
    log = RunLog(opened(tmp_path, QUIET))
    for step, loss in ((1, 3.0), (2, 2.0), (3, 2.5)):
        log.write(record(step, "valid", loss))
    assert best_of(tmp_path) == (2, 2.0)
    log.close()


def test_plain_lines_when_stderr_is_no_terminal(tmp_path: Path, capsys) -> None:  # type: ignore[no-untyped-def]
    log = RunLog(opened(tmp_path, LoggingConfig(tensorboard=False, picture=False)), total=40)
    log.write(record(10, loss=2.25) | {"fit": 0.5, "rows_per_second": 12345.6}, 75.0)
    log.write(record(10, "valid", 2.0))
    log.close()
    out, err = capsys.readouterr()
    assert out == ""
    first, second = err.splitlines()
    assert first == "step 10/40: epoch 1, loss 2.2500, RMSE 1.500 m, 12,346 rows/s, 1:15 left"
    assert second.startswith("step 10/40: epoch 1, validation loss 2.0000")
