"""A recogniser of speech is trained, resumed, saved, loaded and asked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("soundfile")
pytest.importorskip("kaldi_native_fbank")

import recurra
from recurra import registry
from recurra.decoding.ctc_alignment import ctc_log_likelihood
from recurra.errors import ConfigError, DataError, RunError
from recurra.run.directory import open_run, read_run
from recurra.run.metrics import read_metrics
from recurra.run.weights import read_weights
from recurra.systems.recognition.data import UtteranceStore
from recurra.systems.recognition.network import Recogniser
from recurra.systems.recognition.predict import SpeechRecogniser
from recurra.systems.recognition.searching import Search
from recurra.systems.recognition.train import prepare_task
from recurra.training.processes import Processes
from recurra.training.training_run import train

from ...data.speech import tone, write_wav
from .tones import RATE, config, sung, texts, write_utterances


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("speech")
    valid = write_utterances(folder, texts(25, seed=2), "valid", seed=1000)
    train(config(write_utterances(folder, texts(150)), data={"valid": [valid]}), folder / "run")
    return folder / "run"


def valid(run: Path) -> list[dict[str, Any]]:
    return [record for record in read_metrics(run / "metrics.jsonl") if record["kind"] == "valid"]


def test_it_learns_and_says_what_and_when(run: Path, tmp_path: Path) -> None:
    assert valid(run)[-1]["word_error_rate"] < 0.1 and valid(run)[-1]["character_error_rate"] < 0.05
    model = recurra.load(run)
    assert isinstance(model, SpeechRecogniser)
    path = write_wav(tmp_path / "new.wav", sung("abc cb", 99), RATE)
    (answer,) = model.transcribe(path)
    assert answer.text == "abc cb" and answer.id == str(path) and answer.seconds == pytest.approx(0.04 * 19)
    # Each letter sounds 80 ms, with 40 ms before it.
    first, second = answer.words
    assert (first.text, second.text) == ("abc", "cb")
    assert first.start == pytest.approx(0.04, abs=0.05) and first.end == pytest.approx(0.36, abs=0.09)
    assert second.start == pytest.approx(0.52, abs=0.06) and second.end <= answer.seconds
    assert all(0.5 < word.confidence <= 1 for word in answer.words)


def test_what_it_says_is_what_was_measured(run: Path) -> None:
    """The best weights have their calibration with them: evaluating the validation data gives the log's numbers."""
    found = recurra.load(run).evaluate(str(run.parent / "valid.jsonl"))
    best = min(valid(run), key=lambda record: record["loss"])
    assert found.loss == pytest.approx(best["loss"], rel=1e-4)
    for name in ("word_error_rate", "character_error_rate", "exact", "calibration_error"):
        assert found.measures[name] == pytest.approx(best[name], rel=1e-4, abs=1e-6), name


def test_an_answer_does_not_depend_on_its_company(run: Path) -> None:
    model = recurra.load(run)
    paths = sorted((run.parent / "valid").glob("*.wav"))
    together = model.transcribe(paths)
    alone = [model.transcribe(path)[0] for path in paths]
    assert [each.text for each in together] == [each.text for each in alone]
    np.testing.assert_allclose(
        [each.hypotheses[0].score for each in together], [each.hypotheses[0].score for each in alone], atol=1e-4
    )


def test_a_given_text_has_the_score_of_the_search(run: Path) -> None:
    model = recurra.load(run)
    path = run.parent / "valid" / "0.wav"
    settings = model.config.decoding.model_copy(update={"search": "beam", "beam": 64, "least_probability": 0.0})
    search = Search(settings.model_copy(update={"label_bonus": 0.25, "most_behind": 1000.0}), 3)
    (answer,) = model.transcribe(path, search)
    assert len(answer.hypotheses) == 3
    for each in answer.hypotheses:
        assert model.score(path, each.text, search) == pytest.approx(each.score, abs=1e-3)
    assert answer.hypotheses[0].score > answer.hypotheses[1].score
    with pytest.raises(DataError, match="no label for 'x'"):
        model.score(path, "axe")


def test_what_is_saved_is_what_was_loaded(run: Path, tmp_path: Path) -> None:
    model = recurra.load(run)
    again = recurra.load(model.save(tmp_path / "saved"))
    path = run.parent / "valid" / "1.wav"
    assert model.transcribe(path) == again.transcribe(path)


@pytest.mark.parametrize("kept", ["features", "samples"])
def test_a_resumed_training_is_the_same(tmp_path: Path, kept: str) -> None:
    path = write_utterances(tmp_path, texts(30))
    changes = {"speeds": [0.9, 1.0, 1.1], "gain_decibels": 3.0, "noise": "pink", "noise_share": 1.0}
    augmentation = {"time_masks": 1, "frequency_masks": 1} | (changes if kept == "samples" else {})
    whole, half = (
        config(path, features={"kept": kept}, augmentation=augmentation, training={"max_epochs": epochs})
        for epochs in (4, 2)
    )
    train(whole, tmp_path / "one")
    train(half, tmp_path / "two")
    train(whole, tmp_path / "two", resume=True)
    one, two = (read_weights(read_run(tmp_path / name)) for name in ("one", "two"))
    assert one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


@pytest.mark.parametrize(
    "model",
    [
        {"num_layers": 2, "residual": "highway", "cell": "gru"},
        {"subsampling": "convolution", "subsampling_factor": 2, "convolution_size": 8, "direction": "forward"},
        {"subsampling_factor": 1, "learn_initial_state": True},
        {"direction": "latency-controlled", "chunk": 3, "look_ahead": 2, "num_layers": 2},
        {"output": "transducer", "predictor_size": 6, "joint_size": 7},
    ],
)
def test_every_parameter_gets_a_gradient(tmp_path: Path, model: dict[str, Any]) -> None:
    settings = config(write_utterances(tmp_path, texts(12)), model=model)
    task = prepare_task(open_run(tmp_path / "run", settings, resume=False), Processes(settings.training))
    batch = next(task.batches.epoch(0))
    task.loss(task.model, batch).objective.backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in task.model.parameters())


def test_the_loss_is_the_likelihood_of_the_texts(tmp_path: Path) -> None:
    settings = config(write_utterances(tmp_path, texts(12)))
    task = prepare_task(open_run(tmp_path / "run", settings, resume=False), Processes(settings.training))
    batch = next(task.batches.epoch(0))
    assert isinstance(task.model, Recogniser)
    values, lengths = task.model.frames(batch.frames, batch.lengths)
    starts = [0, *batch.label_lengths.cumsum(0).tolist()]
    blank = task._transcripts.blank
    nats = [
        -ctc_log_likelihood(values[: lengths[row], row], batch.labels[starts[row] : starts[row + 1]].tolist(), blank)
        for row in range(len(lengths))
    ]
    assert float(task.loss(task.model, batch).reported) == pytest.approx(sum(nats) / starts[-1], rel=1e-5)


def test_empty_texts_are_learnt_and_silence_says_nothing(tmp_path: Path) -> None:
    path = write_utterances(tmp_path, [*texts(12), "", ""])
    train(config(path, training={"max_epochs": 1}), tmp_path / "run")
    weights = read_weights(read_run(tmp_path / "run"))
    assert all(weight.isfinite().all() for weight in weights.values())
    model = recurra.load(tmp_path / "run")
    silent = write_wav(tmp_path / "silent.wav", np.zeros(RATE), RATE)
    short = write_wav(tmp_path / "short.wav", tone(0.003, RATE, 400.0), RATE)
    for path in (silent, short):
        (answer,) = model.transcribe(path)
        assert answer.text == "" and not answer.words and answer.hypotheses[0].log_probability == 0.0


def test_bad_recordings_of_both_parts_are_named_together(tmp_path: Path) -> None:
    train_path = write_utterances(tmp_path, texts(8))
    valid_path = write_utterances(tmp_path, texts(4), "valid")
    (tmp_path / "train" / "3.wav").write_bytes(b"")
    write_wav(tmp_path / "valid" / "2.wav", np.zeros(RATE), RATE)
    write_wav(tmp_path / "valid" / "1.wav", tone(0.001, RATE, 400.0), RATE)
    settings = config(train_path, data={"valid": [valid_path]})
    with pytest.raises(DataError) as caught:
        train(settings, tmp_path / "run")
    said = str(caught.value)
    assert said.startswith("3 of 12 recordings cannot be used") and "train/3.wav" in said
    assert "valid/2.wav" in said and "digital silence" in said and "valid.jsonl:2" in said
    skipping = config(train_path, data={"valid": [valid_path], "skip_bad": True})
    train(
        skipping.model_copy(update={"training": skipping.training.model_copy(update={"max_epochs": 1})}), tmp_path / "b"
    )
    store = UtteranceStore(read_run(tmp_path / "b"))
    assert len(store) == 9 and store.valid.sum() == 2
    assert [each.id for each in store.all()][-2:] == ["valid-0", "valid-3"]


def test_texts_that_do_not_fit_are_named_before_training(tmp_path: Path) -> None:
    path = Path(write_utterances(tmp_path, [*texts(8), "a"]))
    lines = path.read_text().splitlines()
    # 160 ms are 16 frames, and 8 after subsampling; five equal letters need nine with the blanks between them.
    lines[-1] = json.dumps({**json.loads(lines[-1]), "text": "aaaaa"})
    path.write_text("\n".join(lines))
    with pytest.raises(
        DataError, match=r"'train-8' has 8 frames after subsampling, and the text 'aaaaa' needs 9"
    ) as caught:
        train(config(str(path)), tmp_path / "run")
    assert "1 of 9 texts" in str(caught.value) and "train.jsonl:9" in str(caught.value)
    train(config(str(path), data={"skip_bad": True}, training={"max_epochs": 1}), tmp_path / "run")
    assert np.isfinite([each["loss"] for each in valid(tmp_path / "run")]).all()


def test_a_second_start_reads_no_recording(tmp_path: Path) -> None:
    settings = config(write_utterances(tmp_path, texts(10)))
    open_one = open_run(tmp_path / "run", settings, resume=False)
    prepare_task(open_one, Processes(settings.training))
    for recording in (tmp_path / "train").glob("*.wav"):
        recording.unlink()
    task = prepare_task(open_one, Processes(settings.training))
    assert sum(batch.weight for batch in task.batches.epoch(0)) > 0


def test_other_features_than_those_of_the_run_are_refused(run: Path, tmp_path: Path) -> None:
    model = recurra.load(run)
    folder = model.save(tmp_path / "saved")
    text = (folder / "config.yaml").read_text().replace("bins: 16", "bins: 12")
    (folder / "config.yaml").write_text(text)
    with pytest.raises(RunError, match="made with other settings"):
        recurra.load(folder)


@pytest.mark.parametrize(
    ("section", "changes", "said"),
    [
        ("augmentation", {"speeds": [0.9, 1.1]}, "set features.kept=samples"),
        ("features", {"bins": 200}, "too narrow"),
        ("model", {"subsampling": "convolution", "subsampling_factor": 3}, "power of two"),
        ("augmentation", {"noise_decibels": [30, 10]}, "give the lower one first"),
    ],
)
def test_settings_that_do_not_fit_are_refused(section: str, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        config("train.jsonl", **{section: changes})


def test_outcomes_sum_to_the_measures(run: Path) -> None:
    model = recurra.load(run)
    path = str(run.parent / "valid.jsonl")
    outcomes = registry.resolve(registry.find("speech").outcomes)(model, [path])
    measures = model.evaluate(path).measures
    for name in ("word_error_rate", "character_error_rate"):
        sums = outcomes[name].sum(0)
        assert sums[0] / sums[1] == pytest.approx(measures[name])
    assert outcomes["exact"].mean() == pytest.approx(measures["exact"])


def test_two_runs_do_not_answer_together(run: Path) -> None:
    with pytest.raises(ConfigError, match="do not answer together"):
        recurra.load([run, run])
