"""Trainings side by side: each once, failures told apart from kills, and other machines' work waited for."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from recurra.comparison import side_by_side
from recurra.comparison.shared_results import claimed, keep, read_result
from recurra.comparison.side_by_side import arguments_of, finish_trainings
from recurra.comparison.study import Study, Training
from recurra.errors import RunError

from .tiny_study import tiny_study

# In place of `recurra compare --trial`: keeps a result, and does as the file of its name says.
CHILD = """
import os, signal, sys, time
from pathlib import Path
from recurra.comparison.shared_results import claimed, keep
folder, name = Path(sys.argv[1]), sys.argv[2]
with open(folder / "begun", "a") as file:
    file.write(f"{name} {os.environ['OMP_NUM_THREADS']}\\n")
with claimed(folder, name):
    what = (folder / name).read_text() if (folder / name).exists() else ""
    if what == "crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    if what == "wait":
        (folder / "waits").touch()
        time.sleep(60)
    if what == "refuse":
        print("recurra: data.txt: there is no such file.", file=sys.stderr)
        sys.exit(1)
    time.sleep(0.3)
    keep(folder / "trials", name, {"valid": {"loss": 1.0}, "process": os.getpid()})
"""


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Study:
    names: dict[str, str] = {}
    monkeypatch.setattr(side_by_side, "_SECONDS_ELSEWHERE", 0.1)

    class Children(subprocess.Popen[bytes]):
        def __init__(self, command: list[str], **options: Any) -> None:
            super().__init__([sys.executable, "-c", CHILD, str(tmp_path), names[command[-1]]], **options)

    monkeypatch.setattr(side_by_side.subprocess, "Popen", Children)
    found = tiny_study(tmp_path, trials=2, threads=3)
    names.update({str(each.number): each.name for each in found.search_trainings()})
    return found


def begun(folder: Path) -> list[str]:
    path = folder / "begun"
    return sorted(path.read_text().splitlines()) if path.exists() else []


def test_each_is_done_once_in_a_process_of_its_own(study: Study, tmp_path: Path) -> None:
    trainings, told = study.search_trainings(), []
    keep(tmp_path / "trials", trainings[2].name, {"valid": {"loss": 7.0}})

    def report(training: Training, result: dict[str, Any]) -> None:
        told.append((training.name, result["valid"]["loss"]))

    found = finish_trainings(study, tmp_path, trainings, workers=2, report=report)
    assert [result["valid"]["loss"] for result in found] == [1.0, 1.0, 7.0, 1.0]
    assert begun(tmp_path) == sorted(f"{each.name} 3" for each in trainings if each is not trainings[2])
    assert len({result["process"] for result in found if "process" in result} - {os.getpid()}) == 3
    assert sorted(told) == sorted((each.name, 1.0) for each in trainings if each is not trainings[2])
    assert finish_trainings(study, tmp_path, trainings, workers=2) == found and len(begun(tmp_path)) == 3


def test_a_crash_is_a_failed_trial(study: Study, tmp_path: Path) -> None:
    trainings = study.search_trainings()
    (tmp_path / trainings[0].name).write_text("crash")
    found = finish_trainings(study, tmp_path, trainings)
    assert found[0]["failed"] == "its process was ended by SIGSEGV" and found[0]["trial"] == 1
    assert [result.get("failed") for result in found[1:]] == [None] * 3


def test_what_is_no_fault_of_a_trial_ends_the_search(study: Study, tmp_path: Path) -> None:
    trainings = study.search_trainings()
    (tmp_path / trainings[1].name).write_text("refuse")
    with pytest.raises(RunError, match=r"trial 2 could not be done: data\.txt: there is no such file\."):
        finish_trainings(study, tmp_path, trainings)
    # Nothing was begun after it, and nothing is lost.
    assert len(begun(tmp_path)) == 2
    (tmp_path / trainings[1].name).write_text("")
    assert len(finish_trainings(study, tmp_path, trainings)) == 4


def test_what_is_killed_is_done_by_the_next_call(study: Study, tmp_path: Path) -> None:
    trainings = study.search_trainings()
    (tmp_path / trainings[0].name).write_text("wait")
    raised: list[BaseException] = []

    def go() -> None:
        try:
            finish_trainings(study, tmp_path, trainings[:2])
        except RunError as error:
            raised.append(error)

    thread = threading.Thread(target=go)
    thread.start()
    while not (tmp_path / "waits").exists():
        assert thread.is_alive()
        time.sleep(0.02)
    held = (tmp_path / "claims" / trainings[0].name).read_text()
    os.kill(int(held.split()[1]), 9)
    thread.join(timeout=30)
    assert "trial 1 was ended by SIGKILL; run the command again to go on" in str(raised[0])
    assert read_result(tmp_path / "trials", trainings[0].name) is None
    (tmp_path / trainings[0].name).write_text("")
    assert len(finish_trainings(study, tmp_path, trainings)) == 4


def test_the_work_of_others_is_waited_for(study: Study, tmp_path: Path) -> None:
    trainings = study.search_trainings()
    done = threading.Event()

    def other_machine() -> None:
        with claimed(tmp_path, trainings[0].name):
            done.set()
            time.sleep(2)
            keep(tmp_path / "trials", trainings[0].name, {"valid": {"loss": 5.0}})

    thread = threading.Thread(target=other_machine)
    thread.start()
    assert done.wait(timeout=30)
    found = finish_trainings(study, tmp_path, trainings)
    thread.join()
    assert found[0]["valid"]["loss"] == 5.0 and len(found) == 4
    assert not any(line.startswith(trainings[0].name + " ") for line in begun(tmp_path))


def test_the_commands_name_the_folder_and_the_number(study: Study, tmp_path: Path) -> None:
    trainings = study.search_trainings()
    assert arguments_of(tmp_path, trainings[2]) == ["compare", "--work", str(tmp_path), "--trial", "3"]
