"""`recurra compare`: whole studies through the command line, one training at a time, and what is refused."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from recurra import registry
from recurra.cli.main import app
from recurra.comparison.study import Study

from ..comparison.tiny_study import configuration, text_file
from ..systems.classification.labelled import write_texts


def asked(*words: object, code: int = 0) -> tuple[str, str]:
    result = CliRunner().invoke(app, [str(word) for word in words])
    assert result.exit_code == code, (result.output, result.exception)
    return result.stdout, result.stderr


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A tiny language model; the current folder is that of its texts."""
    monkeypatch.chdir(tmp_path)
    tree = configuration(tmp_path)
    del tree["data"]
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(tree))
    return path


def options(folder: Path, work: str = "work", *more: object) -> list[object]:
    """Of a study of two cells, with texts named as the user sees them."""
    test = Path(text_file(folder, "test.txt", 20, 3)).name
    found: list[object] = ["--work", work, "--data", "train.txt", "--valid", "valid.txt", "--test", test]
    return [*found, "--cells", "gru,rnn_tanh", "--search", 2, "--seeds", 2, *more]


def run_listed(work: Path) -> list[str]:
    """Run the commands that --list prints, each by itself; returns them."""
    commands = asked("compare", "--work", work, "--list")[0].splitlines()
    for command in commands:
        program, *words = shlex.split(command)
        assert program == "recurra"
        asked(*words)
    return commands


def kept(work: Path) -> dict[str, Any]:
    """All results but for their times, by file name."""
    found = {}
    for path in sorted([*work.glob("trials/*.json"), *work.glob("finals/*.json")]):
        found[path.name] = {name: value for name, value in json.loads(path.read_text()).items() if name != "seconds"}
    return found


def test_listed_commands_are_one_training_each_and_make_the_whole(config: Path, tmp_path: Path) -> None:
    listed, told = asked("compare", config, *options(tmp_path), "--list")
    assert len(listed.splitlines()) == 4 and "--list prints those of the best trials' seeds" in told
    assert "gru: 7 units" in told and "rnn_tanh: 1" in told
    work = tmp_path / "work"
    first = run_listed(work)
    assert [shlex.split(each)[-2:] for each in first] == [["--trial", str(number)] for number in range(1, 5)]
    assert listed.splitlines() == first and len(kept(work)) == 4
    second = run_listed(work)
    assert [shlex.split(each)[-2:] for each in second] == [["--final", str(number)] for number in range(1, 5)]
    nothing, told = asked("compare", "--work", work, "--list")
    assert nothing == "" and "all is done" in told
    shown, told = asked("compare", "--work", work)
    assert "loss (nats per token)" in shown and "gram (Witten-Bell)" in shown and "rnn_tanh" in shown
    assert "table.md" in told and len(kept(work)) == 9
    as_json = json.loads(asked("compare", "--work", work, "--json")[0])
    assert [row["name"] for row in as_json["table"]["rows"]][1:] == ["gru", "rnn_tanh"]
    assert as_json["table"]["rows"][1]["measures"]["loss"]["runs"] == 2
    # The same command is the same study, and nothing is done again.
    before = {path: path.stat().st_mtime_ns for path in work.glob("*/*.json")}
    asked("compare", config, *options(tmp_path))
    assert {path: path.stat().st_mtime_ns for path in work.glob("*/*.json")} == before
    # A study that grows does only what is new.
    assert len(asked("compare", "--work", work, "--search", 3, "--list")[0].splitlines()) == 2
    assert len(asked("compare", "--work", work, "--list")[0].splitlines()) == 2


@pytest.mark.slow
@pytest.mark.check
def test_the_whole_command_equals_its_parts_and_goes_on_after_a_kill(config: Path, tmp_path: Path) -> None:
    words = [str(word) for word in ("compare", config, *options(tmp_path, "whole"), "--workers", 2)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "recurra", *words]
    first = subprocess.Popen(command, env=environment, start_new_session=True, stderr=subprocess.DEVNULL)
    try:
        while len(list((tmp_path / "whole" / "trials").glob("*.json"))) < 1:
            assert first.poll() is None
            time.sleep(0.05)
    finally:
        # The command and all its trainings, which cannot save anything.
        os.killpg(first.pid, signal.SIGKILL)
        first.wait()
    assert len(kept(tmp_path / "whole")) < 8
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
    assert ended.returncode == 0, ended.stderr
    assert "rnn_tanh" in ended.stdout
    asked("compare", config, *options(tmp_path, "parts"), "--list")
    run_listed(tmp_path / "parts")
    run_listed(tmp_path / "parts")
    asked("compare", "--work", tmp_path / "parts")
    assert kept(tmp_path / "whole") == kept(tmp_path / "parts") and len(kept(tmp_path / "parts")) == 9


@pytest.mark.check
def test_a_classifier_with_options_of_cells_and_a_space_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    tree = {
        "task": "classification",
        "tokenizer": {"kind": "word"},
        "model": {"hidden_size": 8, "embedding_size": 6, "pooling": "mean"},
        "training": {"max_epochs": 2, "batch_tokens": 200, "device": "cpu", "select_by": "accuracy"},
    }
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(tree))
    (tmp_path / "space.yaml").write_text(
        "training.learning_rate: [0.005, 0.05, log]\nmodel.pooling: [max, mean, choice]\n"
    )
    texts, test = write_texts(tmp_path, 150), write_texts(tmp_path, 60, "test.tsv", 2)
    words = ["compare", "tiny.yaml", "--work", "work", "--cells", "lstm", "lstm+model.forget_bias=0", "--data", texts]
    words.append("--transformer")
    asked(*words, "--test", test, "--space", "space.yaml", "--search", 2, "--seeds", 2, "--list")
    study = Study.load(tmp_path / "work")
    assert [study.configuration(study.trial(index, 0)).model.forget_bias for index in (0, 1)] == [1.0, 0.0]
    assert study.contestants[0].width == study.contestants[1].width == 8
    run_listed(tmp_path / "work")
    run_listed(tmp_path / "work")
    shown = asked("compare", "--work", "work")[0]
    assert "accuracy ↑" in shown and "most frequent label" in shown and "lstm+model.forget_bias=0" in shown
    assert "%" in shown and "transformer" in shown
    table = (tmp_path / "work" / "table.md").read_text()
    assert "model.pooling m" in table and "test data, which were read once" in table


def test_without_test_data_the_table_says_that_its_figures_are_too_good(config: Path, tmp_path: Path) -> None:
    words = options(tmp_path)
    place = words.index("--test")
    asked("compare", config, *words[:place], *words[place + 2 :], "--list")
    run_listed(tmp_path / "work")
    run_listed(tmp_path / "work")
    assert "validation data" in asked("compare", "--work", "work")[0] + (tmp_path / "work" / "table.md").read_text()
    assert "Welch" in (tmp_path / "work" / "table.md").read_text()


def test_a_system_from_outside_without_outcomes_is_compared_over_seeds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "systems"))
    monkeypatch.setattr(registry, "_outside", lambda: {"mood": "mood:SYSTEM"})
    monkeypatch.chdir(tmp_path)
    registry.systems.cache_clear()
    try:
        (tmp_path / "mood.yaml").write_text("task: mood\ntraining: {max_epochs: 1, device: cpu}\n")
        data, test = write_texts(tmp_path, 60), write_texts(tmp_path, 30, "test.tsv", 2)
        words = ["--cells", "gru,mgu", "--search", 1, "--seeds", 2, "--data", data, "--test", test, "--work", "work"]
        asked("compare", "mood.yaml", *words, "--list")
        run_listed(tmp_path / "work")
        run_listed(tmp_path / "work")
        shown = asked("compare", "--work", "work")[0]
    finally:
        registry.systems.cache_clear()
    assert "accuracy ↑" in shown and "Welch" in shown and "mgu" in shown
    assert "mood gives no outcomes of single examples" in (tmp_path / "work" / "table.md").read_text()


def test_a_cell_of_the_user_s_own(config: Path, tmp_path: Path) -> None:
    cell = "from recurra.cells import LSTM\n\n\nclass Mine(LSTM):\n    pass\n"
    (tmp_path / "mine.py").write_text(cell)
    words = [
        "--data",
        "train.txt",
        "--valid",
        "valid.txt",
        "--cells",
        "lstm",
        "mine.py:Mine",
        "--search",
        1,
        "--seeds",
        1,
    ]
    told = asked("compare", config, *words, "--work", "work", "--list")[1]
    assert "lstm: 6 units" in told and "mine.py:Mine: 6 units" in told
    run_listed(tmp_path / "work")
    run_listed(tmp_path / "work")
    # The same equations with the same seed and settings.
    found = json.loads(asked("compare", "--work", "work", "--json")[0])["contestants"]
    assert found[0]["trials"] == found[1]["trials"]


def test_help_does_not_import_torch_and_has_the_options_of_the_system(tmp_path: Path) -> None:
    (tmp_path / "pairs.yaml").write_text("task: translation\n")
    code = (
        "import sys, recurra.cli.main as m\n"
        f"try:\n    m.app(['compare', {str(tmp_path / 'pairs.yaml')!r}, '--help'])\n"
        "except SystemExit as end:\n    assert end.code == 0, end.code\n"
        "slow = {'torch', 'numpy', 'tokenizers', 'accelerate', 'matplotlib'} & set(sys.modules)\n"
        "assert not slow, slow"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stderr
    assert "--valid-source" in result.stdout and "--cells" in result.stdout


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "Missing option '--work'"),
        (("--work", "new"), "there is no study here"),
        (("tiny.yaml", "--work", "new", "--data", "train.txt"), "Missing option '--cells'"),
        (("tiny.yaml", "--work", "new", "--cells", "gru,lstm"), "Missing option '--data'"),
        (("--work", "new", "--cells", "gru,lstm"), "--cells: is for a new study; name its CONFIG first"),
        (("tiny.yaml", "--work", "new", "--data", "-", "--cells", "gru,lstm"), "standard input can be read once"),
        (("tiny.yaml", "--work", "new", "--data", "train.txt", "--cells", "gru,lsmt"), "did you mean lstm?"),
        (("tiny.yaml", "--work", "new", "--data", "train.txt", "--cells", "gru,lstm", "--seeds", "0"), "--seeds"),
        (("tiny.yaml", "--work", "new", "--data", "train.txt", "--cells", "gru,lstm", "--equal", "w"), "--equal: must"),
        (("tiny.yaml", "--work", "new", "--data", "train.txt", "--cells", "gru,lstm", "--space", "space.yaml"),
         "there is no key training.learnig_rate; did you mean training.learning_rate?"),
        (("tiny.yaml", "--work", "new", "--source", "train.txt"), "--source: this is not for language-model"),
        (("gone.yaml", "--work", "new", "--data", "train.txt", "--cells", "gru,lstm"), "gone.yaml: there is no such"),
        (("tiny.yaml", "--work", "new", "--data", "train.txt", "--cells", "gru,lstm", "--test", "gone.txt"),
         "--test: gone.txt: there is no such file"),
        (("--work", "new", "--study-seed", "0"), "--study-seed: is for a new study"),
        (("--work", "new", "--trial", "1", "--final", "1"), "give one of them"),
        (("tiny.yaml", "--work", "full", "--data", "train.txt", "--cells", "gru,lstm"), "something that is no study"),
    ],
)  # fmt: skip
def test_what_is_refused_is_one_sentence(words: tuple[str, ...], said: str, config: Path, tmp_path: Path) -> None:
    (tmp_path / "space.yaml").write_text("training.learnig_rate: [0.1, 0.2, log]\n")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "letter.txt").touch()
    result = CliRunner().invoke(app, ["compare", *words])
    assert result.exit_code in (1, 2) and result.stdout == ""
    assert said in result.stderr and result.stderr.startswith("recurra: ")
    assert len([line for line in result.stderr.splitlines() if not line.startswith("Try `")]) == 1
    assert not (tmp_path / "new").exists()


def test_a_folder_of_another_study_is_refused(config: Path, tmp_path: Path) -> None:
    asked("compare", config, *options(tmp_path), "--list")
    said = asked("compare", config, *options(tmp_path), "--set", "model.num_layers=2", code=1)[1]
    assert "holds another study, in which config.model.num_layers is 1 and not 2; give another folder." in said
    said = asked("compare", "--work", tmp_path / "work", "--trial", 9, code=2)[1]
    assert "there is no trial 9 in this study, which has 4" in said
    said = asked("compare", "--work", tmp_path / "work", "--final", 1, code=1)[1]
    assert "trial 1 (gru) has no result yet" in said
