"""Speech at the command line: transcribe and evaluate a small trained run, and what is said of wrong input."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

pytest.importorskip("soundfile")
pytest.importorskip("kaldi_native_fbank")

from recurra.cli.main import app

from ..data.speech import write_wav
from ..systems.recognition.tones import RATE, sections, sung, texts, write_utterances


def asked(*words: object, stdin: bytes | None = None, code: int = 0) -> tuple[str, str]:
    result = CliRunner().invoke(app, [str(word) for word in words], input=stdin)
    assert result.exit_code == code, result.output
    return result.stdout, result.stderr


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was trained by the command, on digits of tones."""
    folder = tmp_path_factory.mktemp("speech")
    data = write_utterances(folder, texts(150))
    settings = [
        f"{section}.{key}={json.dumps(value)}"
        for section, values in sections(data).items()
        for key, value in values.items()
        if section != "data"
    ]
    asked("train", "speech", "--data", data, "--run", folder / "run", "--set", *settings)
    return folder / "run"


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("new")
    write_wav(folder / "one.wav", sung("abc cb", 501), RATE)
    write_wav(folder / "two.wav", sung("ba", 502), RATE)
    return folder


def test_a_line_for_each_recording(run: Path, recordings: Path) -> None:
    one, two = recordings / "one.wav", recordings / "two.wav"
    assert asked("transcribe", run, one, two)[0].splitlines() == [f"{one}\tabc cb", f"{two}\tba"]
    assert asked("transcribe", run, recordings)[0].splitlines() == ["one\tabc cb", "two\tba"]


def test_json_has_words_with_times(run: Path, recordings: Path) -> None:
    (line,) = asked("transcribe", run, recordings / "one.wav", "--n-best", 3, "--json")[0].splitlines()
    found = json.loads(line)
    assert found["text"] == "abc cb" and [word["word"] for word in found["words"]] == ["abc", "cb"]
    assert 0 < found["words"][0]["end"] <= found["words"][1]["start"] < found["seconds"]
    assert found["n_best"][0]["text"] == "abc cb"
    assert len({each["text"] for each in found["n_best"]}) == 3


def test_ctm_and_subtitles(run: Path, recordings: Path) -> None:
    lines = asked("transcribe", run, recordings, "--format", "ctm")[0].splitlines()
    assert [line.split()[0] for line in lines] == ["one", "one", "two"]
    assert re.fullmatch(r"one 1 \d\.\d{3} \d\.\d{3} abc \d\.\d{4}", lines[0])
    subtitles = asked("transcribe", run, recordings / "one.wav", "--format", "srt")[0]
    assert re.match(r"1\n00:00:00,\d{3} --> 00:00:00,\d{3}\nabc cb\n", subtitles)


def test_bad_recordings_are_named_and_the_others_answered(run: Path, recordings: Path, tmp_path: Path) -> None:
    (tmp_path / "empty.wav").write_bytes(b"")
    whole = (recordings / "two.wav").read_bytes()
    (tmp_path / "cut.wav").write_bytes(whole[: len(whole) // 2])
    out, err = asked("transcribe", run, tmp_path / "empty.wav", recordings / "two.wav", tmp_path / "cut.wav", code=1)
    assert out == f"{recordings / 'two.wav'}\tba\n"
    assert "empty.wav: the file is empty" in err.replace("\n", "") and "cut off" in err and "2 of 3 recordings" in err


def test_it_is_evaluated(run: Path, tmp_path: Path) -> None:
    data = write_utterances(tmp_path, ["a b", "cc"], "test", 700)
    lines = (tmp_path / "test.jsonl").read_text().splitlines()
    wrong = {**json.loads(lines[1]), "text": "cb"}
    (tmp_path / "test.jsonl").write_text(f"{lines[0]}\n{json.dumps(wrong)}\n")
    found = json.loads(asked("evaluate", run, "--data", data, "--json")[0])
    # One of three words is wrong, and one of five characters.
    assert found["word_error_rate"] == pytest.approx(1 / 3) and found["character_error_rate"] == pytest.approx(1 / 5)
    assert found["errors"][0]["id"] == "test-1" and found["errors"][0]["answer"] == "cc"
    assert "word error rate" in asked("evaluate", run, "--data", data)[0]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "name recordings"),
        (("a.wav", "--format", "strt"), "did you mean srt"),
        (("a.wav", "--lm-weight", "1"), "--lm-weight is for --language-model"),
        (("a.wav", "--beam", "2", "--n-best", "3"), "raise --beam"),
    ],
)
def test_what_cannot_be_asked_is_refused_in_a_sentence(run: Path, words: tuple[str, ...], said: str) -> None:
    assert said in " ".join(asked("transcribe", run, *words, code=2)[1].split())


def test_a_hotword_and_a_lexicon_change_what_is_heard(run: Path, recordings: Path, tmp_path: Path) -> None:
    lexicon = tmp_path / "words.txt"
    lexicon.write_text("aba\nbc\nca\n")
    out = asked("transcribe", run, recordings / "two.wav", "--lexicon", lexicon)[0]
    assert out.rstrip("\n").split("\t")[1] in ("aba", "ca", "bc", "")
    hotwords = tmp_path / "hot.txt"
    hotwords.write_text("bb\t60\n")
    assert "bb" in asked("transcribe", run, recordings / "two.wav", "--hotwords", hotwords)[0].split("\t")[1].split()
    hotwords.write_text("bx\n")
    assert "has no label for 'x'" in asked("transcribe", run, recordings, "--hotwords", hotwords, code=1)[1]
    hotwords.write_text("ba\tmuch\n")
    assert "is no number above 0" in asked("transcribe", run, recordings, "--hotwords", hotwords, code=1)[1]
