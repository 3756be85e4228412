"""Trainings that start from what another run has learnt."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
import yaml
from typer.testing import CliRunner

from recurra import registry
from recurra.cli.main import app
from recurra.config.load import load_config
from recurra.errors import ConfigError, RunError
from recurra.run.saving import without_places
from recurra.systems.language_model.config import LanguageModelConfig
from recurra.systems.language_model.loading import load_model as load_language_model
from recurra.systems.translation.data import load_tokenizers
from recurra.systems.translation.loading import load_model
from recurra.training.training_run import train

from ..systems.translation.translations import QUIET, config, write_pairs

STILL = {"max_epochs": None, "max_steps": 1, "learning_rate": 1e-12}
OWN = """
from recurra import Cell, State
from recurra.cells.algebra import sigmoid, tanh

class Leaky(Cell):
    '''Leaky units.'''
    gates = ("n",)
    vectors = ("leak",)

    def step(self, gate, state, weight):
        a = sigmoid(weight.leak)
        return State(h=a * state.h + (1 - a) * tanh(gate.n))
"""


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("base")
    train(config(write_pairs(folder, 60), training={"max_epochs": 3}), folder / "run")
    return folder / "run"


def other_pairs(folder: Path) -> dict[str, str]:
    """Pairs with words that the run before has not seen."""
    for name in ("source", "target"):
        (folder / name).write_text("the red cat eats\nan owl sees\na green pear\nthe dog\n", encoding="utf-8")
    return {name: str(folder / name) for name in ("source", "target")}


def weights(run: Path) -> dict[str, torch.Tensor]:
    return dict(load_model(run)[2].state_dict())


def close(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return all(torch.allclose(first[name], second[name], rtol=0, atol=1e-9) for name in first)


def test_weights_and_tokens_are_the_others(base: Path, tmp_path: Path) -> None:
    files = other_pairs(tmp_path)
    train(config(files, training=STILL | {"start_from": str(base), "seed": 7}), tmp_path / "run")
    assert close(weights(base), weights(tmp_path / "run"))
    assert load_tokenizers(base)[0].tokenizer == load_tokenizers(tmp_path / "run")[0].tokenizer
    train(config(files, training=STILL | {"seed": 7}), tmp_path / "fresh")
    assert load_tokenizers(base)[0].tokenizer != load_tokenizers(tmp_path / "fresh")[0].tokenizer


def test_two_vocabularies_are_taken_over(tmp_path: Path) -> None:
    separate = {"tokenizer": {"kind": "word", "joint": False}, "model": {"tied": "decoder"}}
    train(config(write_pairs(tmp_path, 40), training={"max_epochs": 1}, **separate), tmp_path / "first")
    settings = config(other_pairs(tmp_path), training=STILL | {"start_from": str(tmp_path / "first")}, **separate)
    train(settings, tmp_path / "second")
    before, after = load_tokenizers(tmp_path / "first"), load_tokenizers(tmp_path / "second")
    assert [each.tokenizer for each in before] == [each.tokenizer for each in after]
    assert close(weights(tmp_path / "first"), weights(tmp_path / "second"))


def test_a_language_model_too(tmp_path: Path) -> None:
    for name, text in (("one", "the cat sees the dog\n"), ("two", "an owl sees the dog\n")):
        (tmp_path / name).write_text(text * 40, encoding="utf-8")

    def settings(name: str, **training: object) -> LanguageModelConfig:
        shared = {"batch_size": 2, "sequence_length": 5, "device": "cpu"}
        return LanguageModelConfig.model_validate(
            {"data": {"train": [str(tmp_path / name)]}, "tokenizer": {"kind": "word"}, "model": {"hidden_size": 8},
             "training": shared | training, "logging": QUIET}
        )  # fmt: skip

    train(settings("one", max_epochs=2), tmp_path / "first")
    train(settings("two", start_from=str(tmp_path / "first"), **STILL), tmp_path / "second")
    (_, before, old), (_, after, new) = map(load_language_model, (tmp_path / "first", tmp_path / "second"))
    assert before == after and close(old.state_dict(), new.state_dict())


def test_cut_off_before_its_first_checkpoint_it_starts_from_there_again(base: Path, tmp_path: Path) -> None:
    settings = config(other_pairs(tmp_path), training=STILL | {"start_from": str(base)})
    train(settings, tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "checkpoints")
    for name in ("model.safetensors", "metrics.jsonl"):
        (tmp_path / "run" / name).unlink()
    train(settings, tmp_path / "run", resume=True)
    assert close(weights(base), weights(tmp_path / "run"))


def test_resumed_from_a_checkpoint_it_no_longer_needs_the_other_run(base: Path, tmp_path: Path) -> None:
    shutil.copytree(base, tmp_path / "base")
    start = {"start_from": str(tmp_path / "base"), "max_epochs": 1}
    train(config(other_pairs(tmp_path), training=start), tmp_path / "run")
    before = weights(tmp_path / "run")
    shutil.rmtree(tmp_path / "base")
    longer = config(other_pairs(tmp_path), training=start | {"max_epochs": 3})
    assert train(longer, tmp_path / "run", resume=True).steps == 3
    assert not close(before, weights(tmp_path / "run"))


def test_what_fits_is_taken_and_the_rest_is_said(
    base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = other_pairs(tmp_path)
    start = STILL | {"start_from": str(base)}
    train(config(files, training=start, model={"dropout": 0.5}), tmp_path / "dropped")
    assert close(weights(base), weights(tmp_path / "dropped"))
    capsys.readouterr()
    train(config(files, training=start, model={"hidden_size": 24}), tmp_path / "wider")
    said = capsys.readouterr().err
    assert "taken are tokenizer, embedding, output; left are encoder (of another shape), decoder" in said
    found, before = weights(tmp_path / "wider"), weights(base)
    assert torch.allclose(found["target_embedding.weight"], before["target_embedding.weight"], rtol=0, atol=1e-9)
    train(config(files, training=start, tokenizer={"kind": "character"}), tmp_path / "characters")
    said = capsys.readouterr().err
    assert "taken are encoder, decoder; left are tokenizer (another one is configured), embedding (of other" in said
    found = weights(tmp_path / "characters")
    assert close({name: each for name, each in before.items() if name.startswith("encoder.")}, found)
    with pytest.raises(ConfigError, match=r"training.start_from: no part of .* fits this network \(tokenizer: another"):
        train(
            config(files, training=start, tokenizer={"kind": "character"}, model={"hidden_size": 24}), tmp_path / "run"
        )
    # Neither left anything behind that stands in the way of the next.
    train(config(files, training=start), tmp_path / "run")


def test_what_cannot_be_started_from(base: Path, tmp_path: Path) -> None:
    files = other_pairs(tmp_path)
    with pytest.raises(RunError, match="no such run directory"):
        train(config(files, training={"start_from": str(tmp_path / "none")}), tmp_path / "run")
    assert not (tmp_path / "run").exists()
    settings = LanguageModelConfig.model_validate(
        {"data": {"train": [files["source"]]}, "training": {"start_from": str(base)} | SMALL, "logging": QUIET}
    )
    with pytest.raises(ConfigError, match=r"no part of .* fits this network .*encoder: of another shape"):
        train(settings, tmp_path / "run")
    assert list((tmp_path / "run").iterdir()) == []


SMALL = {"batch_size": 2, "sequence_length": 2, "device": "cpu"}


def test_parts_of_another_system_are_taken(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A language model of the target language becomes the encoder and the embeddings of a translation system."""
    files = write_pairs(tmp_path, 60)
    model = {"cell": "gru", "hidden_size": 16, "num_layers": 1}
    language = LanguageModelConfig.model_validate(
        {"data": {"train": [files["source"]]}, "tokenizer": {"kind": "word"}, "model": model, "logging": QUIET}
        | {"training": SMALL | {"max_epochs": 1}}
    )
    train(language, tmp_path / "language")
    _, words, learnt = load_language_model(tmp_path / "language")
    capsys.readouterr()
    start = STILL | {"start_from": str(tmp_path / "language")}
    one_way = {"bidirectional": False, "tied": "decoder"}
    train(config(files, training=start, model=one_way), tmp_path / "run")
    said = capsys.readouterr().err
    assert (
        "taken are tokenizer, embedding, encoder, output; left are source embedding (it has none), decoder (it" in said
    )
    found = weights(tmp_path / "run")
    assert load_tokenizers(tmp_path / "run")[1].tokenizer == words
    assert close({f"encoder.{name}": each for name, each in learnt.state_dict().items() if "recurrent." in name}, found)
    assert torch.allclose(found["target_embedding.weight"], learnt.embedding.weight, rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", registry.names())
def test_every_weight_of_a_network_is_in_one_part(name: str) -> None:
    system = registry.find(name)
    settings: dict[str, dict[str, dict[str, object]]] = {
        "language-model": {"model": {"tied": False, "learn_initial_state": True}},
        "classification": {"model": {"pooling": "attention", "head_size": 3, "learn_initial_state": True}},
        "tagging": {"model": {"characters": "convolution"}},
        "speech": {"model": {"output": "transducer", "subsampling": "convolution", "subsampling_factor": 4}},
        "translation": {"model": {"tied": "none", "layer_norm": True, "copy_source": True, "coverage": True}},
    }
    model = load_config(None, [{"task": name}, settings[name]]).model
    with torch.device("meta"):
        names = list(registry.resolve(system.build)(model, 7).state_dict())
    for each in names:
        holding = [part.name for part in system.parts if each.startswith(part.prefixes)]
        assert len(holding) == 1, each


def test_the_command_takes_over_the_settings_too(base: Path, tmp_path: Path) -> None:
    files = other_pairs(tmp_path)
    result = CliRunner().invoke(
        app,
        ["train", "translation", "--from", str(base), "--source", files["source"], "--target", files["target"],
         "--run", str(tmp_path / "run"), "--set", "training.max_steps=1", "training.learning_rate=1e-12",
         "training.device=cpu", "model.dropout=0.25"],
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr
    before, after = (yaml.safe_load((run / "config.yaml").read_text()) for run in (base, tmp_path / "run"))
    assert after["training"]["start_from"] == str(base) and after["model"]["dropout"] == 0.25
    assert after["tokenizer"] == before["tokenizer"] and after["decoding"] == before["decoding"]
    assert {**after["model"], "dropout": 0.0} == before["model"]
    assert close(weights(base), weights(tmp_path / "run"))


def test_a_configuration_wins_over_the_other_run_s(base: Path, tmp_path: Path) -> None:
    files = other_pairs(tmp_path)
    text = "task: translation\nmodel: {dropout: 0.45, output_dropout: 0.1}\ndecoding: {beam: 9}\n"
    (tmp_path / "mine.yaml").write_text(text, encoding="utf-8")
    result = CliRunner().invoke(
        app,
        ["train", "--config", str(tmp_path / "mine.yaml"), "--from", str(base), "--source", files["source"], "--target",
         files["target"], "--run", str(tmp_path / "run"), "--set", "training.max_steps=1", "training.device=cpu",
         "model.output_dropout=0.2"],
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr
    before, after = (yaml.safe_load((run / "config.yaml").read_text()) for run in (base, tmp_path / "run"))
    expected = before["model"] | {"dropout": 0.45, "output_dropout": 0.2}
    assert after["model"] == expected and after["decoding"] == before["decoding"] | {"beam": 9}
    assert after["tokenizer"] == before["tokenizer"]


def test_the_command_brings_a_cell_of_ones_own(tmp_path: Path) -> None:
    (tmp_path / "leaky.py").write_text(OWN, encoding="utf-8")
    files = write_pairs(tmp_path, 40)
    first = config(files, training={"max_epochs": 1}, model={"cell": f"{tmp_path / 'leaky.py'}:Leaky"})
    train(first, tmp_path / "first")
    (tmp_path / "leaky.py").unlink()
    result = CliRunner().invoke(
        app,
        ["train", "--from", str(tmp_path / "first"), "--source", files["source"], "--target", files["target"],
         "--run", str(tmp_path / "second"), "--set", "training.max_steps=1", "training.device=cpu"],
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr
    assert (tmp_path / "second" / "leaky.py").read_text(encoding="utf-8") == OWN


def test_the_command_names_what_does_not_go_together(base: Path, tmp_path: Path) -> None:
    run = CliRunner().invoke(app, ["train", "language-model", "--from", str(base), "--data", "x", "--run", "r"])
    assert run.exit_code == 1 and "x: there is no such file" in run.stderr
    run = CliRunner().invoke(app, ["train", "--from", str(base), "--run", str(base), "--resume"])
    assert run.exit_code == 2 and "--from" in run.stderr


def test_where_it_started_from_is_not_told(base: Path) -> None:
    told = without_places(config({}, training={"start_from": "/home/somebody/runs/base"}))
    assert told.training.start_from == "base"
    public = without_places(config({}, training={"start_from": "cook/salads"}))
    assert public.training.start_from == "cook/salads"
    assert without_places(config({})).training.start_from is None
