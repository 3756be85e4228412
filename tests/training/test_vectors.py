"""Embeddings that start from word vectors of others."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from recurra.config.sections import TokenizerConfig
from recurra.data.tokenizer import Tokenizer
from recurra.errors import ConfigError, DataError
from recurra.systems.language_model.config import LanguageModelConfig
from recurra.systems.language_model.loading import load_model
from recurra.training.training_run import train
from recurra.training.vectors import start_from_vectors

VECTORS = {"pear": [1.0, 2.0, 3.0, 4.0], "salad": [-1.0, 0.5, 0.25, 8.0], "unheard": [9.0, 9.0, 9.0, 9.0]}
QUIET = {"tensorboard": False, "picture": False, "progress": False}


@pytest.fixture
def vectors(tmp_path: Path) -> Path:
    path = tmp_path / "vectors.txt"
    path.write_text("".join(f"{word} {' '.join(map(str, row))}\n" for word, row in VECTORS.items()))
    return path


def words() -> Tokenizer:
    return Tokenizer.train(["apple pear salad\n"], TokenizerConfig(kind="word"))


def test_words_with_a_vector_have_it_and_others_keep_theirs(vectors: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tokenizer = words()
    embedding = nn.Embedding(tokenizer.vocab_size, 4)
    before = embedding.weight.detach().clone()
    start_from_vectors(embedding, tokenizer, str(vectors), "data.vectors")
    for word, row in list(VECTORS.items())[:2]:
        (token,) = tokenizer.encode(word)
        assert embedding.weight[int(token)].tolist() == row
    (apple,) = tokenizer.encode("apple")
    assert torch.equal(embedding.weight[int(apple)], before[int(apple)])
    assert "has vectors for 2 of" in capsys.readouterr().err


def test_sizes_and_words_must_fit(vectors: Path, tmp_path: Path) -> None:
    tokenizer = words()
    with pytest.raises(
        ConfigError, match=r"data\.vectors: .* have 4 numbers, and the embeddings 5 units; set model\.emb"
    ):
        start_from_vectors(nn.Embedding(tokenizer.vocab_size, 5), tokenizer, str(vectors), "data.vectors")
    (tmp_path / "foreign.txt").write_text("Apfel 1 2 3 4\nBirne 1 2 3 4\n")
    with pytest.raises(DataError, match="has no vector for any token"):
        start_from_vectors(nn.Embedding(tokenizer.vocab_size, 4), tokenizer, str(tmp_path / "foreign.txt"), "x")


def test_a_training_starts_from_them_and_is_resumed_without_the_file(vectors: Path, tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("apple pear salad\n" * 60)

    def settings(steps: int) -> LanguageModelConfig:
        return LanguageModelConfig.model_validate(
            {
                "data": {"train": [str(tmp_path / "text.txt")], "vectors": str(vectors)},
                "tokenizer": {"kind": "word"},
                "model": {"hidden_size": 6, "embedding_size": 4, "num_layers": 1, "tied": False},
                "training": {"batch_size": 2, "sequence_length": 4, "max_steps": steps, "learning_rate": 1e-9},
                "logging": QUIET,
            }
        )

    train(settings(1), tmp_path / "run")
    _, tokenizer, model = load_model(tmp_path / "run")
    (pear,) = tokenizer.encode("pear")
    assert np.allclose(model.embedding.weight[int(pear)].tolist(), VECTORS["pear"], atol=1e-6)
    vectors.unlink()
    assert train(settings(2), tmp_path / "run", resume=True).steps == 2
