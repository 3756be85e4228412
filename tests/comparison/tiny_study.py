"""A study of tiny language models, each of which trains within a second."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from recurra.comparison.contestants import Contestant
from recurra.comparison.search import Dimension
from recurra.comparison.study import Study
from recurra.config.load import load_config

SPACE = (Dimension("training.learning_rate", (0.001, 0.05), "log"),)
CONTESTANTS = (Contestant("gru", "gru", {}, 6, 600), Contestant("rnn_tanh", "rnn_tanh", {}, 9, 610))


def text_file(folder: Path, name: str, lines: int, seed: int) -> str:
    choose = random.Random(seed)
    words = [" ".join(choose.choice(["pear", "plum", "fig"]) + " salad" for _ in range(3)) for _ in range(lines)]
    path = folder / name
    path.write_text("".join(f"{each}\n" for each in words), encoding="utf-8")
    return str(path)


def configuration(folder: Path, **training: Any) -> dict[str, Any]:
    """Sections of a language model on texts in the folder."""
    return {
        "task": "language-model",
        "data": {"train": [text_file(folder, "train.txt", 60, 1)], "valid": [text_file(folder, "valid.txt", 20, 2)]},
        "tokenizer": {"kind": "word"},
        "model": {"hidden_size": 6, "num_layers": 1},
        "training": {"max_steps": 3, "batch_size": 2, "sequence_length": 8, "device": "cpu", **training},
    }


def tiny_study(
    folder: Path,
    trials: int = 2,
    seeds: int = 2,
    *,
    contestants: Sequence[Contestant] = CONTESTANTS,
    space: Sequence[Dimension] = SPACE,
    training: Mapping[str, Any] = {},
    **options: Any,
) -> Study:
    config = load_config(overrides=[configuration(folder, **training)]).model_dump(mode="json")
    test = (text_file(folder, "test.txt", 30, 3),)
    return Study(config, tuple(contestants), tuple(space), trials, seeds, test=test, directory=str(folder), **options)
