"""Which folders may be trained in, and what a resumed run may change."""

from __future__ import annotations

import re
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
import yaml

from recurra.config.load import load_config
from recurra.errors import ConfigError, RunError
from recurra.run.directory import begun_run, open_run, read_run
from recurra.systems.language_model.config import LanguageModelConfig


def config(**sections: Any) -> LanguageModelConfig:
    return LanguageModelConfig.model_validate(sections)


def test_a_new_run_has_the_complete_configuration(tmp_path: Path) -> None:
    given = config(model={"hidden_size": [3, 4]}, training={"seed": 7})
    open_run(tmp_path / "a" / "b", given, resume=False)
    assert load_config(tmp_path / "a" / "b" / "config.yaml") == given == read_run(tmp_path / "a" / "b").config
    assert "clip_norm" in (tmp_path / "a" / "b" / "config.yaml").read_text()
    assert [path.name for path in (tmp_path / "a" / "b").iterdir()] == ["config.yaml"]


def test_what_a_training_killed_before_its_beginning_leaves_is_not_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / ".config.yaml").write_text("half of")
    open_run(tmp_path / "run", config(training={"max_steps": 1}), resume=False)
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == ["config.yaml"]


def test_a_folder_in_use_is_refused(tmp_path: Path) -> None:
    open_run(tmp_path / "run", config(), resume=False)
    with pytest.raises(RunError, match="already holds a run; resume"):
        open_run(tmp_path / "run", config(), resume=False)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.tex").write_text("x")
    for resume in (False, True):
        with pytest.raises(RunError, match="not a run"):
            open_run(tmp_path / "other", config(), resume=resume)
    for resume in (False, True):
        with pytest.raises(RunError, match="is a file"):
            open_run(tmp_path / "other" / "thesis.tex", config(), resume=resume)
    with pytest.raises(RunError, match="no run to resume"):
        open_run(tmp_path / "new", config(), resume=True)


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [
        ("training", "max_steps", 99),
        ("training", "max_epochs", None),
        ("training", "max_minutes", 3.0),
        ("training", "save_every", 5),
        ("training", "evaluate_every", 5),
        ("training", "patience", 2),
        ("training", "keep_evaluated", 3),
        ("training", "num_threads", 1),
        ("training", "device", "cpu"),
        ("logging", "every_steps", 5),
        ("logging", "picture", False),
    ],
)
def test_bounds_and_logging_may_change(tmp_path: Path, section: str, key: str, value: Any) -> None:
    open_run(tmp_path / "run", config(training={"max_steps": 1}), resume=False)
    changed = config(training={"max_steps": 1})
    setattr(getattr(changed, section), key, value)
    open_run(tmp_path / "run", changed, resume=True)
    assert getattr(getattr(read_run(tmp_path / "run").config, section), key) == value


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [
        ("data", "train", ["b.txt"]),
        ("tokenizer", "kind", "word"),
        ("model", "hidden_size", 64),
        ("training", "weight_decay", 0.5),
        ("training", "nt_asgd_patience", 2),
        ("training", "batch_size", 3),
    ],
)
def test_nothing_else_may(tmp_path: Path, section: str, key: str, value: Any) -> None:
    open_run(tmp_path / "run", config(), resume=False)
    with pytest.raises(ConfigError, match=rf"^{section}\.{key}: is "):
        open_run(tmp_path / "run", config(**{section: {key: value}}), resume=True)
    assert read_run(tmp_path / "run").config == config()


def test_what_is_no_run_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="no such run directory"):
        read_run(tmp_path / "gone")
    with pytest.raises(RunError, match=r"is not a run directory; one holds config\.yaml"):
        read_run(tmp_path)
    tree = config().model_dump(mode="json")
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(tree | {"version": 99}))
    with pytest.raises(ConfigError, match="upgrade"):
        read_run(tmp_path)


ROUNDS = 100


@pytest.mark.skipif(sys.platform == "win32", reason="this system has no such locks")
def test_of_several_that_begin_at_once_one_is_let_in(tmp_path: Path) -> None:
    for number in range(ROUNDS):
        run, together, done = tmp_path / str(number), threading.Barrier(3), threading.Barrier(3)
        let_in: list[int] = []
        told: list[str] = []

        def begin(which: int, run=run, together=together, done=done, let_in=let_in, told=told) -> None:  # type: ignore[no-untyped-def]
            together.wait()
            try:
                with begun_run(run, config(), resume=False):
                    let_in.append(which)
                    done.wait()
                    return
            except RunError as error:
                told.append(str(error))
            done.wait()

        threads = [threading.Thread(target=begin, args=(which,)) for which in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(let_in) == 1 and len(told) == 2
        assert all("another training is at work here" in text or "already holds a run" in text for text in told)
        assert read_run(run).config == config()


@pytest.mark.parametrize(
    "name", ["metrics.jsonl", ".config.yaml", "data/train.tmp", "checkpoints", "tokenizer.json.tmp"]
)
def test_a_resumed_run_writes_through_no_link(name: str, tmp_path: Path) -> None:
    run, other = tmp_path / "run", tmp_path / "other"
    open_run(run, config(), resume=False)
    (run / "data").mkdir()
    other.write_text("somebody's work")
    (run / name).symlink_to(other)
    with (
        pytest.raises(RunError, match=f"{re.escape(str(run / name))}: is a link"),
        begun_run(run, config(), resume=True),
    ):
        raise AssertionError("it was let in")
    assert other.read_text() == "somebody's work"
    # The folder itself may be one.
    (run / name).unlink()
    (tmp_path / "link").symlink_to(run)
    with begun_run(tmp_path / "link", config(), resume=True):
        pass
