"""The files of weights: equal bytes for equal trainings, the mode of other files, and only numbers to compute with."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from recurra import registry
from recurra.config.sections import TokenizerConfig
from recurra.data import tokenizer_subword
from recurra.data.tokenizer import Tokenizer
from recurra.errors import RunError
from recurra.run.checkpoint import save_tensors
from recurra.run.directory import Run
from recurra.run.weights import read_weights
from recurra.systems.language_model.config import LanguageModelConfig
from recurra.training.interrupts import Interrupts

WRITE = """
import sys, torch
from pathlib import Path
from recurra.run.checkpoint import save_tensors
tensors = {f"w{i}": torch.full((i + 1, 3), float(i)) for i in range(5)}
told = {"format": "pt", "step": "3", "zebra": "z", "loss": "0.5", "사과": "배", "a": "1"}
save_tensors(Path(sys.argv[1]), tensors, told)
"""


def test_equal_weights_are_equal_bytes(tmp_path: Path) -> None:
    # Each process has another seed of its hashes, by which the library orders.
    paths = [tmp_path / str(number) for number in range(3)]
    for path in paths:
        subprocess.run([sys.executable, "-c", WRITE, str(path)], check=True)
    assert len({path.read_bytes() for path in paths}) == 1
    found = load_file(paths[0])
    assert {name: tuple(value.shape) for name, value in found.items()} == {f"w{i}": (i + 1, 3) for i in range(5)}
    assert all(torch.equal(value, torch.full_like(value, float(name[1:]))) for name, value in found.items())
    with safe_open(paths[0], "pt") as file:
        told = {"format": "pt", "step": "3", "zebra": "z", "loss": "0.5", "사과": "배", "a": "1"}
        assert file.metadata() == told


@pytest.mark.skipif(os.name != "posix", reason="this system has no modes")
@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_the_mode_is_what_the_umask_leaves(umask: int, mode: int, tmp_path: Path) -> None:
    before = os.umask(umask)
    try:
        save_tensors(tmp_path / "w", {"a": torch.ones(2)})
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "w").stat().st_mode) == mode


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        (torch.tensor([1.0, float("nan")]), "a holds numbers that are not finite"),
        (torch.tensor([1.0, float("-inf")]), "a holds numbers that are not finite"),
        (torch.tensor([1, 2]), "a holds torch.int64, which weights are not"),
        (torch.tensor([True, False]), "a holds torch.bool"),
    ],
)
def test_what_are_no_weights_is_said(value: torch.Tensor, problem: str, tmp_path: Path) -> None:
    save_file({"a": value, "b": torch.ones(2)}, tmp_path / "model.safetensors")
    with pytest.raises(RunError, match=problem):
        read_weights(Run(tmp_path, LanguageModelConfig(), registry.find("language-model")))


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="this system has no terminals that go away")
def test_a_terminal_that_goes_away_stops_as_sigterm_does() -> None:
    told: list[str] = []
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    try:
        with Interrupts(lambda: told.append("once")) as interrupts:
            os.kill(os.getpid(), signal.SIGHUP)
            assert interrupts.requested and told == ["once"]
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_DFL
        # As under nohup.
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        with Interrupts(lambda: told.append("again")) as interrupts:
            os.kill(os.getpid(), signal.SIGHUP)
            assert not interrupts.requested
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("kind", ["bpe", "unigram"])
def test_threads_share_a_tokenizer_whose_memory_is_full(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokenizer_subword, "_MOST_KNOWN", 3)
    text = "the apple and pear salad with a pinch of salt and two red pears\n" * 20
    tokenizer = Tokenizer.train([text], TokenizerConfig(kind=kind, vocab_size=300))
    lines = [f"{word} {number} apples" for number in range(40) for word in ("the", "red", "pear")]
    expected = [tokenizer.encode(line).tolist() for line in lines]
    failed: list[BaseException] = []

    def ask() -> None:
        try:
            for _ in range(8):
                assert [tokenizer.encode(line).tolist() for line in lines] == expected
        except BaseException as error:
            failed.append(error)

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=ask) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(before)
    assert not failed
