"""A run of each system that is trained for a moment, for what looks into trained models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from recurra.systems.language_model.config import LanguageModelConfig
from recurra.training.training_run import train

from ..systems.classification import labelled
from ..systems.tagging import tagged
from ..systems.translation import translations

SYSTEMS = ["language-model", "translation", "classification", "tagging"]
LINES = ['He said "the pear (ripe) is mine".', "And the pair of tongs?", ""] * 12


def train_tiny(system: str, folder: Path, **model: Any) -> Path:
    """Train a run of a system, two layers deep, for a few steps."""
    model = {"hidden_size": 7, "num_layers": 2, **model}
    training = {"max_steps": 4, "device": "cpu", "num_threads": 1}
    run = folder / "run"
    if system == "language-model":
        text = folder / "text.txt"
        text.write_text("\n".join(LINES), encoding="utf-8")
        sections: dict[str, Any] = {
            "data": {"train": [str(text)], "valid": [str(text)]},
            "tokenizer": {"kind": "character"},
            "model": model,
            "training": {**training, "batch_size": 4, "sequence_length": 16},
            "logging": labelled.QUIET,
        }
        config: Any = LanguageModelConfig.model_validate(sections)
    elif system == "translation":
        del model["num_layers"]
        layers = {"encoder_layers": 2, "bidirectional": True, "embedding_size": 8}
        config = translations.config(translations.write_pairs(folder, 40), model=layers | model, training=training)
    elif system == "classification":
        path = labelled.write_texts(folder, 40)
        config = labelled.config(path, model={"bidirectional": True, "embedding_size": 8} | model, training=training)
    else:
        path = tagged.write_conllu(folder, 30)
        data = {"tags": ["upos"]}
        config = tagged.config(path, data={"train": [path]} | data, model=model, training=training)
    train(config, run)
    return run
