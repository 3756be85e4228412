"""A made-up language whose translations are known, and small systems that learn it."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

from recurra import registry
from recurra.run.directory import Run
from recurra.systems.translation.config import TranslationConfig

WORDS = {
    "the": "der", "a": "ein", "red": "rote", "green": "grüne", "apple": "Apfel", "pear": "Birne", "dog": "Hund",
    "cat": "Katze", "sees": "sieht", "eats": "isst", "and": "und", "bird": "Vogel",
}  # fmt: skip
QUIET = {"tensorboard": False, "picture": False, "progress": False, "every_steps": 5}


def sentences(count: int, seed: int) -> tuple[list[str], list[str]]:
    """English sentences, and German words for theirs in the same order."""
    choose = random.Random(seed)
    sources = [" ".join(choose.choices(list(WORDS), k=choose.randint(1, 7))) for _ in range(count)]
    return sources, [" ".join(WORDS[word] for word in source.split()) for source in sources]


def write_pairs(folder: Path, count: int = 150) -> dict[str, str]:
    """Files of training and validation pairs; returns the keys of the `data` section that name them."""
    files = {}
    for name, number, seed in (("", count, 1), ("valid_", 12, 2)):
        for side, lines in zip(("source", "target"), sentences(number, seed), strict=True):
            path = folder / f"{name}{side}.txt"
            path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
            files[name + side] = str(path)
    return files


def config(files: dict[str, str], **sections: dict[str, Any]) -> TranslationConfig:
    base: dict[str, dict[str, Any]] = {
        "data": dict(files),
        "tokenizer": {"kind": "word"},
        "model": {"embedding_size": 16, "hidden_size": 16},
        "training": {"batch_tokens": 60, "max_epochs": 2, "device": "cpu", "learning_rate": 0.01},
        "decoding": {"beam": 3},
        "logging": dict(QUIET),
    }
    for name, values in sections.items():
        base[name] |= values
    return TranslationConfig.model_validate(base)


def opened(settings: TranslationConfig, folder: Path) -> Run:
    """A run of a configuration in a folder, without config.yaml and lock."""
    return Run(folder, settings, registry.find("translation"))
