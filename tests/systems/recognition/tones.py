"""Recordings of tones, a pitch for each letter, that a small network learns to read within seconds."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from recurra.systems.recognition.config import SpeechConfig

from ...data.speech import tone, write_wav

RATE = 4000
PITCHES = {"a": 400.0, "b": 800.0, "c": 1200.0, " ": 0.0}
QUIET = {"progress": False, "tensorboard": False, "picture": False, "every_steps": 1000}


def sung(text: str, seed: int = 0) -> npt.NDArray[np.float64]:
    """A tone of 80 ms for each letter, a short pause after each, a longer one for a space, and a little noise."""
    noise = np.random.default_rng(seed)
    parts = [np.zeros(RATE // 25)]
    for letter in text:
        parts.append(tone(0.08, RATE, PITCHES[letter], 0.3 if letter != " " else 0.0))
        parts.append(np.zeros(RATE // 25))
    samples = np.concatenate(parts)
    return samples + 0.001 * noise.standard_normal(len(samples))


def texts(count: int, seed: int = 1) -> list[str]:
    choose = random.Random(seed)
    return [
        " ".join("".join(choose.choices("abc", k=choose.randrange(1, 4))) for _ in range(choose.randrange(1, 3)))
        for _ in range(count)
    ]


def write_utterances(folder: Path, said: list[str], name: str = "train", seed: int = 0) -> str:
    """A manifest of JSON lines with a recording for each text."""
    lines = []
    for place, text in enumerate(said):
        path = write_wav(folder / name / f"{place}.wav", sung(text, seed + place), RATE)
        lines.append(json.dumps({"id": f"{name}-{place}", "audio": str(path), "text": text}))
    manifest = folder / f"{name}.jsonl"
    manifest.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return str(manifest)


def sections(train: str, **changes: dict[str, Any]) -> dict[str, dict[str, Any]]:
    made: dict[str, dict[str, Any]] = {
        "data": {"train": [train]},
        "features": {"rate": RATE, "bins": 16},
        "augmentation": {"frequency_masks": 0, "time_masks": 0},
        "model": {"hidden_size": 24, "num_layers": 1, "subsampling_factor": 2},
        "training": {
            "max_epochs": 12,
            "learning_rate": 0.01,
            "batch_frames": 1200,
            "device": "cpu",
            "num_threads": 1,
            "schedule": "constant",
        },
        "logging": QUIET,
    }
    return {name: made.get(name, {}) | changes.get(name, {}) for name in made | changes}


def config(train: str, **changes: dict[str, Any]) -> SpeechConfig:
    """A small recogniser of tones."""
    return SpeechConfig.model_validate(sections(train, **changes))
