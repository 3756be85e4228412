"""A stream writes what the whole recording says, however it is cut into pieces."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

pytest.importorskip("soundfile")
pytest.importorskip("kaldi_native_fbank")

from typer.testing import CliRunner

import recurra
from recurra.cli.main import app
from recurra.errors import ConfigError
from recurra.systems.recognition.answers import Hypothesis
from recurra.systems.recognition.predict import SpeechRecogniser
from recurra.systems.recognition.searching import Search
from recurra.systems.recognition.streaming import Heard, SpeechStream
from recurra.training.training_run import train

from ...data.speech import write_wav
from .tones import RATE, config, sung, texts, write_utterances

KINDS: dict[str, dict[str, Any]] = {
    "forward": {"direction": "forward"},
    "forward-convolution": {
        "direction": "forward",
        "subsampling": "convolution",
        "convolution_size": 16,
        "num_layers": 2,
        "cell": "gru",
        "residual": "residual",
    },
    "latency-controlled": {"direction": "latency-controlled", "chunk": 6, "look_ahead": 4, "num_layers": 2},
    "transducer": {"direction": "forward", "output": "transducer", "predictor_size": 16, "joint_size": 32},
}


@pytest.fixture(scope="module", params=KINDS)
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp(request.param)
    path = write_utterances(folder, texts(120))
    # A transducer has to learn when to write, and then what.
    epochs = 24 if request.param == "transducer" else 12
    train(config(path, model=KINDS[request.param], training={"max_epochs": epochs}), folder / "run")
    return folder / "run"


def streamed(
    model: SpeechRecogniser, samples: npt.NDArray[np.float32], piece: int, search: Search | None = None
) -> tuple[list[Heard], Hypothesis]:
    stream = SpeechStream(model, search)
    heard = [stream.accept(samples[start : start + piece]) for start in range(0, len(samples), piece)]
    last, found = stream.finish()
    assert stream.seconds == pytest.approx(len(samples) / RATE)
    return [*heard, last], found


def recording(text: str, seed: int) -> npt.NDArray[np.float32]:
    return (np.rint(sung(text, seed) * 32768) / 32768).astype(np.float32)


@pytest.mark.parametrize("kind", ["greedy", "beam"])
@pytest.mark.parametrize("piece", [1, 37, 160, 1000, 10**6])
def test_every_cut_gives_the_text_of_the_whole(run: Path, tmp_path: Path, kind: str, piece: int) -> None:
    model = recurra.load(run, device="cpu")
    settings = model.config.decoding.model_copy(update={"search": kind, "beam": 4})
    search = Search(settings)
    for seed, text in enumerate(["abc cb", "a", "cc ba"] if piece > 1 else ["ab"]):
        samples = recording(text, 300 + seed)
        path = write_wav(tmp_path / f"{seed}.wav", samples, RATE)
        (answer,) = model.transcribe(path, search)
        heard, found = streamed(model, samples, piece, search)
        assert found.text == answer.text
        assert "".join(each.settled for each in heard) == found.text
        assert [(w.text, w.start, w.end) for w in found.words] == [(w.text, w.start, w.end) for w in answer.words]
        assert found.score == pytest.approx(answer.hypotheses[0].score, abs=1e-4)
        # No bit depends on the cut.
        assert streamed(model, samples, 777, search)[1] == found


def test_text_comes_before_the_end(run: Path) -> None:
    model = recurra.load(run, device="cpu")
    heard, found = streamed(model, recording("abc cb ab ca", 400), 200)
    assert any(each.settled for each in heard[: len(heard) // 2]) and len(found.text) > 6
    # A transducer's likeliest label is settled as soon as it is written.
    assert any(each.unsettled for each in heard) == (model.config.model.output == "ctc")


def test_digital_silence_says_nothing(run: Path) -> None:
    model = recurra.load(run, device="cpu")
    for samples in (np.zeros(RATE, np.float32), np.zeros(0, np.float32)):
        heard, found = streamed(model, samples, 500)
        assert found.text == "" and found.log_probability == 0.0
        assert not any(each.settled or each.unsettled for each in heard)


def test_a_sample_that_is_no_number_is_refused(run: Path) -> None:
    stream = SpeechStream(recurra.load(run, device="cpu"))
    with pytest.raises(ValueError, match="no finite number"):
        stream.accept(np.array([0.0, np.nan], np.float32))


def test_a_pipe_is_transcribed(run: Path) -> None:
    samples = recording("cab ba", 501)
    raw = np.rint(samples * 32768).astype("<i2").tobytes()
    model = recurra.load(run, device="cpu")
    expected = streamed(model, samples, 1000)[1].text
    plain = CliRunner().invoke(app, ["transcribe", str(run), "--stream"], input=raw)
    assert plain.exit_code == 0 and plain.stdout == f"{expected}\n"
    lines = (
        CliRunner().invoke(app, ["transcribe", str(run), "--stream", "--json"], input=raw + b"\0").stdout.splitlines()
    )
    rows = [json.loads(line) for line in lines]
    assert rows[-1]["final"] and rows[-1]["text"] == expected and rows[-1]["words"]
    assert all(expected.startswith(row["settled"].rstrip()) for row in rows[:-1])


@pytest.mark.parametrize(
    ("words", "said"),
    [(("a.wav",), "leave out the recordings"), (("--format", "ctm"), "leave out --format")],
)
def test_what_a_stream_cannot_do_is_refused(run: Path, words: tuple[str, ...], said: str) -> None:
    result = CliRunner().invoke(app, ["transcribe", str(run), "--stream", *words])
    assert result.exit_code == 2 and said in " ".join(result.stderr.split())


@pytest.mark.parametrize(
    ("changes", "said"),
    [({}, "reads from the end too"), ({"features": {"normalization": "utterance"}}, "normalises features by whole")],
)
def test_recognisers_that_cannot_stream_say_so(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    model = {"direction": "forward"} if changes else {}
    settings = config(write_utterances(tmp_path, texts(8)), model=model, training={"max_epochs": 1}, **changes)
    train(settings, tmp_path / "run")
    with pytest.raises(ConfigError, match=said):
        SpeechStream(recurra.load(tmp_path / "run", device="cpu"))
