"""The commands on a translation system: as many lines out as in, whatever comes in."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from recurra.cli.main import app
from recurra.config.load import load_config, save_config
from recurra.systems.translation import commands

WORDS = {"one": "eins", "two": "zwei", "three": "drei", "four": "vier", "five": "fünf"}


def call(*arguments: str | Path, **options: Any) -> Any:
    return CliRunner().invoke(app, [str(argument) for argument in arguments], **options)


def write(path: Path, lines: list[str]) -> Path:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that translates numbers, trained through the command line."""
    folder = tmp_path_factory.mktemp("commands")
    sources = [f"{a} {b}" for a in WORDS for b in WORDS] + list(WORDS)
    targets = [" ".join(WORDS[word] for word in source.split()) for source in sources]
    write(folder / "train.en", sources)
    write(folder / "train.de", targets)
    result = call(
        "train", "translation", "--source", folder / "train.en", "--target", folder / "train.de",
        "--valid-source", folder / "train.en", "--valid-target", folder / "train.de", "--run", folder / "run", "--json",
        "--set", "tokenizer.kind=word", "model.hidden_size=24", "model.embedding_size=24",
        "training.learning_rate=0.02", "training.max_epochs=60", "training.batch_tokens=60",
        "training.evaluate_every=60", "training.device=cpu", "training.num_threads=1", "training.label_smoothing=0",
        "logging.tensorboard=false",
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr
    (folder / "train.json").write_text(result.stdout, encoding="utf-8")
    return folder


def test_training_reports_what_it_measured(folder: Path) -> None:
    result = json.loads((folder / "train.json").read_text(encoding="utf-8"))
    assert result["exact"] == 1.0 and result["length_ratio"] == 1.0 and result["stopped_because"] == "max_epochs"
    assert (folder / "run" / "attention.png").read_bytes().startswith(b"\x89PNG")
    facts = json.loads(call("info", folder / "run", "--json").stdout)
    assert facts["task"] == "translation" and facts["parameters"] > 10_000
    assert "attention additive, decoder stacked" in call("info", folder / "run").stdout


def test_lines_in_are_lines_out(folder: Path) -> None:
    data = "one two\n\n   \nfive\r\nthree \u2028 four".encode()
    result = call("translate", folder / "run", input=data)
    assert result.exit_code == 0, result.stderr
    assert result.stdout == "eins zwei\n\n\nfünf\ndrei vier\n"
    assert result.stderr == ""
    assert call("translate", folder / "run", input=b"").stdout == ""
    broken = call("translate", folder / "run", input=b"one\xff two\ntwo\n")
    assert broken.exit_code == 0 and len(broken.stdout.splitlines()) == 2
    assert "standard input:1: byte 0xff is not UTF-8" in broken.stderr


def test_a_line_that_is_too_long_is_cut_and_said(folder: Path) -> None:
    result = call("translate", folder / "run", "--beam", "1", "--max-length", "5", input="one " * 5000 + "\ntwo\n")
    assert result.exit_code == 0 and len(result.stdout.splitlines()) == 2
    assert "line 1 is longer than 1000 tokens" in result.stderr


def test_json_n_best_and_attention(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "seen" / "here"
    result = call("translate", folder / "run", "--n-best", "2", "--json", "--attention", out, input="one two\n\n")
    first, second = map(json.loads, result.stdout.splitlines())
    assert first["translation"] == "eins zwei" == first["alternatives"][0]["text"] and len(first["alternatives"]) == 2
    assert first["alternatives"][0]["score"] > first["alternatives"][1]["score"]
    assert second["translation"] == "" and second["line"] == 2 and second["alternatives"] == []
    assert (out / "alignments.txt").read_text() == f"{first['alternatives'][0]['alignment']}\n\n"
    told = json.loads((out / "attention-00001.json").read_text(encoding="utf-8"))
    assert told["source"] == ["one", "two", "<eos>"] and told["target"] == ["eins", "zwei", "<eos>"]
    assert all(abs(sum(row) - 1) < 1e-4 for row in told["weights"])
    assert (out / "attention-00001.png").is_file() and not (out / "attention-00002.png").exists()
    lines = call("translate", folder / "run", "--n-best", "2", input="one two\n\n").stdout.splitlines()
    assert [line.split("\t")[0] for line in lines] == ["1", "1", "2"] and lines[0].split("\t")[1] == "eins zwei"


def test_search_options_reach_the_search(folder: Path) -> None:
    def best(*options: str) -> str:
        result = call("translate", folder / "run", *options, input="one two\n")
        assert result.exit_code == 0, result.stderr
        return result.stdout.strip()

    assert "eins" not in best("--ban", "eins", "drei")
    assert "vier" in best("--require", "vier") and best("--prefix", "fünf").startswith("fünf")
    assert len(best("--min-length", "4", "--max-length", "4", "--no-repeat", "1").split()) == 4
    assert best("--sample", "--temperature", "0") == best("--sample", "--top-k", "1") == "eins zwei"
    assert best("--beam", "1", "--require", "vier").split().count("vier") == 1
    assert best("--sample", "--seed", "3") == best("--sample", "--seed", "3")
    assert call("translate", folder / "run", "--beam", "2", "--n-best", "3", input="").exit_code == 2
    assert "zebra: the vocabulary" in call("translate", folder / "run", "--ban", "zebra", input="one\n").stderr


def test_each_line_may_begin_its_own_way(folder: Path) -> None:
    def lines(*options: str, given: str) -> tuple[list[str], str]:
        result = call("translate", folder / "run", *options, input=given)
        assert result.exit_code == 0, result.stderr
        return result.stdout.splitlines(), result.stderr

    found, told = lines("--prefixes", given="one two\tfünf\none two\n\tdrei\none\tzebra\ntwo\tdrei\tvier\n")
    assert found[0] == lines("--prefix", "fünf", given="one two\n")[0][0] and found[0].startswith("fünf")
    assert found[1:4] == ["eins zwei", "", ""] and found[4].startswith("drei vier")
    assert told.count("no translation meets the constraints") == 1 and "line 4:" in told
    both = call("translate", folder / "run", "--prefixes", "--prefix", "eins", input="one\n")
    assert both.exit_code == 2 and "leave out one of them" in both.stderr


def test_the_words_of_a_translation_have_their_log_probabilities(folder: Path, tmp_path: Path) -> None:
    for options in ([], ["--beam", "1"], ["--sample"], ["--prefix", "fünf"], ["--n-best", "3"]):
        result = call("translate", folder / "run", "--json", *options, input="one two\nthree\n")
        for answer in map(json.loads, result.stdout.splitlines()):
            for each in answer["alternatives"]:
                words = each["words"]
                assert " ".join(word["word"] for word in words) == f"{each['text']} <eos>".strip()
                assert sum(word["log_probability"] for word in words) == pytest.approx(each["log_probability"])
    # Scoring the translation reads the same words with the same probabilities.
    (searched,) = map(json.loads, call("translate", folder / "run", "--json", input="one two\n").stdout.splitlines())
    pairs = write(tmp_path / "pairs.tsv", [f"one two\t{searched['translation']}"])
    (scored,) = map(json.loads, call("score", folder / "run", pairs, "--words", "--json").stdout.splitlines())
    assert [word["word"] for word in scored["words"]] == ["eins", "zwei", "<eos>"]
    for one, other in zip(scored["words"], searched["alternatives"][0]["words"], strict=True):
        assert one["log_probability"] == pytest.approx(other["log_probability"], abs=1e-5)
    assert "words" not in json.loads(call("score", folder / "run", pairs, "--json").stdout)
    table = call("score", folder / "run", pairs, "--words").stdout.splitlines()
    assert [row.split()[-1] for row in table[-4:]] == ["word", "eins", "zwei", "<eos>"]


@pytest.mark.parametrize("mode", [("--beam", "1"), ("--beam", "3"), ("--sample",)], ids=str)
def test_constraints_that_no_translation_meets_are_said(folder: Path, mode: tuple[str, ...]) -> None:
    unmet: list[tuple[str, ...]] = [("--no-repeat", "1", "--min-length", "19")]
    if mode != ("--sample",):
        unmet += [("--require", "drei", "--ban", "drei"), ("--require", "drei drei", "--no-repeat", "1")]
    for options in unmet:
        result = call("translate", folder / "run", *mode, *options, input="one two\n\nthree\n")
        assert result.exit_code == 0 and result.stdout == "\n\n\n", result.stderr
        told = result.stderr.splitlines()
        lines = call("translate", folder / "run", *mode, *options, "--json", input="one two\n\nthree\n").stdout
        assert [json.loads(line)["unmet"] for line in lines.splitlines()] == [True, False, True]
        assert len(told) == 2 and "line 1: no translation meets the constraints" in told[0] and "line 3:" in told[1]


def test_every_line_of_a_sample_is_drawn_anew(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("recurra.systems.lines._LINES", 4)
    drawn = call("translate", folder / "run", "--sample", "--temperature", "3", input="one two\n" * 12)
    lines = drawn.stdout.splitlines()
    assert len(lines) == 12 and lines[:4] != lines[4:8] != lines[8:]
    monkeypatch.setattr("recurra.systems.lines._LINES", 5)
    again = call("translate", folder / "run", "--sample", "--temperature", "3", input="one two\n" * 12)
    assert again.stdout == drawn.stdout


def test_a_model_without_attention_has_none_to_show(folder: Path, tmp_path: Path) -> None:
    result = call(
        "train", "translation", "--source", folder / "train.en", "--target", folder / "train.de", "--run",
        tmp_path / "run", "--set", "tokenizer.kind=word", "model.attention=none", "model.hidden_size=8",
        "training.max_steps=2", "training.device=cpu", "logging.tensorboard=false",
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr
    shown = call("translate", tmp_path / "run", "--attention", tmp_path / "seen", input="one\n")
    assert shown.exit_code == 2 and "has no attention to show" in shown.stderr
    plain = call("translate", tmp_path / "run", input="one\n")
    assert plain.exit_code == 0 and len(plain.stdout.splitlines()) == 1


def test_sources_that_are_scored_in_part_are_said(folder: Path, tmp_path: Path) -> None:
    pairs = write(tmp_path / "pairs.tsv", ["one\teins", "one " * 1500 + "\teins"])
    scored = call("score", folder / "run", pairs)
    assert scored.exit_code == 0 and len(scored.stdout.splitlines()) == 3
    told = scored.stderr.splitlines()
    assert len(told) == 1 and "line 2 is longer than 1000 tokens and is scored up to there" in told[0]
    result = call("evaluate", folder / "run", "--data", pairs, "--json", "--beam", "1")
    assert json.loads(result.stdout)["cut"] == 1


def test_score_and_evaluate(folder: Path, tmp_path: Path) -> None:
    pairs = write(tmp_path / "pairs.tsv", ["one two\teins zwei", "one two\tdrei drei"])
    scores = [json.loads(line) for line in call("score", folder / "run", pairs, "--json").stdout.splitlines()]
    assert scores[0]["log_probability"] > -0.5 > scores[1]["log_probability"] and scores[0]["alignment"]
    assert "drei drei" in call("score", folder / "run", pairs).stdout
    piped = call("score", folder / "run", input=pairs.read_text(encoding="utf-8"))
    assert piped.exit_code == 0 and piped.stdout == call("score", folder / "run", pairs).stdout
    files = ("--source", folder / "train.en", "--target", folder / "train.de")
    result = json.loads(call("evaluate", folder / "run", *files, "--json").stdout)
    assert result["exact"] == 1.0 and result["chrf"] == pytest.approx(100.0)
    text = call("evaluate", folder / "run", "--data", pairs, "--beam", "2").stdout
    assert "signature of bleu " in text and "50.00%" in text


def test_pairs_with_an_empty_side_are_passed_over_where_the_run_says_so(folder: Path, tmp_path: Path) -> None:
    pairs = write(tmp_path / "pairs.tsv", ["one\teins", "one\t", "two\tzwei"])
    for command in (("score", folder / "run", pairs), ("evaluate", folder / "run", "--data", pairs)):
        assert "pairs.tsv:2: there is no sentence" in call(*command).stderr
    asked = call(
        "evaluate", folder / "run", "--data", pairs, "--empty-lines", "drop", "--output", tmp_path / "o", "--json"
    )
    assert json.loads(asked.stdout)["dropped"] == 1 and len((tmp_path / "o").read_text().splitlines()) == 3
    refused = call("evaluate", folder / "run", "--data", pairs, "--empty-lines", "drop", "--output", pairs)
    assert refused.exit_code != 0 and "would destroy that; name another file" in refused.stderr
    compared = call(
        "evaluate", folder / "run", "--data", pairs, "--empty-lines", "drop", "--references", "normalized", "--json"
    )
    assert "|norm:nfc+" in json.loads(compared.stdout)["signatures"]["chrf"]
    run = tmp_path / "run"
    shutil.copytree(folder / "run", run)
    settings = load_config(run / "config.yaml", [{"data": {"empty_lines": "drop"}}])
    save_config(settings, run / "config.yaml")
    scores = [json.loads(line) for line in call("score", run, pairs, "--json").stdout.splitlines()]
    assert [each["line"] for each in scores] == [1, 2, 3] and scores[2]["target"] == "zwei"
    assert (
        scores[1]["source"] == "one" and scores[1]["log_probability"] is None and scores[0].keys() == scores[1].keys()
    )
    assert len(call("score", run, pairs).stdout.splitlines()) == len(scores) + 1
    result = json.loads(call("evaluate", run, "--data", pairs, "--json").stdout)
    assert result["pairs"] == 2 and result["dropped"] == 1
    assert "1 with an empty side" in call("evaluate", run, "--data", pairs).stdout


def test_what_is_asked_for_wrongly_is_said(folder: Path, word_run: Path, tmp_path: Path) -> None:
    run, text = folder / "run", folder / "train.en"
    short = write(tmp_path / "short.de", ["eins"])
    toy = ("train", "translation", "--toy", "copy", "--run", tmp_path / "x")
    wrong: list[tuple[tuple[Any, ...], int, str]] = [
        (("train", "translation", "--run", tmp_path / "x"), 2, "Missing options '--source' and '--target'"),
        (("train", "language-model", "--source", text, "--run", tmp_path / "x"), 2, "--source: this is not for"),
        (("train", "translation", "--data", text, text, "--run", tmp_path / "x"), 2, "takes one file of pairs"),
        (("train", "translation", "--toy", "revers", "--run", tmp_path / "x"), 2, "data.toy"),
        (("train", "translation", "--source", text, "--target", short, "--run", tmp_path / "x"), 1, "en:2: this line"),
        (("train", "translatio", "--run", tmp_path / "x"), 2, "did you mean translation"),
        (("translate", tmp_path / "gone"), 1, "no such run directory"),
        (("translate", word_run), 1, "is a run of the task language-model"),
        (("next", run, "one"), 1, "is a run of the task translation"),
        (("score", run, "--text", "one"), 2, "--text: this is not for translation but for language-model"),
        (("score", run), 1, "-:1: has 1 column"),
        (("translate", run, "--temperature", "2"), 2, "--temperature is for drawing"),
        (("translate", run, "--seed", "2"), 2, "--seed is for drawing"),
        (("translate", run, "--sample", "--beam", "2"), 2, "--beam is for searching"),
        (("translate", run, "--sample", "--require", "eins"), 2, "cannot be drawn"),
        (("translate", tmp_path / "gone", "--attention", tmp_path / "kept"), 1, "no such run directory"),
        ((*toy, "--source", text, "--target", text), 2, "no files can be given"),
        ((*toy, "--set", "training.select_by=chrf"), 2, "toys have"),
        (("score", word_run, "--source", text, "--target", text), 2, "for translation"),
        (("evaluate", run, "--source", text, "--target", short, "--data", text), 2, "not both"),
        (("evaluate", word_run), 2, "Missing option '--data'"),
        (("evaluate", word_run, "--beam", "2"), 2, "for translation"),
        (("translate", run, "--attention", text), 2, "cannot be written"),
    ]  # fmt: skip
    for arguments, code, message in wrong:
        result = call(*arguments, input="one\n")
        assert result.exit_code == code, (arguments, result.stderr)
        assert message in result.stderr and "Traceback" not in result.stderr, (arguments, result.stderr)
        assert len([line for line in result.stderr.splitlines() if line.startswith("recurra:")]) == 1


@pytest.mark.skipif(sys.platform == "win32", reason="pipes cannot be asked whether more is there")
def test_a_line_through_a_pipe_is_answered_before_the_next(folder: Path) -> None:
    command = [sys.executable, "-c", "from recurra.cli.main import main; main()", "translate", str(folder / "run")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None and process.stdout is not None
        for source, target in (("one two", "eins zwei"), ("", ""), ("five", "fünf"), ("fo\xff", None)):
            process.stdin.write(source.encode("latin-1") + b"\n")
            process.stdin.flush()
            answer = process.stdout.readline().decode("utf-8")
            assert answer.endswith("\n") and target in (None, answer[:-1])
        process.stdin.write(b"two")
        process.stdin.close()
        assert process.stdout.read() == b"zwei\n"
    assert process.returncode == 0


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["reverse", pytest.param("copy", marks=pytest.mark.check)])
def test_the_toys_are_learnt_and_their_alignment_is_right(tmp_path: Path, kind: str) -> None:
    run = tmp_path / "run"
    result = call("train", "translation", "--toy", kind, "--run", run, "--json", "--set", "training.device=cpu")
    assert result.exit_code == 0, result.stderr
    told = json.loads(result.stdout)
    assert told["exact"] >= 0.99 and told["aligned"] >= 0.9
    assert (run / "attention.png").is_file()
    letters = "q w e r t z u i"
    answer = json.loads(call("translate", run, "--json", input=f"{letters}\n").stdout)["alternatives"][0]
    step = -1 if kind == "reverse" else 1
    assert answer["text"].split() == letters.split()[::step]
    places = range(8)[::step]
    right = sum(f"{source}-{target}" in answer["alignment"].split() for target, source in enumerate(places))
    assert right >= 6


def test_what_standard_streams_refuse_is_one_sentence(folder: Path) -> None:
    command = [sys.executable, "-m", "recurra", "translate", str(folder / "run")]
    code = "from recurra.cli.main import main; main()"
    command[1:3] = ["-c", code]
    if Path("/dev/full").exists():
        with open("/dev/full", "w") as full:
            ended = subprocess.run(command, input=b"one two\n", stdout=full, stderr=subprocess.PIPE, check=False)
        assert ended.returncode == 1
        assert ended.stderr.decode() == "recurra: No space left on device; make room, or write elsewhere.\n"
    for closed, told in ((">&-", b""), ("<&-", b"")):
        shell = ["sh", "-c", f'exec "$@" {closed}', "sh", *command]
        ended = subprocess.run(shell, input=b"one two\n", capture_output=True, check=False)
        assert ended.returncode == 0 and ended.stderr == told, ended.stderr


def test_a_folder_of_attention_holds_that_of_one_text(folder: Path, tmp_path: Path) -> None:
    seen = tmp_path / "seen"
    call("translate", folder / "run", "--attention", seen, input="one\ntwo\nthree\n")
    mine = {"attention-notes.txt", "attention-2024-figure.png", "attention-1.json", "attention-00002.backup.json"}
    for name in mine:
        (seen / name).write_text("mine", encoding="utf-8")
    call("translate", folder / "run", "--attention", seen, input="five\n")
    shown = {"alignments.txt", "attention-00001.json", "attention-00001.png"}
    assert {path.name for path in seen.iterdir()} == shown | mine


def test_evaluation_keeps_the_translations_that_it_measures(folder: Path, tmp_path: Path) -> None:
    files = ("--source", folder / "train.en", "--target", folder / "train.de", "--json")
    told = json.loads(call("evaluate", folder / "run", *files, "--output", tmp_path / "found").stdout)
    lines = (tmp_path / "found").read_text(encoding="utf-8").splitlines()
    assert lines == (folder / "train.de").read_text(encoding="utf-8").splitlines() and told["exact"] == 1.0
    longer = call("evaluate", folder / "run", *files, "--length-penalty", "10", "--output", tmp_path / "longer")
    assert json.loads(longer.stdout)["length_ratio"] > 1.0
    refused = call("evaluate", folder / "run", *files, "--output", tmp_path / "no" / "found")
    assert refused.exit_code == 1 and "cannot be written" in refused.stderr


def test_a_page_shows_what_words_look_at(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page, run = tmp_path / "attention.html", folder / "run"
    result = call("translate", run, "--page", page, input="one two\n\n")
    assert result.exit_code == 0, result.stderr
    data = json.loads(page.read_text(encoding="utf-8").split('id="data">')[1].split("</script>")[0])
    (pair,) = data["pairs"]
    assert pair["line"] == 1 and pair["translation"] == "eins zwei"
    assert pair["source"] == ["one", "two", "<eos>"] and pair["target"] == ["eins", "zwei", "<eos>"]
    config = run / "config.yaml"
    before = config.read_bytes()
    result = call("translate", run, "--page", config, input="one\n")
    assert result.exit_code == 2 and "would destroy" in result.stderr and config.read_bytes() == before
    # Three tokens times three for the first line, and as many for the second.
    monkeypatch.setattr(commands, "MOST_WEIGHTS", 17)
    result = call("translate", run, "--page", page, input="one two\ntwo one\nfive one\n")
    assert len(result.stdout.splitlines()) == 3 and "the page is full: it ends before line 2" in result.stderr
    assert page.read_text(encoding="utf-8").count('"line":') == 1
