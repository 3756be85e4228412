"""The commands on a language model, from training to writing: what a newcomer does, checked end to end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from recurra.cli.main import app


def run(*arguments: str | Path, **options: Any) -> Any:
    return CliRunner().invoke(app, [str(argument) for argument in arguments], **options)


def answer(*arguments: str | Path, **options: Any) -> list[dict[str, Any]]:
    """The JSON lines of a command that must succeed and say nothing else."""
    result = run(*arguments, "--json", **options)
    assert result.exit_code == 0, result.stderr
    assert result.stderr == ""
    return [json.loads(line) for line in result.stdout.splitlines()]


def probabilities(run_directory: Path, text: str, *words: str) -> dict[str, float]:
    found = answer("next", run_directory, text, "--candidates", ",".join(words))[0]["next"]
    return {entry["word"]: entry["probability"] for entry in found}


@pytest.fixture(params=["word_run", "character_run"])
def run_directory(request: pytest.FixtureRequest) -> Path:
    return request.getfixturevalue(request.param)


def test_training_reports_its_result_and_leaves_a_run(run_directory: Path) -> None:
    result = json.loads((run_directory.parent / "train.json").read_text(encoding="utf-8"))
    assert result["run"] == str(run_directory)
    assert result["steps"] > 0
    assert result["stopped_because"] == "max_steps"
    for name in ("config.yaml", "tokenizer.json", "model.safetensors", "metrics.jsonl"):
        assert (run_directory / name).is_file()


def test_the_pear_beats_the_pair(run_directory: Path) -> None:
    asked = probabilities(run_directory, "the apple and", "pear", "pair")
    assert asked["pear"] > 0.02
    assert asked["pear"] > 10 * asked["pair"]
    # The word is known and has its place: there the order is the other way round.
    elsewhere = probabilities(run_directory, "use a", "pear", "pair")
    assert elsewhere["pair"] > 0.5
    assert elsewhere["pair"] > 10 * elsewhere["pear"]
    scores = answer(
        "score", run_directory, "--text", "the apple and pair salad is ready", "the apple and pear salad is ready"
    )
    assert [score["rank"] for score in scores] == [2, 1]
    assert scores[1]["share"] > 0.9
    assert sum(score["share"] for score in scores) == pytest.approx(1.0)


def test_the_same_in_korean(run_directory: Path) -> None:
    asked = probabilities(run_directory, "사과와", "배", "베")
    assert asked["배"] > 0.5
    assert asked["배"] > 10 * asked["베"]
    likeliest = answer("next", run_directory, "사과와", "--top", "1")[0]["next"][0]
    assert likeliest["word"] == "배"
    scores = answer("score", run_directory, "-", input="사과와 베 샐러드를 만든다\n사과와 배 샐러드를 만든다\n")
    assert [score["rank"] for score in scores] == [2, 1]


def test_next_words_are_a_distribution(run_directory: Path) -> None:
    found = answer("next", run_directory, "the apple and", "--top", "6")[0]
    words = {entry["word"]: entry["probability"] for entry in found["next"]}
    assert {"pear", "plum", "fig", "melon", "cherry"} <= set(words)
    assert 0.9 < sum(words.values()) <= 1.0 + 1e-9
    table = run("next", run_directory, "the apple and", "--top", "6").stdout
    assert [line.split()[0] for line in table.splitlines()] == ["word", *words]


def test_evaluate_agrees_with_training(run_directory: Path) -> None:
    trained = json.loads((run_directory.parent / "train.json").read_text(encoding="utf-8"))
    (result,) = answer("evaluate", run_directory, "--data", run_directory.parent / "valid.txt")
    # Training leaves the very first token of the text unasked; among a thousand it changes little.
    assert result["loss"] == pytest.approx(trained["best_loss"], rel=0.02)
    assert result["unknown_rate"] == 0.0
    text = run("evaluate", run_directory, "--data", run_directory.parent / "valid.txt").stdout
    assert f"{result['loss']:.4f} nats per token" in text


def test_score_numbers_lines_and_passes_blank_ones_over(word_run: Path, tmp_path: Path) -> None:
    (tmp_path / "lines.txt").write_text("the apple\r\n\n\nzyzzyva\n", encoding="utf-8")
    scores = answer("score", word_run, tmp_path / "lines.txt")
    assert [(score["line"], score["text"], score["unknown"]) for score in scores] == [
        (1, "the apple", 0),
        (4, "zyzzyva", 1),
    ]
    table = run("score", word_run, tmp_path / "lines.txt")
    # Not the unknown word, however great the mass of all of these is.
    assert table.stdout.splitlines()[-1] == "likeliest: the apple"
    assert [(score["rank"], score["share"]) for score in scores] == [(1, 1.0), (2, None)]
    assert table.stdout.splitlines()[2].split()[:3] == ["4", "2", "-"]
    assert "an unknown word counts as any unknown word" in table.stderr
    assert run("score", word_run, "--text", "the apple", "the pear").stderr == ""
    empty = run("score", word_run, "-", input="\n\n")
    assert empty.exit_code == 1
    assert "no text to read" in empty.stderr
    assert run("score", word_run, "--text", " ").exit_code == 2


def test_a_candidate_outside_the_vocabulary_is_said(word_run: Path) -> None:
    result = run("next", word_run, "the", "--candidates", "apple", "zyzzyva")
    assert result.exit_code == 0
    assert "zyzzyva is not in the model's vocabulary" in result.stderr
    last = result.stdout.splitlines()[-1]
    assert last.split()[0] == "zyzzyva" and last.endswith("(all unknown words)")
    words = json.loads(run("next", word_run, "the", "--candidates", "zyzzyva", "apple", "--json").stdout)["next"]
    assert [(word["word"], word["known"]) for word in words] == [("apple", True), ("zyzzyva", False)]


@pytest.mark.parametrize("command", [("next", "wash the quince and Yuzu"), ("generate", "--prompt", "a quince Yuzu")])
def test_unknown_words_of_a_prompt_are_said(word_run: Path, command: tuple[str, ...]) -> None:
    name, *rest = command
    result = CliRunner().invoke(app, [name, str(word_run), *rest])
    assert result.exit_code == 0
    assert "not in the model's vocabulary, and read as any unknown word: quince, Yuzu." in result.stderr


def test_generate_writes_recipes(run_directory: Path) -> None:
    arguments = ["generate", run_directory, "--prompt", "the apple and", "--temperature", "0.5", "--stop", "\\n"]
    shown = run(*arguments, "--seed", "4")
    assert shown.exit_code == 0
    assert shown.stdout.startswith("the apple and ")
    assert shown.stdout.rstrip().endswith("is ready")
    samples = answer(*arguments, "--seed", "4", "--n", "3")
    assert [sample["sample"] for sample in samples] == [1, 2, 3]
    assert samples[0]["prompt"] + samples[0]["text"] == shown.stdout.removesuffix("\n")
    assert "--- 3 of 3" in run(*arguments, "--n", "3").stdout


def test_info_tells_what_was_trained(run_directory: Path) -> None:
    import recurra

    (facts,) = answer("info", run_directory)
    model = recurra.load(run_directory, device="cpu").model
    trained = json.loads((run_directory.parent / "train.json").read_text(encoding="utf-8"))
    assert facts["parameters"] == sum(parameter.numel() for parameter in model.parameters())
    assert facts["best"]["loss"] == pytest.approx(trained["best_loss"])
    assert facts["last"]["step"] == trained["steps"]
    assert facts["bytes"]["model.safetensors"] == (run_directory / "model.safetensors").stat().st_size
    assert facts["installation"]["recurra"] == recurra.__version__
    text = run("info", run_directory).stdout
    assert facts["config"]["model"]["cell"] in text and f"{facts['parameters']:,}" in text
    (machine,) = answer("info")
    assert machine == facts["installation"]


def test_cells_are_listed_and_printed() -> None:
    import recurra

    listed = answer("cells")[0]
    assert [cell["name"] for cell in listed] == recurra.cells.names()
    (cell,) = answer("cells", "gru_cho")
    assert cell["equations"] == recurra.cells.get("gru_cho").equations()
    text = run("cells", "gru_cho").stdout
    assert all(equation in text for equation in cell["equations"])
    assert run("cells", "gru_cho", "--latex").stdout.strip() == recurra.cells.get("gru_cho").latex().strip()


@pytest.mark.parametrize("command", [["score"], ["next", "text"], ["generate"], ["evaluate", "--data", "x"], ["info"]])
def test_a_directory_that_is_no_run_is_one_sentence(command: list[str], tmp_path: Path) -> None:
    (tmp_path / "lines.txt").write_text("a line\n", encoding="utf-8")
    extra = [str(tmp_path / "lines.txt")] if command == ["score"] else []
    result = run(command[0], tmp_path, *command[1:], *extra)
    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr.startswith(f"recurra: {tmp_path}: is not a run directory")
    assert len(result.stderr.splitlines()) == 1


def test_a_run_is_not_overwritten(word_run: Path) -> None:
    before = (word_run / "model.safetensors").read_bytes()
    result = run("train", "--data", word_run.parent / "recipes.txt", "--run", word_run)
    assert result.exit_code == 1
    assert "--resume" in result.stderr
    assert (word_run / "model.safetensors").read_bytes() == before


def test_a_wrong_byte_is_named_by_file_and_place(tmp_path: Path) -> None:
    (tmp_path / "bad.txt").write_bytes(b"good line\nbad \xff line\n")
    result = run("train", "--data", tmp_path / "bad.txt", "--run", tmp_path / "run")
    assert result.exit_code == 1
    assert "bad.txt: byte 0xff at byte 14 (line 2) is not valid UTF-8" in result.stderr.splitlines()[-1]


def test_ctrl_c_saves_and_resume_goes_on(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("the apple and pear salad is ready\n" * 400, encoding="utf-8")
    command = [sys.executable, "-c", "import recurra.cli.main as m; m.main()", "train"]
    config = ["tokenizer.kind=word", "model.hidden_size=8", "model.num_layers=1", "logging.tensorboard=false"]
    config += [
        "training.evaluate_every=1000",
        "training.max_steps=1000000",
        "training.max_epochs=null",
        "training.device=cpu",
        "logging.every_steps=1",
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [*command, "--data", "text.txt", "--run", "my run", "--set", *config],
        cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    metrics = tmp_path / "my run" / "metrics.jsonl"
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not (metrics.exists() and metrics.stat().st_size):
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 1, errors
    assert output == ""
    assert "Traceback" not in errors
    assert "go on with: recurra train --run 'my run' --resume" in errors
    steps = json.loads(metrics.read_text(encoding="utf-8").splitlines()[-1])["step"]
    resumed = subprocess.run(
        [*command, "--run", "my run", "--resume", "--json", "--set", f"training.max_steps={steps + 20}"],
        cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert resumed.returncode == 0, resumed.stderr
    result = json.loads(resumed.stdout)
    assert result["stopped_because"] == "max_steps"
    assert result["steps"] == steps + 20


def test_a_config_file_and_a_directory_are_enough(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("the apple and pear salad is ready\n" * 100, encoding="utf-8")
    (tmp_path / "small.yaml").write_text(
        f"data:\n  train: [{tmp_path / 'text.txt'}]\n"
        "tokenizer: {kind: word}\nmodel: {hidden_size: 8, num_layers: 1, cell: gru_cho}\n"
        "training: {max_steps: 5, device: cpu, batch_size: 4, sequence_length: 8}\n"
        "logging: {tensorboard: false, picture: false}\n",
        encoding="utf-8",
    )
    result = run("train", "--config", tmp_path / "small.yaml", "--run", tmp_path / "run")
    assert result.exit_code == 0, result.stderr
    assert "nats per token" in result.stdout


def test_the_words_of_a_line_are_shown_when_asked_for(run_directory: Path) -> None:
    lines = ("the apple and pear salad is ready", "wash the plum")
    scores = answer("score", run_directory, "--words", "--text", lines[0], "--text", lines[1])
    for line, score in zip(lines, scores, strict=True):
        assert [word["word"] for word in score["words"]] == [*line.split(), "<eos>"]
        assert sum(word["log_probability"] for word in score["words"]) == pytest.approx(score["log_probability"])
    assert "words" not in answer("score", run_directory, "--text", lines[1])[0]
    shown = run("score", run_directory, "--words", "--text", lines[1]).stdout.splitlines()
    values = [
        f"{word['log_probability']:.3f}"
        for word in answer("score", run_directory, "--words", "--text", lines[1])[0]["words"]
    ]
    assert [row.split() for row in shown[-4:]] == [
        ["1", value, word] for value, word in zip(values, [*lines[1].split(), "<eos>"], strict=True)
    ]
