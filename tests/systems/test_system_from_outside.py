"""A system from another package: found by its entry point, trained, resumed, asked, and shown like the others."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

MOOD = Path(__file__).with_name("mood.py")


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an installed package of one module."""
    folder = tmp_path_factory.mktemp("package")
    shutil.copy(MOOD, folder / "mood.py")
    metadata = folder / "mood-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: mood\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text("[recurra.systems]\nmood = mood:SYSTEM\n")
    choose = random.Random(1)
    words = {"good": ["fine", "sunny", "sweet"], "bad": ["rotten", "grey", "sour"]}
    lines = []
    for _ in range(200):
        label = choose.choice(list(words))
        lines.append(f"{label}\tthe {choose.choice(words[label])} {choose.choice(['pear', 'day', 'song'])}\n")
    (folder / "texts.tsv").write_text("".join(lines))
    return folder


def recurra(package: Path, *words: object, stdin: str = "") -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(package), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "recurra", *map(str, words)]
    return subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=300, env=environment)


def test_it_is_short() -> None:
    code = [line for line in MOOD.read_text().splitlines() if line.strip()]
    assert len(code) < 150


@pytest.mark.slow
def test_it_is_trained_and_asked_like_the_others(package: Path, tmp_path: Path) -> None:
    run, data = tmp_path / "run", package / "texts.tsv"
    quiet = ("logging.tensorboard=false", "logging.every_steps=5", "training.learning_rate=0.02", "training.device=cpu")
    first = recurra(package, "train", "mood", "--data", data, "--run", run, "--set", "training.max_epochs=2", *quiet)
    assert first.returncode == 0, first.stderr
    assert "nats per text" in first.stdout and "texts/s" in first.stderr and "% right" in first.stderr
    assert "perplexity" not in first.stdout + first.stderr and "token" not in first.stderr
    more = recurra(package, "train", "--run", run, "--resume", "--json", "--set", "training.max_epochs=4")
    assert more.returncode == 0, more.stderr
    ended = json.loads(more.stdout)
    assert ended["accuracy"] == 1.0 and ended["steps"] % 4 == 0
    told = recurra(package, "evaluate", "--data", data, run)
    assert told.stdout.split() == ["accuracy", "100.0%"]
    answers = recurra(package, "classify", run, stdin="a sour apple\na sunny morning\n")
    assert answers.stdout == "bad\ngood\n"
    facts = json.loads(recurra(package, "info", run, "--json").stdout)
    assert facts["task"] == "mood" and facts["parameters"] > 1000 and facts["best"]["accuracy"] == 1.0
    refused = recurra(package, "evaluate", run, "--beam", "2")
    assert refused.returncode == 2 and "--beam: this is not for mood but for translation" in refused.stderr
    helped = recurra(package, "train", "mood", "--help").stdout
    assert "label, tab and text" in helped and "Sentences to" not in helped


def test_a_broken_one_stands_in_no_other_s_way(package: Path, tmp_path: Path) -> None:
    shutil.copytree(package, tmp_path / "broken")
    (tmp_path / "broken" / "mood.py").write_text("import no_such_module\n")
    ended = recurra(tmp_path / "broken", "cells", "lstm")
    assert ended.returncode == 0 and "lstm" in ended.stdout
    ended = recurra(tmp_path / "broken", "next", tmp_path / "gone", "x")
    assert ended.returncode == 1
    said = ended.stderr.splitlines()
    assert said[0] == "recurra: the system mood is left out: No module named 'no_such_module'" and "gone" in said[1]
    ended = recurra(tmp_path / "broken", "train", "mood", "--run", tmp_path / "run")
    assert ended.returncode == 1 and "Traceback" not in ended.stderr


def test_without_its_package_its_name_is_unknown(tmp_path: Path) -> None:
    ended = recurra(tmp_path, "train", "mood", "--run", tmp_path / "run")
    assert (
        ended.returncode == 2 and "there is no system mood; known are language-model, translation, cl" in ended.stderr
    )
