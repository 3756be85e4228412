"""Language models that a tagger reads along: their tokens, their states, and how they travel with it."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

import recurra
from recurra.data.tagged import TaggedReader
from recurra.errors import ConfigError
from recurra.run.directory import read_run
from recurra.run.weights import read_weights
from recurra.systems.language_model.config import LanguageModelConfig
from recurra.systems.tagging import readers
from recurra.systems.tagging.readers import ReaderNetwork, opened_reader, take_weights
from recurra.training.training_run import train

from .tagged import QUIET, config, write_conllu

WORDS = ["the", "é😀", "can", "."]


def language_model(folder: Path, backward: bool = False, **tokenizer: Any) -> Path:
    """A small one of characters, trained for some steps on the sentences of a file."""
    path = write_conllu(folder, 60)
    lines = [" ".join(sentence.words) for sentence in TaggedReader(path, ["upos"])]
    text = folder / "plain.txt"
    text.write_text("".join(f"{line[::-1] if backward else line}\n" for line in lines))
    settings = LanguageModelConfig.model_validate(
        {
            "data": {"train": [str(text)]},
            "tokenizer": {"kind": "character"} | tokenizer,
            "model": {"cell": "gru", "hidden_size": [7, 9], "num_layers": 2},
            "training": {"batch_size": 4, "sequence_length": 16, "max_steps": 5, "device": "cpu"},
            "logging": QUIET,
        }
    )
    name = folder / ("backward" if backward else "forward")
    train(settings, name)
    return name


@pytest.mark.parametrize("backward", [False, True])
def test_a_state_is_that_of_the_language_model_after_the_word(tmp_path: Path, backward: bool) -> None:
    run = language_model(tmp_path, backward)
    reader, opened = opened_reader(str(run), backward)
    network = ReaderNetwork(reader)
    take_weights(network, opened)
    tokens, ends = reader.encode(WORDS)
    found = network(torch.from_numpy(tokens).unsqueeze(1), torch.from_numpy(ends).unsqueeze(1))
    assert found.shape == (4, 1, 9)
    model = recurra.load(run)
    for place in range(4):
        before, word, after = " ".join(WORDS[:place]), WORDS[place], " ".join(WORDS[place + 1 :])
        # What is read up to the end of the word, in the order of reading, behind a line end.
        text = (
            f"{word} {after}"[::-1] if backward and after else word[::-1] if backward else f"{before} {word}".lstrip()
        )
        ids = torch.from_numpy(model.tokenizer.encode(f"\n{text}").astype("int64")).unsqueeze(1)
        with torch.no_grad():
            expected = model.model(ids).raw[-1, 0]
        torch.testing.assert_close(found[place, 0], expected, rtol=1e-5, atol=1e-6)


def test_padding_and_pieces_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reader, opened = opened_reader(str(language_model(tmp_path)), False)
    network = ReaderNetwork(reader)
    take_weights(network, opened)
    (tokens, ends), (short, early) = (map(torch.from_numpy, reader.encode(words)) for words in (WORDS * 5, WORDS))
    table, places = torch.zeros(len(tokens), 2, dtype=torch.int64), torch.zeros(20, 2, dtype=torch.int64)
    table[:, 0], table[: len(short), 1], places[:, 0], places[:4, 1] = tokens, short, ends, early
    together = network(table, places)
    monkeypatch.setattr(readers, "_STEPS", 7)
    alone = network(short.unsqueeze(1), early.unsqueeze(1))
    torch.testing.assert_close(together[:4, 1], alone[:, 0], rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(network(table, places)[:, 0], together[:, 0], rtol=1e-6, atol=1e-7)


def test_it_stays_as_it_is_and_travels_with_the_tagger(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    forward, backward = language_model(tmp_path), language_model(tmp_path / "b", backward=True)
    path = write_conllu(tmp_path, 80, "train.conllu")
    data = {"train": [path], "language_models": [str(forward)], "backward_language_models": [str(backward)]}
    train(config(path, data=data, training={"max_epochs": 2}), tmp_path / "run")
    learnt = read_weights(read_run(forward))
    found = read_weights(read_run(tmp_path / "run"))
    assert torch.equal(found["readers.0.embedding.weight"], learnt["embedding.weight"])
    assert torch.equal(found["readers.0.encoder.weight_hh_l1"], learnt["recurrent.weight_hh_l1"])
    assert not torch.equal(found["readers.1.encoder.weight_hh_l1"], learnt["recurrent.weight_hh_l1"])
    shutil.rmtree(forward)
    shutil.rmtree(backward)
    model = recurra.load(tmp_path / "run")
    again = recurra.load(model.save(tmp_path / "saved"))
    sentences = [["the", "can", "can", "."], ["unheard"]]
    assert model.tag(sentences, marginals=True) == again.tag(sentences, marginals=True)


def test_only_language_models_of_characters(tmp_path: Path) -> None:
    words = language_model(tmp_path, kind="word")
    with pytest.raises(ConfigError, match=r"data.language_models: .* has tokens of the kind word; name a"):
        opened_reader(str(words), False)
    path = write_conllu(tmp_path, 30, "train.conllu")
    train(config(path, training={"max_epochs": 1}), tmp_path / "run")
    with pytest.raises(ConfigError, match=r"data.backward_language_models: .* is a run of tagging with the cell lstm"):
        opened_reader(str(tmp_path / "run"), True)
