"""Small labelled texts that a classifier learns within seconds."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

from recurra.systems.classification.config import ClassificationConfig

QUIET = {"progress": False, "tensorboard": False, "picture": False, "every_steps": 1000}
WORDS = {"good": ["fine", "sunny", "sweet"], "bad": ["rotten", "grey", "sour"], "odd": ["square", "blue"]}
THINGS = ["pear", "day", "song", "salad"]


def text_of(label: str, choose: random.Random) -> str:
    middle = ["so", "very", "quite"][: choose.randrange(4)]
    return " ".join(["the", choose.choice(THINGS), "is", *middle, choose.choice(WORDS[label])])


def write_texts(folder: Path, count: int, name: str = "texts.tsv", seed: int = 1) -> str:
    """Lines of label, tab and text."""
    choose = random.Random(seed)
    labels = [choose.choice(list(WORDS)) for _ in range(count)]
    path = folder / name
    path.write_text("".join(f"{label}\t{text_of(label, choose)}\n" for label in labels), encoding="utf-8")
    return str(path)


def write_several(folder: Path, count: int) -> str:
    """Texts with any number of the labels."""
    choose = random.Random(2)
    lines = []
    for _ in range(count):
        labels = [label for label in WORDS if choose.random() < 0.4]
        words = [choose.choice(WORDS[label]) for label in labels]
        lines.append(f"{','.join(labels)}\tthe {choose.choice(THINGS)} {' '.join(words)}\n")
    path = folder / "several.tsv"
    path.write_text("".join(lines), encoding="utf-8")
    return str(path)


def write_numbers(folder: Path, count: int) -> str:
    """Texts with 100 and ten times as many as they have sweet words, less as many as they have sour ones."""
    choose = random.Random(3)
    lines = []
    for _ in range(count):
        words = [choose.choice(["sweet", "sour", "pear"]) for _ in range(choose.randrange(1, 6))]
        lines.append(f"{100 + 10 * (words.count('sweet') - words.count('sour'))}\t{' '.join(words)}\n")
    path = folder / "numbers.tsv"
    path.write_text("".join(lines), encoding="utf-8")
    return str(path)


def config(train: str, **sections: dict[str, Any]) -> ClassificationConfig:
    """A small classifier of words."""
    made: dict[str, dict[str, Any]] = {
        "data": {"train": [train]},
        "tokenizer": {"kind": "word"},
        "model": {"hidden_size": 12, "embedding_size": 8},
        "training": {"max_epochs": 6, "learning_rate": 0.02, "batch_tokens": 100, "device": "cpu", "samples": 1},
        "logging": QUIET,
    }
    for name, section in sections.items():
        made[name] = made.get(name, {}) | section
    return ClassificationConfig.model_validate(made)
