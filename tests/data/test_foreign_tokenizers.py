"""Only what recurra writes is read as a tokenizer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from recurra.config.sections import TokenizerConfig
from recurra.data.tokenizer import Tokenizer
from recurra.errors import RunError

KINDS = ["bpe", "unigram", "character", "word", "whitespace"]
TEXT = "the apple and pear salad\n" * 30

CHANGES: dict[str, dict[str, Any]] = {
    "truncation": {"truncation": {"direction": "Right", "max_length": 1, "strategy": "LongestFirst", "stride": 0}},
    "padding": {
        "padding": {
            "strategy": {"Fixed": 7}, "direction": "Right", "pad_to_multiple_of": None, "pad_id": 0, "pad_type_id": 0,
            "pad_token": "x",
        }
    },
    "pre_tokenizer": {"pre_tokenizer": {"type": "Whitespace"}},
    "no pre_tokenizer": {"pre_tokenizer": None},
    "post_processor": {"post_processor": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": False}},
    "decoder": {"decoder": {"type": "Strip", "content": "a", "start": 9, "stop": 9}},
    "added token": {
        "added_tokens": [
            {"id": 3, "content": "the", "single_word": False, "lstrip": True, "rstrip": True, "normalized": False,
             "special": True}
        ]
    },
    "unknown part": {"anything": 1},
}  # fmt: skip
IN_THE_MODEL: dict[str, dict[str, Any]] = {
    "dropout": {"dropout": 0.9},
    "dropout of everything": {"dropout": 1.5},
    "prefix": {"continuing_subword_prefix": "##"},
    "byte_fallback": {"byte_fallback": True},
    "unk_token": {"unk_token": "apple"},
    "type": {"type": "WordPiece"},
}


@pytest.mark.parametrize("kind", KINDS)
def test_only_what_recurra_writes_is_read(kind: str, tmp_path: Path) -> None:
    tokenizer = Tokenizer.train([TEXT], TokenizerConfig(kind=kind, vocab_size=280))
    path = tmp_path / "tokenizer.json"
    tokenizer.save(path)
    assert Tokenizer.load(path).encode("the pear").tolist() == tokenizer.encode("the pear").tolist()
    tree = json.loads(path.read_text(encoding="utf-8"))
    others = [(name, {**tree, **change}) for name, change in CHANGES.items()]
    others += [(name, {**tree, "model": {**tree["model"], **change}}) for name, change in IN_THE_MODEL.items()]
    for name, other in others:
        path.write_text(json.dumps(other), encoding="utf-8")
        with pytest.raises(RunError, match=r"was not made by recurra|is not a whole tokenizer.json"):
            pytest.fail(f"{name}: {Tokenizer.load(path)}")


@pytest.mark.parametrize("text", ["", "[]", "null", "{}", '{"model": 3}', "[" * 100_000, '{"model": {}, "model": {}}'])
def test_what_is_no_tokenizer_is_said(text: str, tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_text(text)
    with pytest.raises(RunError, match=r"tokenizer.json"):
        Tokenizer.load(path)
