"""Language models end to end: trained, killed, resumed, damaged, read back."""

from __future__ import annotations

import hashlib
import json
import math
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from torch.nn import functional as F

from recurra.config.load import load_config, save_config
from recurra.data.batching import StreamBatch, StreamBatches
from recurra.data.token_stream import TokenStream
from recurra.data.tokenizer import Tokenizer
from recurra.errors import ConfigError, DataError, RunError
from recurra.run import weights
from recurra.run.checkpoint import load_checkpoint, unpack
from recurra.run.directory import read_run
from recurra.run.metrics import read_metrics
from recurra.systems.language_model.config import LanguageModelConfig
from recurra.systems.language_model.loading import load_model
from recurra.systems.language_model.network import LanguageModel
from recurra.systems.language_model.train import LanguageModelTask
from recurra.training.processes import Processes
from recurra.training.training_run import train

QUIET = {"tensorboard": False, "picture": False, "progress": False, "every_steps": 4}


def write_text(folder: Path, lines: int = 150) -> Path:
    generator = random.Random(1)
    words = ["the", "apple", "pear", "salad", "red", "green", "eats", "with", "and", "cat", "dog", "sees", "bird"]
    path = folder / "text.txt"
    path.write_text("\n".join(" ".join(generator.choices(words, k=6)) for _ in range(lines)) + "\n")
    return path


def config(text: Path, **sections: dict[str, Any]) -> LanguageModelConfig:
    base: dict[str, dict[str, Any]] = {
        "data": {"train": [str(text)]},
        "tokenizer": {"kind": "word"},
        "model": {"hidden_size": 12},
        "training": {"batch_size": 3, "sequence_length": 9, "max_epochs": 2, "device": "cpu", "learning_rate": 0.01},
        "logging": dict(QUIET),
    }
    for name, values in sections.items():
        base[name] |= values
    return LanguageModelConfig.model_validate(base)


def numbers(run_dir: Path) -> list[dict[str, Any]]:
    lines = read_metrics(run_dir / "metrics.jsonl")
    return [{k: v for k, v in line.items() if k not in ("seconds", "tokens_per_second")} for line in lines]


def test_trains_and_reads_back_the_best_weights(tmp_path: Path) -> None:
    run = tmp_path / "run"
    result = train(config(write_text(tmp_path), logging={"picture": True, "tensorboard": True}), run)
    assert result.stopped_because == "max_epochs" and result.measures["perplexity"] == pytest.approx(
        math.exp(result.best_loss)
    )
    present = {path.name for path in run.iterdir()}
    assert present == {
        *("config.yaml", "tokenizer.json", "model.safetensors", "metrics.jsonl", "checkpoints", "data"),
        *("learning_curve.png", "tensorboard"),
    }
    resolved, tokenizer, model = load_model(run)
    assert not model.training and resolved.model.hidden_size == 12
    best = load_checkpoint(run / "checkpoints", ("best",))
    assert best is not None
    for name, value in unpack(best.tensors, best.state)["model"].items():
        assert torch.equal(model.state_dict()[name], value)
    with safe_open(run / "model.safetensors", "pt") as file:
        assert file.metadata()["vocab_size"] == str(tokenizer.vocab_size)
    # The reported loss, computed again from the text alone: the held-out end, read as one stream after a line end.
    valid = TokenStream.open(run / "data" / "train").split(0.1)[1]
    ids = torch.from_numpy(np.asarray(valid.tokens).astype(np.int64))
    with torch.no_grad():
        context = torch.cat([torch.tensor([tokenizer.eos_id]), ids[:-1]])
        logits = model(context[:, None]).logits[:, 0]
    assert float(F.cross_entropy(logits, ids)) == pytest.approx(result.best_loss, rel=1e-5)
    record = [line for line in read_metrics(run / "metrics.jsonl") if line["loss"] == result.best_loss][-1]
    bits = result.best_loss * len(ids) / valid.characters / math.log(2)
    assert record["bits_per_character"] == pytest.approx(bits)


def test_learns_a_deterministic_sequence_by_heart(tmp_path: Path) -> None:
    """Each character decides the next, so the entropy is zero."""
    text = tmp_path / "cycle.txt"
    text.write_text("abcdefg\n" * 400)
    training = {"max_epochs": 8, "learning_rate": 0.02, "batch_size": 4, "sequence_length": 20}
    result = train(config(text, tokenizer={"kind": "character"}, training=training), tmp_path / "run")
    assert result.best_loss < 0.02


@pytest.mark.parametrize("cell", ["gru_cho", "lstm_peephole"])
def test_other_cells_and_unequal_layers_train(tmp_path: Path, cell: str) -> None:
    model = {"cell": cell, "hidden_size": [10, 6], "learn_initial_state": True, "dropout": 0.1, "zoneout": 0.1}
    training = {"max_steps": 12, "ar": 2.0, "tar": 1.0, "accumulate": 2, "precision": "bf16"}
    result = train(config(write_text(tmp_path), model=model, training=training), tmp_path / "run")
    assert result.steps == 12 and math.isfinite(result.best_loss)
    assert load_model(tmp_path / "run")[0].model.cell == cell


def test_objective_is_cross_entropy_with_ar_and_tar_and_state_is_carried(tmp_path: Path) -> None:
    torch.manual_seed(0)
    settings = config(write_text(tmp_path), model={"output_dropout": 0.3}, training={"ar": 2.0, "tar": 0.7})
    model = LanguageModel(11, settings.model)
    tokens = np.random.default_rng(0).integers(0, 11, 400)
    batches = StreamBatches(tokens, 3, 9)
    processes = Processes(settings.training)
    task = LanguageModelTask(
        model, settings, batches, tokens, eos_id=0, valid_characters=1, characters_per_token=1.0, processes=processes
    )
    hx: Any = None
    epochs = 0
    for epoch in range(2):
        for batch in task.batches.epoch(epoch):
            hx = None if batch.starts_epoch else hx
            epochs += batch.starts_epoch
            state = torch.get_rng_state()
            objective, nats = task.loss(model, batch)
            torch.set_rng_state(state)
            out = model(batch.input, hx)
            hx = tuple(part.detach() for part in out.hx)
            entropy = -out.logits.log_softmax(-1).gather(-1, batch.target[..., None]).mean()
            activation = 2.0 * (out.dropped**2).mean()
            change = 0.7 * ((out.raw[1:] - out.raw[:-1]) ** 2).mean()
            torch.testing.assert_close(nats, entropy.detach())
            torch.testing.assert_close(objective, entropy + activation + change)
    assert epochs == 2
    single = StreamBatch(batch.input[:1], batch.target[:1], False, 1.0)
    assert task.loss(model, single).objective.isfinite()


KILLABLE = """
import sys
from pathlib import Path
from recurra.config.load import load_config
from recurra.training.training_run import train
train(load_config(sys.argv[1]), Path(sys.argv[2]), resume=(Path(sys.argv[2]) / "config.yaml").exists())
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("training", "kill_at"),
    [
        ({"vary_sequence_length": True, "save_every": 7, "evaluate_every": 10}, (12, 88)),
        ({"optimizer": "nt-asgd", "learning_rate": 4.0, "nt_asgd_patience": 1, "save_every": 3}, (120,)),
    ],
    ids=["adamw-vary", "nt-asgd"],
)
def test_killed_and_resumed_equals_uninterrupted(
    tmp_path: Path, training: dict[str, Any], kill_at: tuple[int, ...]
) -> None:
    names = ("dropout", "embedding_dropout", "input_dropout", "output_dropout", "weight_dropout")
    training = {"max_steps": 200, "evaluate_every": 20, "schedule": "constant"} | training
    settings = config(write_text(tmp_path, 400), model=dict.fromkeys(names, 0.2), training=training)
    torch.set_num_threads(1)
    whole, part = tmp_path / "whole", tmp_path / "part"
    expected = train(settings, whole)
    save_config(settings, tmp_path / "config.yaml")
    command = [sys.executable, "-c", KILLABLE, str(tmp_path / "config.yaml"), str(part)]
    kills = 0
    # Kill soon after so much progress; what is under way at that moment is left to chance.
    for step in kill_at:
        process = subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1"})
        deadline = time.monotonic() + 60
        while process.poll() is None and time.monotonic() < deadline:
            lines = (part / "metrics.jsonl").read_bytes() if (part / "metrics.jsonl").exists() else b""
            if f'{{"step": {step},'.encode() in lines:
                process.send_signal(signal.SIGKILL)
            time.sleep(0.002)
        kills += process.wait() == -signal.SIGKILL
    assert kills == len(kill_at)
    if "optimizer" in training:
        checkpoint = load_checkpoint(part / "checkpoints")
        assert checkpoint is not None
        groups = unpack(checkpoint.tensors, checkpoint.state)["optimizer"]["param_groups"]
        assert groups[0]["averaged_steps"] > 1
    result = train(settings, part, resume=True)
    assert numbers(part) == numbers(whole)
    assert (result.best_loss, result.steps) == (expected.best_loss, expected.steps)
    one, other = (load_model(run)[2].state_dict() for run in (part, whole))
    assert all(torch.equal(one[key], other[key]) for key in other)


def test_a_run_that_could_not_begin_leaves_the_folder_free(tmp_path: Path) -> None:
    text = write_text(tmp_path)
    run_dir = tmp_path / "run"
    missing = config(text).model_copy(deep=True)
    missing.data.train = [str(tmp_path / "missing.txt")]
    with pytest.raises(DataError, match=r"missing\.txt"):
        train(missing, run_dir)
    with pytest.raises(ConfigError, match="nosuchcell"):
        train(config(text, model={"cell": "nosuchcell"}), run_dir)
    assert not list(run_dir.iterdir())
    train(config(text, training={"max_steps": 1}), run_dir)
    kept = sorted(run_dir.iterdir())
    with pytest.raises(DataError):
        train(missing.model_copy(update={"training": config(text).training}), tmp_path / "other")
    assert sorted(run_dir.iterdir()) == kept


def test_text_from_a_pipe_is_read_once_and_the_run_is_no_text_of_its_own(tmp_path: Path) -> None:
    text = write_text(tmp_path)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = subprocess.Popen(["sh", "-c", f"cat {text} > {pipe}"])
    train(config(pipe, training={"max_steps": 1}), tmp_path / "piped")
    assert writer.wait() == 0
    folder = tmp_path / "folder"
    folder.mkdir()
    shutil.copyfile(text, folder / "text.txt")
    train(config(folder, training={"max_steps": 1}), folder / "run")
    streams = [TokenStream.open(run / "data" / "train").tokens for run in (tmp_path / "piped", folder / "run")]
    assert np.array_equal(*streams)


def test_a_cell_of_ones_own_travels_with_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = write_text(tmp_path)
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    Path("mine.py").write_text(
        "from recurra.cells import Cell\nfrom recurra.cells.algebra import State, tanh\n\n"
        "class Mine(Cell):\n    gates = ('a',)\n\n    def step(self, gate, state, weight):\n"
        "        return State(h=0.5 * state.h + tanh(gate.a))\n"
    )
    settings = config(text, model={"cell": "mine.py:Mine"}, training={"max_steps": 2})
    train(settings, Path("run"))
    monkeypatch.chdir(tmp_path)
    _, tokenizer, model = load_model("here/run")
    moved = shutil.move(here / "run", tmp_path / "moved")
    shutil.rmtree(here)
    assert torch.equal(load_model(moved)[2].embedding.weight, model.embedding.weight)
    more = config(text, model={"cell": "mine.py:Mine"}, training={"max_steps": 3})
    assert train(more, Path(moved), resume=True).steps == 3
    assert tokenizer.vocab_size == model.vocab_size


def test_weights_that_a_resumed_training_has_surpassed_are_not_used(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_dir = tmp_path / "run"
    text = write_text(tmp_path)
    train(config(text, training={"max_steps": 4, "max_epochs": None}), run_dir)
    old = (run_dir / "model.safetensors").read_bytes()
    train(config(text, training={"max_steps": 40, "max_epochs": None}), run_dir, resume=True)
    newest = load_model(run_dir)[2].embedding.weight
    # As a kill before the end of the second training leaves it.
    (run_dir / "model.safetensors").write_bytes(old)
    capsys.readouterr()
    assert torch.equal(load_model(run_dir)[2].embedding.weight, newest)
    assert "older than the best checkpoint" in capsys.readouterr().err


def test_a_run_directory_is_not_trained_in_twice(tmp_path: Path) -> None:
    text = write_text(tmp_path)
    train(config(text, training={"max_steps": 2}), tmp_path / "run")
    with pytest.raises(RunError, match="already holds a run"):
        train(config(text, training={"max_steps": 2}), tmp_path / "run")
    with pytest.raises(ConfigError, match=r"^model\.hidden_size"):
        train(config(text, model={"hidden_size": 13}, training={"max_steps": 2}), tmp_path / "run", resume=True)
    # The text is not needed again.
    text.unlink()
    longer = {"max_steps": 5, "patience": 7, "keep_evaluated": 1, "num_threads": 1}
    assert train(config(text, training=longer), tmp_path / "run", resume=True).steps == 5


def test_texts_that_cannot_be_trained_on(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        train(config(tmp_path / "gone.txt"), tmp_path / "a")
    short = tmp_path / "short.txt"
    short.write_text("one two three\n")
    with pytest.raises(DataError, match="needs"):
        train(config(short), tmp_path / "b")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("finished")
    train(config(write_text(folder), training={"max_steps": 6, "evaluate_every": 3}), folder / "run")
    return folder / "run"


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "run"))


def test_damaged_weights_fall_back_to_checkpoints(run: Path, capsys) -> None:  # type: ignore[no-untyped-def]
    whole = load_model(run)[2].state_dict()
    assert capsys.readouterr().err == ""
    for number, (name, source) in enumerate((("model.safetensors", "best"), ("best", "last"), ("last", "previous"))):
        path = run / name if number == 0 else run / "checkpoints" / name / "tensors.safetensors"
        os.truncate(path, path.stat().st_size - 8)
        loaded = load_model(run)[2].state_dict()
        assert f"{source} instead" in capsys.readouterr().err
        if source == "best":
            assert all(torch.equal(whole[key], value) for key, value in loaded.items())
    shutil.rmtree(run / "checkpoints")
    with pytest.raises(RunError, match=r"model\.safetensors is damaged"):
        load_model(run)
    (run / "model.safetensors").unlink()
    with pytest.raises(RunError, match="not there yet"):
        load_model(run)


def test_a_damaged_best_checkpoint_costs_no_training_its_end(run: Path, capsys) -> None:  # type: ignore[no-untyped-def]
    before = (run / "model.safetensors").read_bytes()
    for name in ("tensors.safetensors", "state.json"):
        path = run / "checkpoints" / "best" / name
        os.truncate(path, path.stat().st_size - 8)
    weights.write_best(read_run(run), {})
    assert (run / "model.safetensors").read_bytes() == before
    assert capsys.readouterr().err == f"{run}: checkpoints/best is damaged; model.safetensors stays as it is.\n"
    load_model(run)
    assert capsys.readouterr().err == ""
    (run / "model.safetensors").unlink()
    with pytest.raises(RunError, match="no checkpoint is whole"):
        weights.write_best(read_run(run), {})


def test_what_is_no_run_or_no_longer_whole(run: Path, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="no such run directory"):
        load_model(tmp_path / "gone")
    (tmp_path / "empty").mkdir()
    with pytest.raises(RunError, match="is not a run directory"):
        load_model(tmp_path / "empty")
    text = (run / "config.yaml").read_text()
    (run / "config.yaml").write_text(text.replace("version: 1", "version: 2"))
    with pytest.raises(ConfigError, match="upgrade"):
        load_model(run)
    (run / "config.yaml").write_text(text.replace("hidden_size: 12", "hidden_size: 14"))
    with pytest.raises(RunError, match="do not fit"):
        load_model(run)
    (run / "config.yaml").write_text(text)
    (run / "tokenizer.json").unlink()
    with pytest.raises(RunError, match=r"lacks tokenizer\.json"):
        load_model(run)


def test_damaged_prepared_text_is_prepared_again(run: Path) -> None:
    settings = load_model(run)[0]
    os.truncate(run / "data" / "train", 10)
    settings.training.max_steps = 8
    assert train(settings, run, resume=True).steps == 8


def test_a_full_disk_at_the_end_leaves_the_best_checkpoint(tmp_path: Path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    def full(*args: Any) -> None:
        raise OSError(28, "No space left on device")

    settings = config(write_text(tmp_path), training={"max_steps": 3})
    with monkeypatch.context() as patch:
        patch.setattr(weights, "save_tensors", full)
        with pytest.raises(RunError, match=r"model\.safetensors: could not be written"):
            train(settings, tmp_path / "run")
    assert train(settings, tmp_path / "run", resume=True).steps == 3
    assert (tmp_path / "run" / "model.safetensors").exists()
    assert json.loads((tmp_path / "run" / "checkpoints" / "best" / "state.json").read_text())["step"] == 3


def test_validation_text_of_its_own_is_used_whole(tmp_path: Path) -> None:
    text = write_text(tmp_path)
    valid = tmp_path / "valid.txt"
    valid.write_text("the cat sees the dog\n" * 5)
    train(config(text, data={"valid": [str(valid)]}, training={"max_steps": 2}), tmp_path / "run")
    stream = TokenStream.open(tmp_path / "run" / "data" / "valid")
    assert stream.characters == len(valid.read_text()) and len(stream) == 30


def test_the_share_of_unknown_words_is_told(tmp_path: Path) -> None:
    text = write_text(tmp_path)
    (tmp_path / "valid.txt").write_text("the quux apple\nthe pear\n")
    settings = config(text, data={"valid": [str(tmp_path / "valid.txt")]})
    result = train(settings, tmp_path / "run")
    # Of seven tokens with the line ends.
    assert result.measures["unknown_rate"] == pytest.approx(1 / 7)
    valid = [line for line in numbers(tmp_path / "run") if line["kind"] == "valid"]
    assert valid and all(line["unknown_rate"] == pytest.approx(1 / 7) for line in valid)
    subwords = config(text, tokenizer={"kind": "bpe", "vocab_size": 300}, training={"max_epochs": 1})
    assert "unknown_rate" not in train(subwords, tmp_path / "subwords").measures


def test_start_values_are_those_of_the_configuration(tmp_path: Path) -> None:
    def model(**options: Any) -> LanguageModel:
        torch.manual_seed(0)
        return LanguageModel(5000, config(tmp_path, model={"hidden_size": 64, "tied": False, **options}).model)

    for scale in (0.1, 0.7):
        uniform, normal = model(init="uniform", init_scale=scale), model(init="normal", init_scale=scale)
        for weight in (uniform.embedding.weight, uniform.output.weight):
            assert 0.99 * scale < weight.abs().max() <= scale
            assert weight.std().item() == pytest.approx(scale / 3**0.5, rel=0.02)
        for weight in (normal.embedding.weight, normal.output.weight):
            assert weight.std().item() == pytest.approx(scale, rel=0.02)
            assert weight.abs().max() > 3 * scale
        assert not normal.output_bias.any()
    as_torch = model().recurrent.weight_hh_l0
    assert 0.99 / 8 < as_torch.abs().max() <= 1 / 8
    # Zaremba, Sutskever & Vinyals (2014): all uniform in +-0.05.
    medium = model(init="uniform", init_scale=0.05, recurrent_init_scale=0.05, forget_bias=None)
    for name, value in medium.named_parameters():
        assert value.abs().max() <= 0.05
        assert name == "output_bias" or value.abs().max() > 0.04
    kept = model(recurrent_init_scale=0.05, forget_bias=1.0).recurrent
    assert torch.equal(kept.bias_ih_l1[64:128], torch.ones(64))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM)])
def test_a_signal_before_the_first_step_leaves_the_folder_free(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    """While the tokens are learnt, say; the corrected command is then not refused."""
    text, run = write_text(tmp_path), tmp_path / "run"

    def stopped(*_: Any, **__: Any) -> None:
        assert (run / "config.yaml").is_file()
        os.kill(os.getpid(), number)
        time.sleep(5)

    # Started in the background or under nohup, this process ignores what is to be tested.
    given = signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    request.addfinalizer(lambda: signal.signal(number, given))
    before = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)]
    with monkeypatch.context() as patched:
        patched.setattr(Tokenizer, "train", stopped)
        with pytest.raises(KeyboardInterrupt):
            train(config(text), run)
    assert not list(run.iterdir())
    assert before == [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)]
    assert train(config(text, training={"max_steps": 2}), run).steps == 2


@pytest.mark.parametrize(
    ("optimizer", "model", "expected"),
    [
        ("adamw", {}, ("normal", 0.5)),
        ("adam", {}, ("normal", 0.5)),
        ("sgd", {}, ("uniform", 0.1)),
        ("nt-asgd", {}, ("uniform", 0.1)),
        ("sgd", {"init": "normal"}, ("normal", 0.5)),
        ("adamw", {"init": "uniform"}, ("uniform", 0.1)),
        ("sgd", {"init_scale": 0.05}, ("uniform", 0.05)),
    ],
)
def test_start_values_go_with_the_optimizer(
    optimizer: str, model: dict[str, Any], expected: tuple[str, float], tmp_path: Path
) -> None:
    settings = config(write_text(tmp_path), model=model, training={"optimizer": optimizer})
    assert (settings.model.init, settings.model.init_scale) == expected
    # What stands in the run is what was used, whatever the defaults of another version are.
    save_config(settings, tmp_path / "config.yaml")
    assert load_config(tmp_path / "config.yaml") == settings


def rewritten(checkpoint: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """A checkpoint with another state, whose sums fit."""
    state = change(json.loads((checkpoint / "state.json").read_text()))
    (checkpoint / "state.json").write_text(json.dumps(state))
    manifest = json.loads((checkpoint / "manifest.json").read_text())
    content = (checkpoint / "state.json").read_bytes()
    manifest["files"]["state.json"] = {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    (checkpoint / "manifest.json").write_text(json.dumps(manifest))


STATES: dict[str, Callable[[dict[str, Any]], Any]] = {
    "nothing": lambda state: {},
    "a list": lambda state: [],
    "no optimizer": lambda state: {key: value for key, value in state.items() if key != "optimizer"},
    "a number for a model": lambda state: {**state, "model": 3},
    "a step before the first": lambda state: {**state, "step": -1},
    "a word for the best loss": lambda state: {**state, "best": ["low", 2, 1.0]},
    "a list for a rate's best": lambda state: {**state, "schedule": {**state["schedule"], "best": [1.0]}},
    "an evaluation without a loss": lambda state: {**state, "history": [{"step": 2, "loss": None}]},
    "an optimizer that forgot": lambda state: {**state, "optimizer": _without(state["optimizer"], "exp_avg_sq")},
    "random words below zero": lambda state: _with_random(state, "python", [3, [-1] * 625, None]),
    "no list of random words": lambda state: _with_random(state, "numpy", 5),
    "the state of another network": lambda state: {
        **state,
        "processes": [{**own, "task": {**own["task"], "hx": [3]}} for own in state["processes"]],
    },
}
PASSED_OVER = ("nothing", "a list", "no optimizer")
"""What is no state at all; the others are seen when they are taken up."""


def _without(optimizer: dict[str, Any], entry: str) -> dict[str, Any]:
    # A dict with numbers for keys is a list of pairs in JSON.
    (key, entries), *others = optimizer["state"]["$items"]
    first = {name: value for name, value in entries.items() if name != entry}
    return {**optimizer, "state": {"$items": [[key, first], *others]}}


def _with_random(state: dict[str, Any], generator: str, value: Any) -> dict[str, Any]:
    own = [{**each, "random": {**each["random"], generator: value}} for each in state["processes"]]
    return {**state, "processes": own}


@pytest.mark.parametrize("name", STATES)
def test_a_state_that_fits_its_sum_but_is_none_gives_the_checkpoint_before(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text, run = write_text(tmp_path), tmp_path / "run"
    train(config(text, training={"max_steps": 4, "save_every": 2, "max_epochs": None}), run)
    rewritten(run / "checkpoints" / "last", STATES[name])
    longer = config(text, training={"max_steps": 6, "save_every": 2, "max_epochs": None})
    if name not in PASSED_OVER:
        with pytest.raises(RunError, match=r"checkpoints/last: does not fit this run .* remove it to resume"):
            train(longer, run, resume=True)
        shutil.rmtree(run / "checkpoints" / "last")
    assert train(longer, run, resume=True).steps == 6
    assert name not in PASSED_OVER or "using previous instead" in capsys.readouterr().err


def test_tokens_beyond_the_vocabulary_are_said(tmp_path: Path) -> None:
    text, run = write_text(tmp_path), tmp_path / "run"
    train(config(text, training={"max_steps": 2}), run)
    data = run / "data" / "train"
    data.write_bytes(b"\xff" * data.stat().st_size)
    with pytest.raises(RunError, match="holds tokens of another vocabulary; remove it"):
        train(config(text, training={"max_steps": 4}), run, resume=True)
    shutil.rmtree(run / "data")
    assert train(config(text, training={"max_steps": 4}), run, resume=True).steps == 4


def test_a_text_that_changed_since_it_was_prepared_is_told_of(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = write_text(tmp_path)
    train(config(text, training={"max_steps": 2}), tmp_path / "run")
    longer = [config(text, training={"max_steps": steps}) for steps in (3, 4, 5)]
    train(longer[0], tmp_path / "run", resume=True)
    assert capsys.readouterr().err == ""
    text.write_text(text.read_text() + "a pear\n")
    train(longer[1], tmp_path / "run", resume=True)
    said = capsys.readouterr().err
    assert "text.txt was edited since" in said and "to learn from it takes a new run" in said
    text.unlink()
    train(longer[2], tmp_path / "run", resume=True)
    assert "text.txt can no longer be found" in capsys.readouterr().err


def test_a_stream_of_an_older_recurra_tells_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = write_text(tmp_path)
    train(config(text, training={"max_steps": 2}), tmp_path / "run")
    header = tmp_path / "run" / "data" / "train.json"
    tree = json.loads(header.read_text())
    assert [Path(file["name"]).name for file in tree.pop("files")] == ["text.txt"]
    header.write_text(json.dumps(tree))
    text.unlink()
    train(config(text, training={"max_steps": 3}), tmp_path / "run", resume=True)
    assert capsys.readouterr().err == ""
