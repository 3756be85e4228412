"""A language model, a lexicon and hotwords beside a recogniser of speech."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("soundfile")
pytest.importorskip("kaldi_native_fbank")

from typer.testing import CliRunner

import recurra
from recurra.cli.main import app
from recurra.errors import ConfigError
from recurra.systems.language_model.config import LanguageModelConfig
from recurra.systems.recognition.fusing import LanguageModel
from recurra.systems.recognition.searching import Search
from recurra.training.training_run import train

from .tones import QUIET, config, texts, write_utterances


def language_model(folder: Path, kind: str = "character") -> Path:
    """A model of lines in which words end in "b"."""
    text = folder / "text.txt"
    text.write_text("ab cb\nb ab\ncab\n" * 60, encoding="utf-8")
    sections = {
        "data": {"train": [str(text)], "valid": [str(text)]},
        "tokenizer": {"kind": kind, "vocab_size": 300},
        "model": {"hidden_size": 12},
        "training": {"max_steps": 60, "batch_size": 4, "sequence_length": 16, "device": "cpu", "num_threads": 1},
        "logging": QUIET,
    }
    train(LanguageModelConfig.model_validate(sections), folder / kind)
    return folder / kind


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs of a recogniser that is half trained, and of a language model."""
    folder = tmp_path_factory.mktemp("fusing")
    train(config(write_utterances(folder, texts(60)), training={"max_epochs": 10}), folder / "run")
    language_model(folder)
    return folder


def test_a_score_is_that_of_both_models(folder: Path) -> None:
    recogniser = recurra.load(folder / "run", device="cpu")
    spoken = recurra.load(folder / "character", device="cpu")
    settings = recogniser.config.decoding.model_copy(update={"beam": 32, "label_bonus": 0.5})
    search = Search(settings, 4, [LanguageModel(str(folder / "character"), recogniser.transcripts).scorer(0.7)])
    (answer,) = recogniser.transcribe(folder / "train" / "3.wav", search)
    for each in answer.hypotheses:
        spoken_score = spoken.score([each.text])[0].log_probability
        expected = each.log_probability + 0.7 * spoken_score + 0.5 * len(each.text)
        assert each.score == pytest.approx(expected, abs=1e-3), each.text
        assert recogniser.score(folder / "train" / "3.wav", each.text, search) >= each.score - 1e-3


def test_what_is_heard_becomes_likelier_to_the_language_model(folder: Path) -> None:
    recogniser = recurra.load(folder / "run", device="cpu")
    spoken = recurra.load(folder / "character", device="cpu")
    model = LanguageModel(str(folder / "character"), recogniser.transcripts)
    settings = recogniser.config.decoding.model_copy(update={"search": "beam", "label_bonus": 1.0})
    paths = sorted((folder / "train").glob("*.wav"))[:10]
    alone, fused = (
        [each.text for each in recogniser.transcribe(paths, Search(settings, 1, scorers))]
        for scorers in ([], [model.scorer(1.0)])
    )
    assert alone != fused
    likelihoods = [sum(score.log_probability for score in spoken.score(side)) for side in (alone, fused)]
    assert likelihoods[1] > likelihoods[0]


def test_weights_are_tried_out(folder: Path) -> None:
    data = write_utterances(folder, ["ab cb", "cab", "b ab"], "valid", 900)
    words = ["evaluate", str(folder / "run"), "--data", data, "--language-model", str(folder / "character")]
    result = CliRunner().invoke(app, [*words, "--tune", "--json"])
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    rates = [each["word_error_rate"] for each in found["tried"]]
    assert len(rates) == 32 and rates == sorted(rates)
    assert found["lm_weight"] == found["tried"][0]["weight"]
    # The best pair, asked for, has the errors that the search for it had.
    chosen = ["--lm-weight", str(found["lm_weight"]), "--label-bonus", str(found["label_bonus"]), "--json"]
    judged = json.loads(CliRunner().invoke(app, [*words, *chosen]).stdout)
    assert judged["word_error_rate"] == pytest.approx(rates[0])
    assert "leave them out" in CliRunner().invoke(app, [*words, "--tune", *chosen]).stderr


def test_tokens_must_be_those_of_the_labels(folder: Path, tmp_path: Path) -> None:
    recogniser = recurra.load(folder / "run", device="cpu")
    with pytest.raises(ConfigError, match="train the recogniser with --from"):
        LanguageModel(str(language_model(tmp_path, "bpe")), recogniser.transcripts)
    with pytest.raises(ConfigError, match="name a language model"):
        LanguageModel(str(folder / "run"), recogniser.transcripts)
