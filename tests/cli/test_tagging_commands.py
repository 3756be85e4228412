"""Tagging at the command line: tag and evaluate a small trained run, and what is said of wrong input."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from recurra.cli.main import app
from recurra.training.training_run import train

from ..systems.tagging.tagged import config, write_columns, write_conllu


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tagger")
    train(config(write_conllu(folder, 150)), folder / "run")
    return folder / "run"


def asked(*words: object, stdin: str | None = None, code: int = 0) -> tuple[str, str]:
    result = CliRunner().invoke(app, [str(word) for word in words], input=stdin)
    assert result.exit_code == code, result.output
    return result.stdout, result.stderr


def test_a_file_comes_back_with_its_tags(run: Path, tmp_path: Path) -> None:
    path = Path(write_conllu(tmp_path, 5, seed=4))
    whole = path.read_text()
    blind = whole.replace("\tNOUN\t", "\t_\t").replace("\tVERB\t", "\t_\t")
    path.write_text(blind)
    assert asked("tag", run, path)[0] == whole


def test_plain_words(run: Path) -> None:
    text = "the dog eats .\n\nthe can can\n"
    out, _ = asked("tag", run, "--plain", stdin=text)
    assert out == "the/DET dog/NOUN eats/VERB ./PUNCT\n\nthe/DET can/NOUN can/VERB\n"
    out, _ = asked("tag", run, "--plain", "--marginals", stdin="the dog\n")
    words = [word.split("/") for word in out.split()]
    assert [word[:2] for word in words] == [["the", "DET"], ["dog", "NOUN"]]
    assert all(0.5 < float(word[2]) <= 1 for word in words)
    out, _ = asked("tag", run, "--plain", "--n-best", "2", stdin="the dog\nthe can\n")
    rows = [line.split("\t") for line in out.splitlines()]
    assert [row[0] for row in rows] == ["1", "1", "2", "2"] and rows[0][3] == "the/DET dog/NOUN"
    assert float(rows[0][2]) > float(rows[1][2])


def test_json(run: Path, tmp_path: Path) -> None:
    rows = [json.loads(line) for line in asked("tag", run, "--plain", "--json", stdin="the dog\n\n")[0].splitlines()]
    assert rows == [{"line": 1, "words": ["the", "dog"], "upos": ["DET", "NOUN"]}, {"line": 2, "words": [], "upos": []}]
    out, _ = asked("tag", run, write_conllu(tmp_path, 2), "--json")
    assert all(row["upos"][0] == "DET" for row in map(json.loads, out.splitlines()))


def test_evaluate(run: Path, tmp_path: Path) -> None:
    path = Path(write_conllu(tmp_path, 20, seed=5))
    out, _ = asked("evaluate", run, "--data", path)
    assert "accuracy  " in out and "100.00%" in out and "times in training" in out and "right  answer" not in out
    wrong = path.read_text().replace("\tdog\t_\tNOUN\t", "\tdog\t_\tVERB\t")
    path.write_text(wrong)
    count = wrong.count("\tdog\t_\tVERB\t")
    found = json.loads(asked("evaluate", run, "--data", path, "--json")[0])["upos"]
    assert count and found["accuracy"] == pytest.approx(1 - count / found["words"])
    assert len(found["errors"]) == min(count, 10) and found["errors"][0]["word"] == "dog"
    first = next(number for number, line in enumerate(wrong.splitlines(), start=1) if "\tdog\t_\tVERB\t" in line)
    before = [n for n, line in enumerate(wrong.splitlines(), start=1) if line.startswith("# sent_id") and n < first]
    assert found["errors"][0]["line"] == before[-1] and found["errors"][0]["right"] == "VERB"
    assert any("the [dog]" in line for line in asked("evaluate", run, "--data", path)[0].splitlines())
    assert found["confusions"] == [{"gold": "VERB", "predicted": "NOUN", "times": count}]


def test_evaluate_spans(tmp_path: Path) -> None:
    path = write_columns(tmp_path, 100)
    train(config(path, data={"train": [path], "scheme": "bio"}), tmp_path / "run")
    out, _ = asked("evaluate", tmp_path / "run", "--data", path)
    assert "F1 of spans" in out and any(line.split()[:2] == ["MEAL", "1.0000"] for line in out.splitlines())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("evaluate",), "Missing option '--data': name tagged sentences"),
        (("tag", "--plain", "--format", "conllu"), "--plain reads sentences of words from standard input"),
        (("tag", "--n-best", "2"), "have no place in the input's own format: give --plain too"),
    ],
)
def test_what_is_wrong_is_said(run: Path, words: tuple[str, ...], message: str) -> None:
    _, err = asked(words[0], run, *words[1:], stdin="a\n", code=2)
    assert message in " ".join(err.replace("│", " ").split())


def test_training_at_the_command_line(tmp_path: Path) -> None:
    path = write_columns(tmp_path, 60)
    quiet = [f"logging.{key}=false" for key in ("tensorboard", "picture", "progress")]
    words = [
        "train",
        "tagging",
        "--data",
        path,
        "--tags",
        "2",
        "3",
        "--run",
        tmp_path / "run",
        "--json",
        "--set",
        *quiet,
    ]
    found = json.loads(asked(*words, "training.max_epochs=1", "model.hidden_size=4", "training.device=cpu")[0])
    assert found["steps"] >= 1 and 0 <= found["all_right"] <= found["mean_accuracy"] <= 1
    shown, _ = asked("info", tmp_path / "run")
    assert "characters read by a network" in shown and "accuracy" in shown
