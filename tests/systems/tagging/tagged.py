"""Small tagged sentences that a tagger learns within seconds."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

from recurra.systems.tagging.config import TaggingConfig

QUIET = {"progress": False, "tensorboard": False, "picture": False, "every_steps": 1000}
# "can" is a noun after "the" and else a verb, so its tag depends on the word before it.
NOUNS, VERBS, ENDINGS = ["pear", "dog", "salad", "can"], ["eats", "sees", "can"], ["ing", "ed"]


def sentence(choose: random.Random) -> list[tuple[str, str, str]]:
    """Words with their part of speech and whether they name a meal: B-MEAL I-MEAL or O."""
    verb = choose.choice(VERBS) if choose.random() < 0.7 else f"{choose.choice('bcdfg')}o{choose.choice(ENDINGS)}"
    found = [("the", "DET", "O"), (choose.choice(NOUNS), "NOUN", "O"), (verb, "VERB", "O")]
    found += [("apple", "NOUN", "B-MEAL"), ("salad", "NOUN", "I-MEAL")] if choose.random() < 0.5 else []
    return [*found, (".", "PUNCT", "O")]


def sentences(count: int, seed: int = 1) -> list[list[tuple[str, str, str]]]:
    choose = random.Random(seed)
    return [sentence(choose) for _ in range(count)]


def write_conllu(folder: Path, count: int, name: str = "texts.conllu", seed: int = 1) -> str:
    """CoNLL-U with comments, a multiword token and an empty node in each sentence."""
    lines = []
    for number, words in enumerate(sentences(count, seed), start=1):
        lines.append(f"# sent_id = {number}")
        lines.append("1-2\tthe-thing\t_\t_\t_\t_\t_\t_\t_\t_")
        for place, (word, part, meal) in enumerate(words, start=1):
            lines.append(f"{place}\t{word}\t_\t{part}\t{part[0]}\tF={meal}\t{place - 1}\troot\t_\tSpaceAfter=No")
        lines.append(f"{len(words)}.1\tgone\t_\t_\t_\t_\t_\t_\t_\t_")
        lines.append("")
    path = folder / name
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return str(path)


def write_columns(folder: Path, count: int, name: str = "texts.bio") -> str:
    """Lines of word, part of speech and meal."""
    rows = ["\n".join("\t".join(word) for word in words) for words in sentences(count)]
    path = folder / name
    path.write_text("\n\n".join(rows) + "\n", encoding="utf-8")
    return str(path)


def config(train: str, **sections: dict[str, Any]) -> TaggingConfig:
    """A small tagger."""
    made: dict[str, dict[str, Any]] = {
        "data": {"train": [train]},
        "model": {
            "hidden_size": 10, "num_layers": 1, "embedding_size": 8, "character_embedding_size": 6, "character_size": 6,
        },
        "training": {"max_epochs": 6, "learning_rate": 0.03, "batch_tokens": 60, "device": "cpu", "samples": 1},
        "logging": QUIET,
    }  # fmt: skip
    for name, section in sections.items():
        made[name] = made.get(name, {}) | section
    return TaggingConfig.model_validate(made)
