"""Options of translating and evaluating reach what they are for, and the prompt answers line by line."""

from __future__ import annotations

import io
import json
import math
import os
import select
import shlex
import shutil
import signal
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from typer.testing import CliRunner

from recurra import load
from recurra.cli.main import app
from recurra.run.checkpoint import load_checkpoint, unpack
from recurra.systems.translation.network import EncoderDecoder
from recurra.systems.translation.predict import Translator

WORDS = {"one": "eins", "two": "zwei", "three": "drei", "four": "vier", "five": "fünf"}
LINES = ["one two three", "four", "five one", "two two four five"]
TEXT = "".join(f"{line}\n" for line in LINES)


def call(*arguments: str | Path, text: str | None = None) -> str:
    """What a command writes to standard output."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], input=text)
    assert result.exit_code == 0, result.stderr
    return result.stdout


def answers(*arguments: str | Path) -> list[dict[str, Any]]:
    """The best translation of each line, as JSON tells of it."""
    result = call("translate", *arguments, "--device", "cpu", "--json", text=TEXT)
    told = [json.loads(line) for line in result.splitlines()]
    return [each["alternatives"][0] for each in told]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that has half learnt to translate numbers, trained through the command line, and the pairs it knows."""
    folder = tmp_path_factory.mktemp("prompt")
    sources = [f"{a} {b}" for a in WORDS for b in WORDS] + LINES
    pairs = "".join(f"{source}\t{' '.join(WORDS[word] for word in source.split())}\n" for source in sources)
    (folder / "pairs.tsv").write_text(pairs, encoding="utf-8")
    call(
        "train", "translation", "--data", folder / "pairs.tsv", "--run", folder / "run", "--json", "--set",
        "tokenizer.kind=word", "model.hidden_size=24", "model.embedding_size=24", "training.learning_rate=0.02",
        "training.max_epochs=null", "training.max_steps=40", "training.evaluate_every=10", "training.keep_evaluated=2",
        "training.batch_tokens=60", "training.device=cpu", "training.num_threads=1", "decoding.beam=4",
        "logging.tensorboard=false", "logging.picture=false",
    )  # fmt: skip
    return folder


@pytest.fixture(scope="module")
def averaged(folder: Path) -> Translator:
    """The run with the mean of the weights of its two last evaluations, taken by hand."""
    run = folder / "run"
    states = []
    for step in (30, 40):
        checkpoint = load_checkpoint(run / "checkpoints", (f"evaluated-{step:09}",))
        assert checkpoint is not None
        states.append(unpack(checkpoint.tensors, checkpoint.state)["model"])
    translator = load(run, device="cpu")
    assert isinstance(translator, Translator)
    mean = {name: ((states[0][name].double() + states[1][name].double()) / 2).float() for name in states[0]}
    translator.models[0].load_state_dict(mean)
    return translator


@pytest.fixture
def stepped(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The rows of every single step that a model takes: one for each hypothesis."""
    rows: list[int] = []
    step = EncoderDecoder.step

    def counted(self: EncoderDecoder, tokens: Tensor, state: Any) -> Any:
        if len(tokens) == 1:
            rows.append(tokens.shape[1])
        return step(self, tokens, state)

    monkeypatch.setattr(EncoderDecoder, "step", counted)
    return rows


@pytest.mark.parametrize("mode", [("--beam", "1"), ("--beam", "3"), ("--sample",)], ids=str)
def test_penalties_reach_the_search(folder: Path, mode: tuple[str, ...], tmp_path: Path) -> None:
    """Wu et al. (2016), equation 14: log P / ((5 + length) / 6)^alpha + beta sum_i log min(sum_j w_ij, 1)."""
    for alpha, beta in ((0.0, 0.0), (2.0, 0.0), (0.0, 0.7), (0.5, 1.5)):
        seen = tmp_path / f"{alpha} {beta}"
        penalties = ("--length-penalty", str(alpha), "--coverage-penalty", str(beta))
        found = answers(folder / "run", *mode, *penalties, "--attention", seen)
        for line, answer in enumerate(found, start=1):
            told = json.loads((seen / f"attention-{line:05}.json").read_text(encoding="utf-8"))
            weights = torch.tensor(told["weights"], dtype=torch.float64)
            expected = answer["log_probability"] / ((5 + len(weights)) / 6) ** alpha
            attended = weights.sum(0)
            expected += beta * sum(math.log(min(share, 1.0)) for share in attended.tolist())
            # Weights are told to six digits.
            tolerance = 1e-5 + beta * float((len(weights) * 1e-6 / attended).sum())
            assert answer["score"] == pytest.approx(expected, abs=tolerance) and tolerance < 0.01


def test_penalties_that_are_not_given_are_the_configured_ones(folder: Path) -> None:
    expected = answers(folder / "run", "--length-penalty", "1", "--coverage-penalty", "0")
    assert answers(folder / "run") == expected
    assert [each["score"] for each in expected] == pytest.approx(
        [each["log_probability"] / ((6 + len(each["text"].split())) / 6) for each in expected], rel=1e-9
    )


def test_a_small_top_p_draws_the_likeliest_tokens_alone(folder: Path) -> None:
    hot = ("--sample", "--temperature", "4")
    likeliest = call("translate", folder / "run", "--beam", "1", text=TEXT * 3)
    assert call("translate", folder / "run", *hot, "--top-p", "0.000001", text=TEXT * 3) == likeliest
    free = call("translate", folder / "run", *hot, text=TEXT * 3)
    assert free != likeliest and call("translate", folder / "run", *hot, "--top-p", "1", text=TEXT * 3) == free


def test_seeds_reach_the_draws(folder: Path) -> None:
    drawn = [call("translate", folder / "run", "--sample", "--seed", seed, text=TEXT * 3) for seed in ("1", "2", "1")]
    assert drawn[0] == drawn[2] != drawn[1]


def test_so_many_lines_as_asked_for_are_translated_side_by_side(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows: list[int] = []
    encode = EncoderDecoder.encode

    def counted(self: EncoderDecoder, source: Tensor, lengths: Tensor) -> Any:
        rows.append(source.shape[1])
        return encode(self, source, lengths)

    monkeypatch.setattr(EncoderDecoder, "encode", counted)
    expected = call("translate", folder / "run", text=TEXT)
    for size, sides in (("1", [1, 1, 1, 1]), ("3", [3, 1]), ("9", [4])):
        rows.clear()
        assert call("translate", folder / "run", "--batch-size", size, text=TEXT) == expected
        assert rows == sides


def test_translations_are_those_of_averaged_weights(folder: Path, averaged: Translator) -> None:
    expected = [each.alternatives[0] for each in averaged.translate(LINES)]
    found = answers(folder / "run", "--average", "2")
    assert [each["text"] for each in found] == [each.text for each in expected]
    logs = [each["log_probability"] for each in found]
    assert logs == pytest.approx([each.log_probability for each in expected], abs=1e-5)
    best = answers(folder / "run")
    assert [each["log_probability"] for each in best] != pytest.approx(logs, abs=1e-3)


def test_evaluation_takes_averaged_weights(folder: Path, averaged: Translator) -> None:
    def loss(*options: str) -> float:
        fixed = ("--device", "cpu", "--json", "--beam", "1")
        result = call("evaluate", folder / "run", "--data", folder / "pairs.tsv", *fixed, *options)
        return float(json.loads(result)["loss"])

    expected = averaged.evaluate(pairs=str(folder / "pairs.tsv"), beam=1)["loss"]
    assert loss("--average", "2") == pytest.approx(expected, abs=1e-6)
    assert loss() == loss("--average", "0") != pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize("command", ["evaluate", "translate"])
def test_a_beam_keeps_so_many_hypotheses_of_each_sentence(
    command: str, folder: Path, tmp_path: Path, stepped: list[int]
) -> None:
    pairs = tmp_path / "pairs.tsv"
    pairs.write_text("".join(f"{line}\tdrei vier\n" for line in LINES), encoding="utf-8")
    for options, beam in ((("--beam", "1"), 1), (("--beam", "2"), 2), ((), 4)):
        stepped.clear()
        if command == "evaluate":
            call("evaluate", folder / "run", "--data", pairs, "--json", *options)
        else:
            call("translate", folder / "run", *options, text=TEXT)
        assert max(stepped) == beam * len(LINES)


def test_several_runs_score_and_are_evaluated_together(folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(folder / "run", other)
    translator = load(other, device="cpu")
    with torch.no_grad():
        for parameter in translator.models[0].parameters():
            parameter.mul_(0.8)
    translator.save(other)
    pair = ["one two", "eins zwei"]
    (tmp_path / "pair.tsv").write_text("\t".join(pair) + "\n", encoding="utf-8")
    expected = Translator.from_runs([folder / "run", other], device="cpu").score(pair[:1], pair[1:])[0]
    fixed = ("--with", other, "--device", "cpu", "--json")
    told = json.loads(call("score", folder / "run", tmp_path / "pair.tsv", *fixed))
    assert told["log_probability"] == pytest.approx(expected.log_probability, abs=1e-6)
    result = json.loads(call("evaluate", folder / "run", "--data", tmp_path / "pair.tsv", *fixed))
    assert result["loss"] == pytest.approx(-expected.log_probability / expected.tokens, abs=1e-6)
    alone = json.loads(call("score", folder / "run", tmp_path / "pair.tsv", "--device", "cpu", "--json"))
    assert alone["log_probability"] != pytest.approx(expected.log_probability, abs=1e-4)


class Screen(io.StringIO):
    """Standard output that types the next line into a terminal once an answer stands there, and Ctrl-D at the end."""

    def __init__(self, terminal: int, lines: list[str]) -> None:
        super().__init__()
        self._terminal = terminal
        self._lines = iter(lines)
        self._type()

    def _type(self) -> None:
        os.write(self._terminal, next(self._lines, "\x04").encode())

    def write(self, text: str) -> int:
        count = super().write(text)
        for _ in range(text.count("\n")):
            self._type()
        return count


def at_a_terminal(lines: list[str], *arguments: str | Path) -> str:
    """What a command answers to somebody who types each line only after the answer to the one before."""
    if not hasattr(os, "openpty"):
        pytest.skip("there are no pseudo-terminals here")
    terminal, keyboard = os.openpty()
    given_up: list[bool] = []

    def give_up() -> None:
        given_up.append(True)
        os.write(terminal, b"\x04")

    patience = threading.Timer(120.0, give_up)
    patience.start()
    try:
        with os.fdopen(keyboard, encoding="utf-8") as stdin, pytest.MonkeyPatch.context() as patch:
            screen = Screen(terminal, lines)
            patch.setattr(sys, "stdin", stdin)
            patch.setattr(sys, "stdout", screen)
            with pytest.raises(SystemExit) as ended:
                app([str(argument) for argument in arguments])
    finally:
        patience.cancel()
        patience.join()
        os.close(terminal)
    assert ended.value.code == 0 and not given_up, "an answer was waited for in vain"
    return screen.getvalue()


def test_the_prompt_answers_each_line_before_the_next_is_typed(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    expected = call("translate", folder / "run", text=f"{TEXT}\n")
    assert at_a_terminal([*(f"{line}\n" for line in LINES), "\n"], "translate", folder / "run") == expected
    told = capsys.readouterr().err
    assert "Type a sentence" in told and "Ctrl-D" in told and len(told.splitlines()) == 1


def test_lines_at_the_prompt_are_counted(folder: Path) -> None:
    drawing = ("translate", folder / "run", "--json", "--sample", "--temperature", "4")
    shown, file = at_a_terminal(["one two\n"] * 6, *drawing), call(*drawing, text="one two\n" * 6)
    told, expected = ([json.loads(line) for line in text.splitlines()] for text in (shown, file))
    assert [each["line"] for each in told] == [1, 2, 3, 4, 5, 6]
    # Each is drawn anew, as the lines of a file are.
    drawn = [each["translation"] for each in told]
    assert len(set(drawn)) > 1 and drawn == [each["translation"] for each in expected]


def test_a_file_has_no_prompt(folder: Path) -> None:
    result = CliRunner().invoke(app, ["translate", str(folder / "run")], input=TEXT)
    assert result.stderr == "" and len(result.stdout.splitlines()) == len(LINES)


def in_a_terminal(command: list[str], typed: list[bytes], expected: bytes, redirected: str = "") -> bytes:
    """What a process shows in a terminal of its own, where each line is typed after one more `expected` is there."""
    pty = pytest.importorskip("pty")
    shell = ["sh", "-c", f'exec "$@" {redirected}', "sh", *command]
    try:
        child, terminal = pty.fork()
    except OSError:
        pytest.skip("there are no terminals to be had here")
    if child == 0:
        os.execvpe("sh", shell, {**os.environ, "TERM": "xterm", "OMP_NUM_THREADS": "1", "INPUTRC": os.devnull})
    shown, ended, until = b"", 0, time.monotonic() + 120
    try:
        for count, keys in enumerate(typed):
            while shown.count(expected) < count:
                assert select.select([terminal], [], [], max(until - time.monotonic(), 0))[0], shown
                shown += os.read(terminal, 4096)
            os.write(terminal, keys)
        while not ended and time.monotonic() < until:
            # Until the next line is asked for, the key for the end does nothing; of a process that has ended, EIO.
            with suppress(OSError):
                if typed:
                    os.write(terminal, b"\x04")
                while select.select([terminal], [], [], 0.1)[0] and (more := os.read(terminal, 4096)):
                    shown += more
            ended, status = os.waitpid(child, os.WNOHANG)
        assert ended and os.waitstatus_to_exitcode(status) == 0, shown
    finally:
        if not ended:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
        os.close(terminal)
    return shown


def program(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-c", "from recurra.cli.main import main; main()", *map(str, arguments)]


def test_the_prompt_has_keys_for_earlier_lines(folder: Path) -> None:
    pytest.importorskip("readline")
    expected = call("translate", folder / "run", text="one two three\n").strip().encode()
    # The second line is the key for the line before, as a terminal sends it.
    shown = in_a_terminal(program("translate", folder / "run"), [b"one two three\n", b"\x1b[A\n"], expected)
    assert shown.count(expected) == 2


@pytest.mark.parametrize("command", ["translate", "evaluate", "score"])
def test_a_bar_on_the_screen_leaves_the_answers_to_their_file(command: str, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "in").write_text(TEXT, encoding="utf-8")
    asked = [folder / "run"] if command != "evaluate" else [folder / "run", "--data", folder / "pairs.tsv"]
    if command == "score":
        asked.append(folder / "pairs.tsv")
    expected = call(command, *asked, "--json", text=TEXT)
    arguments = program(command, *asked, "--json")
    shown = in_a_terminal(
        arguments, [], b"", f"< {shlex.quote(str(tmp_path / 'in'))} > {shlex.quote(str(tmp_path / 'out'))}"
    )
    found = (tmp_path / "out").read_text(encoding="utf-8")
    assert [json.loads(line).keys() for line in found.splitlines()] == [
        json.loads(line).keys() for line in expected.splitlines()
    ]
    assert b"{" not in shown
