"""Settings under which the made-up translation tasks are learnt in seconds on one core."""

from __future__ import annotations

from typing import Any

__all__ = ["toy_settings"]


def toy_settings(kind: str) -> dict[str, Any]:
    """What `recurra train translation --toy KIND` sets, as nested sections; everything else has its default.

    A small model: the task needs an attention that points to one place, and a state that knows how far it has come.
    """
    return {
        "task": "translation",
        "data": {"toy": kind},
        "tokenizer": {"kind": "word"},
        "model": {"embedding_size": 64, "hidden_size": 64},
        "training": {
            "max_epochs": None,
            "max_steps": 800,
            "evaluate_every": 200,
            "batch_tokens": 1024,
            "learning_rate": 0.005,
            "label_smoothing": 0.0,
            "select_by": "exact",
            "samples": 1,
        },
        "decoding": {"beam": 1},
    }
