"""What is said of keys that there are not, and whose defaults hold for a section of which one key is set."""

from __future__ import annotations

from typing import Any, Literal

import pytest

from recurra import registry
from recurra.config.load import load_config, parse_assignment
from recurra.config.sections import RunConfig, TokenizerConfig
from recurra.errors import ConfigError


@pytest.mark.parametrize(
    ("task", "assignment", "meant"),
    [
        ("language-model", "hidden_size=3", "model.hidden_size"),
        ("language-model", "max_steps=5", "training.max_steps"),
        ("language-model", "training.lr=1", "training.learning_rate"),
        ("language-model", "model.learning_rate=1", "training.learning_rate"),
        ("language-model", "trainig.lr=1", "training"),
        ("language-model", "learning_rat=1", "training.learning_rate"),
        ("translation", "decoding.beam_size=3", "decoding.beam"),
        ("translation", "training.batch_size=3", "training.batch_tokens"),
        ("translation", "decoding.learning_rate=3", "training.learning_rate"),
    ],
)
def test_the_whole_key_that_was_meant_is_named(task: str, assignment: str, meant: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(None, [{"task": task}, parse_assignment(assignment)])
    key = assignment.partition("=")[0]
    first = key.partition(".")[0] if meant == "training" else key
    assert str(caught.value) == f"configuration: there is no key {first}; did you mean {meant}?"


def test_where_nothing_is_near_all_keys_of_the_section_are_named() -> None:
    with pytest.raises(
        ConfigError, match=r"no key logging\.qqqqq; known are every_steps, tensorboard, picture, progress"
    ):
        load_config(None, [parse_assignment("logging.qqqqq=1")])


class WordConfig(RunConfig):
    task: Literal["words"] = "words"
    tokenizer: TokenizerConfig = TokenizerConfig(kind="word", min_count=3)


@pytest.fixture
def words(monkeypatch: pytest.MonkeyPatch) -> None:
    """A system whose tokens are words by default."""
    model = registry.find("language-model")
    system = registry.System(
        **{**vars(model), "name": "words", "schema": f"{__name__}:WordConfig"},
    )
    known = registry.find
    monkeypatch.setattr(registry, "find", lambda name: system if name == "words" else known(name))
    resolve = registry.resolve
    monkeypatch.setattr(registry, "resolve", lambda place: WordConfig if place == system.schema else resolve(place))


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, ("word", 8000, 3)),
        ({"vocab_size": 6000}, ("word", 6000, 3)),
        ({"kind": "character"}, ("character", 8000, 3)),
    ],
)
def test_a_section_keeps_its_defaults_when_one_key_is_set(
    words: None, given: dict[str, Any], expected: tuple[str, int, int]
) -> None:
    section = load_config(None, [{"task": "words", "tokenizer": given}]).tokenizer
    assert (section.kind, section.vocab_size, section.min_count) == expected


def test_the_best_weights_are_chosen_by_a_measure_of_the_system() -> None:
    chosen = load_config(None, [{"training": {"select_by": "bits_per_character"}}])
    assert chosen.training.select_by == "bits_per_character"
    with pytest.raises(
        ConfigError, match=r"training\.select_by: language-model has no measure bleu; known are loss, perp"
    ):
        load_config(None, [{"training": {"select_by": "bleu"}}])
    with pytest.raises(ConfigError, match="did you mean perplexity"):
        load_config(None, [{"training": {"select_by": "perplexities"}}])
    # It tells something of the data, and no weights can change it.
    with pytest.raises(ConfigError, match="has no measure unknown_rate"):
        load_config(None, [{"training": {"select_by": "unknown_rate"}}])
