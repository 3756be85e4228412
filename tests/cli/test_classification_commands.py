"""Classification at the command line: classify and evaluate a small trained run, and what is said of wrong input."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from recurra.cli.main import app
from recurra.training.training_run import train

from ..systems.classification.labelled import config, write_numbers, write_texts

TEXTS = "the pear is rotten\n\na sweet song\n"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("classifier")
    train(config(write_texts(folder, 300)), folder / "run")
    return folder / "run"


def asked(*words: object, stdin: str | None = None, code: int = 0) -> tuple[str, str]:
    result = CliRunner().invoke(app, [str(word) for word in words], input=stdin)
    assert result.exit_code == code, result.output
    return result.stdout, result.stderr


def test_a_label_and_its_probability_for_every_line(run: Path) -> None:
    lines = asked("classify", run, stdin=TEXTS)[0].splitlines()
    assert [line.split("\t")[0] for line in lines][::2] == ["bad", "good"] and len(lines) == 3
    assert all(0.3 < float(line.split("\t")[1]) <= 1 for line in lines)


def test_json_has_all_probabilities(run: Path) -> None:
    rows = [json.loads(line) for line in asked("classify", run, "--json", stdin=TEXTS)[0].splitlines()]
    assert [row["line"] for row in rows] == [1, 2, 3] and rows[0]["label"] == "bad"
    assert set(rows[0]["probabilities"]) == {"good", "bad", "odd"}
    assert rows[0]["probability"] == rows[0]["probabilities"]["bad"]


def test_it_abstains(run: Path) -> None:
    lines = asked("classify", run, "--abstain", "0.7", stdin=TEXTS)[0].splitlines()
    assert lines[0].startswith("bad\t") and lines[1].startswith("?\t")
    rows = [
        json.loads(line) for line in asked("classify", run, "--abstain", "0.7", "--json", stdin=TEXTS)[0].splitlines()
    ]
    assert rows[1]["label"] is None and rows[1]["labels"] == [] and rows[1]["probability"] > 0


def test_it_explains(run: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    hostile = "the pear is rotten <script>\x1b[31m\n"
    out, _ = asked("classify", run, "--explain", "--page", page, stdin=hostile + "\n")
    assert "rotten(+" in out and "\x1b" not in out
    config = run / "config.yaml"
    assert "would destroy" in asked("classify", run, "--explain", "--page", config, stdin="a\n", code=2)[1]
    text = page.read_text()
    assert "<script>" not in text and "&lt;" in text and 'title="+' in text and "bad" in text
    row = json.loads(asked("classify", run, "--explain", "--json", stdin=TEXTS)[0].splitlines()[0])
    tokens = row["explanation"]["tokens"]
    assert "".join(piece for piece, _ in tokens).replace(" ", "") == "thepearisrotten"


def test_evaluate_shows_labels_and_errors(run: Path, tmp_path: Path) -> None:
    data = tmp_path / "held.tsv"
    data.write_text("bad\ta rotten pear\ngood\ta rotten day\nnew\ta sweet song\ngood\ta sunny day\n")
    out, err = asked("evaluate", run, "--data", data, "--pictures", tmp_path / "pictures")
    assert "1 of 4 texts have a label that no training text had" in err
    assert "accuracy" in out and "50.00%" in out and "calibration error" in out
    rows = out.splitlines()
    assert any(row.split()[:2] == ["bad", "0.5000"] for row in rows)
    assert any(row.split()[:3] == ["2", "good", "bad"] for row in rows)
    assert any(row.split()[:3] == ["3", "new", "good"] for row in rows)
    for name in ("confusion.png", "reliability.png"):
        assert (tmp_path / "pictures" / name).read_bytes().startswith(b"\x89PNG")
    found = json.loads(asked("evaluate", run, "--data", data, "--json")[0])
    assert found["accuracy"] == 0.5 and found["unknown_labels"] == 1 and len(found["errors"]) == 2


def test_evaluate_takes_other_columns(run: Path, tmp_path: Path) -> None:
    data = tmp_path / "held.csv"
    data.write_text("words,mood\na rotten pear,bad\n")
    words = ("evaluate", run, "--data", data, "--label-column", "mood", "--text-column", "words", "--json")
    assert json.loads(asked(*words)[0])["accuracy"] == 1.0


def test_numbers(tmp_path: Path) -> None:
    path = write_numbers(tmp_path, 120)
    train(config(path, data={"kind": "regression"}, training={"max_epochs": 2}), tmp_path / "run")
    lines = asked("classify", tmp_path / "run", stdin="sweet\nsour\n")[0].splitlines()
    assert float(lines[0]) > float(lines[1])
    out, _ = asked("evaluate", tmp_path / "run", "--data", path)
    assert "Pearson correlation" in out and "root mean squared error" in out and "accuracy" not in out
    _, err = asked("evaluate", tmp_path / "run", "--data", path, "--pictures", tmp_path / "p", code=2)
    assert "--pictures: a model that predicts numbers has no confusions" in err
    _, err = asked("classify", tmp_path / "run", "--abstain", "0.5", stdin="sweet\n", code=2)
    assert "--abstain: numbers have no probability" in err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("evaluate",), "Missing option '--data': name labelled texts to answer"),
        (("classify", "--page", "x.html"), "--page is for explained texts: give --explain too"),
        (("classify", "--abstain", "2"), "--abstain"),
    ],
)
def test_what_is_wrong_is_said(run: Path, words: tuple[str, ...], message: str) -> None:
    _, err = asked(words[0], run, *words[1:], stdin=TEXTS, code=2)
    assert message in " ".join(err.replace("│", " ").split())


def test_training_at_the_command_line(tmp_path: Path) -> None:
    path = write_texts(tmp_path, 60)
    quiet = [f"logging.{key}=false" for key in ("tensorboard", "picture", "progress")]
    words = ["train", "classification", "--data", path, "--run", tmp_path / "run", "--json", "--set", *quiet]
    found = json.loads(asked(*words, "training.max_epochs=1", "model.hidden_size=4", "training.device=cpu")[0])
    assert found["steps"] >= 1 and 0 <= found["accuracy"] <= 1
    shown, _ = asked("info", tmp_path / "run")
    assert "both directions" in shown and "accuracy" in shown
