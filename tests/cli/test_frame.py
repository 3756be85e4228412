"""What every command promises: exit codes, one sentence an error, nearest names, options with several values."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from typing import Annotated, Any

import pytest
import typer
from typer.testing import CliRunner

from recurra.cli.frame import CommandGroup, ManyValuesCommand
from recurra.cli.main import app
from recurra.errors import ConfigError, DataError

COMMANDS = ["train", "compare", "evaluate", "score", "next", "generate", "inspect", "info", "cells"]


def run(*arguments: str, **options: Any) -> Any:
    return CliRunner().invoke(app, arguments, **options)


def an_app(function: Any) -> typer.Typer:
    """The frame round one command `go` and a second one, so that names are needed."""
    made = typer.Typer(name="recurra", cls=CommandGroup)
    made.command("go", cls=ManyValuesCommand)(function)
    made.command("other")(lambda: None)
    return made


def test_help_names_every_command_and_does_not_import_torch() -> None:
    code = (
        "import sys, recurra.cli.main as m\n"
        "try:\n    m.app(['--help'])\nexcept SystemExit as end:\n    assert end.code == 0, end.code\n"
        "slow = {'torch', 'numpy', 'tokenizers', 'pydantic', 'accelerate', 'matplotlib'} & set(sys.modules)\n"
        "assert not slow, slow"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stderr
    for command in COMMANDS:
        assert f" {command} " in result.stdout


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_has_help_with_its_default(command: str) -> None:
    group = typer.main.get_command(app)
    for parameter in group.get_command(None, command).params:  # type: ignore[attr-defined]
        text = parameter.help or ""
        assert text.strip(), parameter.name
        if parameter.param_type_name == "option" and parameter.name != "help":
            shown = bool(parameter.show_default) and parameter.default is not None
            assert "(default: " in text or "(required)" in text or shown, f"{command} --{parameter.name}"
    result = run(command, "--help")
    assert result.exit_code == 0
    assert result.stderr == ""


def test_no_command_shows_the_help() -> None:
    result = run()
    assert result.exit_code == 0
    assert "Usage: recurra" in result.stdout


def test_version() -> None:
    import recurra

    assert run("--version").stdout == f"recurra {recurra.__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["trian"], "there is no command trian; did you mean train?"),
        (["genrate", "x"], "there is no command genrate; did you mean generate?"),
        (["qqqqqq"], "there is no command qqqqqq; known are train, evaluate,"),
        (["train", "--dta", "x"], "there is no option --dta; did you mean --data?"),
        (["generate", "x", "--temprature", "1"], "there is no option --temprature; did you mean --temperature?"),
        (["train", "langage-model", "--run", "x"], "there is no system langage-model; did you mean language-model?"),
        (["cells", "lsm"], "there is no cell lsm; did you mean lstm?"),
        (["cells", "nowhere.py:Cell"], "nowhere.py: there is no such file"),
        (["train", "--data", "x"], "Missing option '--run'"),
        (["train", "--run", "x"], "Missing option '--data'"),
        (["generate"], "Missing argument 'DIR'"),
        (["generate", "x", "--length", "0"], "--length"),
        (["generate", "x", "--top-p", "0"], "top_p must be above 0"),
        (["generate", "x", "--temperature", "inf"], "--temperature: must be a finite number, not inf."),
        (["generate", "x", "--temperature", "nan"], "--temperature"),
        (["generate", "x", "--seed", str(2**64)], "--seed: must be at most 9,007,199,254,740,992."),
        (["translate", "x", "--max-length", str(10**30)], "--max-length: must be at most 9,007,199,254,740,992."),
        (["next", "x", "text", "--candidates", ","], "--candidates: name at least one word"),
    ],
)
def test_wrong_usage_is_one_sentence_and_exit_code_2(arguments: list[str], said: str) -> None:
    result = run(*arguments)
    assert result.exit_code == 2
    assert result.stdout == ""
    first, advice = result.stderr.splitlines()
    assert first.startswith("recurra: ")
    assert said in first
    assert advice.startswith("Try `recurra")
    assert advice.endswith(" --help`.")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--set", "training.max_step=5"], "there is no key training.max_step; did you mean training.max_steps?"),
        (["--set", "trainig.max_steps=5"], "there is no key trainig; did you mean training?"),
        (["--set", "training.max_steps"], "write it as section.key=value"),
        (["--set", "training.max_steps=many"], "training.max_steps"),
        (["--config", "nowhere.yaml"], "nowhere.yaml: there is no such file."),
    ],
)
def test_a_wrong_configuration_is_wrong_usage(arguments: list[str], said: str, tmp_path: Any) -> None:
    result = run("train", "--data", "x", "--run", str(tmp_path / "run"), *arguments)
    assert result.exit_code == 2
    assert said in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--data", "a", "b", "c", "--one", "1"], (["a", "b", "c"], "1", None)),
        (["--data", "a", "--data", "b"], (["a", "b"], None, None)),
        (["--data=a", "b", "--one=1"], (["a", "b"], "1", None)),
        (["--data", "a", "-", "b"], (["a", "-", "b"], None, None)),
        (["place", "--data", "a", "b"], (["a", "b"], None, "place")),
        (["--one", "1", "place"], ([], "1", "place")),
        (["--data", "a", "--", "--place"], (["a"], None, "--place")),
        (["-5 degrees", "--one", "1"], ([], "1", "-5 degrees")),
        (["--one", "-5 degrees"], ([], "-5 degrees", None)),
        (["--data", "a", "-5 degrees", "-7"], (["a", "-5 degrees", "-7"], None, None)),
    ],
)
def test_a_repeatable_option_takes_values_until_the_next_option(arguments: list[str], expected: Any) -> None:
    seen: list[Any] = []

    def go(
        place: Annotated[str | None, typer.Argument()] = None,
        data: Annotated[list[str] | None, typer.Option()] = None,
        one: Annotated[str | None, typer.Option()] = None,
    ) -> None:
        seen.append((list(data or []), one, place))

    result = CliRunner().invoke(an_app(go), ["go", *arguments])
    assert result.exit_code == 0, result.stderr
    assert seen == [expected]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--data", "a", "b", "place"], (["a", "b"], "place")),
        (["--data", "a", "--data", "place"], (["a"], "place")),
        (["--data", "place"], None),
        (["--data", "a", "b", "--one", "1"], None),
    ],
)
def test_an_argument_may_stand_after_the_values_of_an_option(arguments: list[str], expected: Any) -> None:
    seen: list[Any] = []

    def go(
        place: Annotated[str, typer.Argument()],
        data: Annotated[list[str] | None, typer.Option()] = None,
        one: Annotated[str | None, typer.Option()] = None,
    ) -> None:
        seen.append((list(data or []), place))

    result = CliRunner().invoke(an_app(go), ["go", *arguments])
    assert result.exit_code == (2 if expected is None else 0), result.stderr
    assert seen == ([] if expected is None else [expected])
    assert expected is not None or "Missing argument 'place'" in result.stderr


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (DataError("book.txt: is empty; give text."), 1, "recurra: book.txt: is empty; give text.\n"),
        (ConfigError("model.cell: is wrong."), 2, "recurra: model.cell: is wrong.\n"),
        (KeyboardInterrupt(), 1, "recurra: interrupted.\n"),
        (BrokenPipeError(), 1, ""),
        (ZeroDivisionError("by\nzero"), 1, "recurra: internal error (ZeroDivisionError: by); please report it"),
    ],
)
def test_an_error_is_one_sentence_and_an_exit_code(
    error: BaseException, code: int, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RECURRA_TRACEBACK", raising=False)

    def go() -> None:
        raise error

    result = CliRunner().invoke(an_app(go), ["go"])
    assert result.exit_code == code
    assert result.stdout == ""
    assert result.stderr.startswith(said) if said.endswith("it") else result.stderr == said
    assert "Traceback" not in result.stderr


def test_the_traceback_is_shown_on_request(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECURRA_TRACEBACK", "1")

    def go() -> None:
        raise ZeroDivisionError("here")

    result = CliRunner().invoke(an_app(go), ["go"])
    assert result.exit_code == 1
    assert "Traceback" in result.stderr
    assert "internal error" in result.stderr


def test_a_reader_that_goes_away_is_met_with_silence() -> None:
    code = "import recurra.cli.main as m; m.main()"
    process = subprocess.Popen(
        [sys.executable, "-c", code, "cells", "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    errors = process.stderr.read()
    assert process.wait(timeout=60) == 1
    assert errors == b""


@pytest.mark.check
@pytest.mark.skipif(os.name != "posix", reason="signals")
@pytest.mark.parametrize("wait", [round(0.5 + 0.25 * number, 2) for number in range(12)])
def test_an_interrupt_at_any_moment_of_the_start_ends_without_a_traceback(wait: float) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "recurra", "info"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    try:
        # However early: none that is asked for is lost, and none aborts.
        time.sleep(wait)
        process.send_signal(signal.SIGINT)
        out, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    whole = process.returncode == 0 and b"accelerators" in out
    ended = process.returncode in (-signal.SIGINT, 130) and errors == b""
    assert whole or ended or (process.returncode == 1 and errors == b"recurra: interrupted.\n"), errors


def test_characters_that_the_terminal_lacks_become_escapes() -> None:
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    code = "import recurra.cli.main as m; m.main()"
    result = subprocess.run(
        [sys.executable, "-c", code, "cells", "lstm"], capture_output=True, text=True, timeout=60, env=environment
    )
    assert result.returncode == 0, result.stderr
    assert "\\u03c3" in result.stdout
