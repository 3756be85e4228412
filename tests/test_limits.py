"""Values beyond what can be counted or computed are refused with their key, and damaged records are passed over."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from recurra.config.load import load_config
from recurra.data.parallel import read_pairs
from recurra.errors import ConfigError, DataError
from recurra.run.metrics import read_metrics
from recurra.strict_json import read_json

LANGUAGE_MODEL = [
    ("training", "seed", 2**64), ("training", "num_threads", 100_000), ("training", "learning_rate", float("inf")),
    ("training", "learning_rate", float("nan")), ("training", "max_minutes", float("inf")),
    ("training", "max_steps", 10**20), ("training", "clip_norm", float("inf")), ("training", "batch_size", 10**12),
    ("training", "sequence_length", 10**12), ("tokenizer", "vocab_size", 10**20), ("model", "num_layers", 100_000_000),
    ("model", "hidden_size", 10**12), ("model", "embedding_size", 10**12), ("model", "init_scale", float("inf")),
    ("logging", "every_steps", 10**20), ("training", "betas", [0.9, 990.0]), ("training", "betas", [-0.1, 0.9]),
]  # fmt: skip
TRANSLATION = [
    ("model", "encoder_layers", 10**8), ("model", "hidden_size", 10**12), ("decoding", "beam", 10**12),
    ("decoding", "length_penalty", float("inf")), ("training", "batch_tokens", 10**20),
]  # fmt: skip


@pytest.mark.parametrize(
    ("task", "section", "key", "value"),
    [("language-model", *each) for each in LANGUAGE_MODEL] + [("translation", *each) for each in TRANSLATION],
)
def test_absurd_sizes_are_refused_with_their_key(task: str, section: str, key: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=f"{section}.*{key}"):
        load_config(None, [{"task": task, section: {key: value}}])


@pytest.mark.parametrize("task", [[1], {"a": 1}, 7, None, True])
def test_a_task_is_a_name(task: Any) -> None:
    with pytest.raises(ConfigError, match="there is no system"):
        load_config(None, [{"task": task}])


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 100_000, '{"a": 1, "a": 2}', '[{"b": {"c": 1, "c": 1}}]'])
def test_json_that_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"nests too deeply|stands twice"):
        read_json(text)


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ('{"source": "a", "target": "b", "source": "c"}', "the key 'source' stands twice"),
        ("[" * 100_000, "it nests too deeply"),
    ],
)
def test_a_line_of_pairs_is_named(line: str, problem: str, tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    path.write_text('{"source": "a", "target": "b"}\n' + line + "\n")
    with pytest.raises(DataError, match=f"p.jsonl:2: is not one JSON object .{problem}"):
        read_pairs(None, None, str(path))


def test_damaged_lines_of_a_log_are_passed_over(tmp_path: Path) -> None:
    whole = {"step": 1, "epoch": 1, "kind": "valid", "loss": 1.5, "seconds": 2.0}
    damaged = [b"", b"{", b"[1]", b"null", b'"x"', b"\xff\xfe", b'{"kind": "valid"}', b'{"step": "x"}']
    damaged += [b"[" * 100_000, b'{"a": 1, "a": 2}', b"\x00" * 50]
    path = tmp_path / "metrics.jsonl"
    good = json.dumps(whole).encode()
    path.write_bytes(b"\n".join([good, *damaged, good]) + b"\n" + good[:-3])
    assert read_metrics(path) == [whole, whole]
    assert read_metrics(tmp_path / "none") == []
