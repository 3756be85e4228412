"""The example configurations are the manual: each loads, and together they name every key with a comment."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from pydantic import BaseModel

from recurra import registry
from recurra.config.load import load_config
from recurra.config.sections import LoggingConfig, TrainingConfig
from recurra.systems.classification.config import ClassificationConfig
from recurra.systems.language_model.config import LanguageModelConfig
from recurra.systems.language_model.network import LanguageModel
from recurra.systems.recognition.config import SpeechConfig
from recurra.systems.tagging.config import TaggingConfig
from recurra.systems.translation.config import TranslationConfig

CONFIGS = sorted((Path(__file__).parents[2] / "configs").glob("*.yaml"))
SCHEMAS: dict[str, type[BaseModel]] = {
    "classification": ClassificationConfig,
    "language-model": LanguageModelConfig,
    "speech": SpeechConfig,
    "tagging": TaggingConfig,
    "translation": TranslationConfig,
}


def of_task(task: str) -> list[Path]:
    return [path for path in CONFIGS if path.stem.startswith(task)]


def keys(tree: Mapping[str, Any], above: str = "") -> Iterator[str]:
    for name, value in tree.items():
        if isinstance(value, Mapping):
            yield from keys(value, f"{above}{name}.")
        else:
            yield above + name


def fields(model: type[BaseModel], above: str = "") -> Iterator[str]:
    for name, field in model.model_fields.items():
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            yield from fields(inner, f"{above}{name}.")
        else:
            yield above + name


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_example_loads_and_starts_with_its_command(path: Path) -> None:
    config = load_config(path)
    assert path.stem.startswith(config.task)
    if config.task == "language-model":
        assert config.tokenizer.kind in path.stem
    assert f"recurra train --config configs/{path.name} " in path.read_text(encoding="utf-8")


def test_there_are_as_many_kinds_as_systems() -> None:
    assert set(SCHEMAS) == set(registry.names())
    assert sorted(path for task in registry.names() for path in of_task(task)) == CONFIGS


PUBLISHED = sorted((CONFIGS[0].parent / "published").glob("*.yaml"))


@pytest.mark.parametrize("path", PUBLISHED, ids=lambda path: path.stem)
def test_every_published_network_loads_and_starts_with_its_command(path: Path) -> None:
    load_config(path)
    text = path.read_text(encoding="utf-8")
    assert f"recurra train --config configs/published/{path.name} " in text
    assert "arXiv:" in text


@pytest.mark.parametrize(("size", "parameters"), [("small", 4_651_600), ("medium", 19_775_200)])
def test_the_networks_of_zaremba_have_the_published_numbers_of_parameters(size: str, parameters: int) -> None:
    config = load_config(CONFIGS[0].parent / "published" / f"zaremba-2014-{size}.yaml")
    with torch.device("meta"):
        model = LanguageModel(10_000, config.model)
    # torch.nn's LSTM has a second bias beside each one.
    twice = sum(p.numel() for name, p in model.named_parameters() if "bias_hh" in name)
    assert sum(parameter.numel() for parameter in model.parameters()) - twice == parameters


@pytest.mark.parametrize("task", SCHEMAS)
def test_together_they_name_every_key(task: str) -> None:
    named = {key for path in of_task(task) for key in keys(yaml.safe_load(path.read_text(encoding="utf-8")))}
    assert named == set(fields(SCHEMAS[task]))


@pytest.mark.parametrize("task", SCHEMAS)
def test_every_key_is_explained_once_at_least(task: str) -> None:
    explained = set()
    for path in of_task(task):
        comment_above = False
        for line in path.read_text(encoding="utf-8").splitlines():
            code, _, comment = line.partition("#")
            if code.strip().endswith(":") or ":" not in code:
                comment_above = bool(comment)
                continue
            if comment or comment_above:
                explained.add(code.partition(":")[0].strip())
            comment_above = False
    # What is the same for every system stands in the language model's configurations.
    shared = set() if task == "language-model" else set(fields(TrainingConfig)) | set(fields(LoggingConfig))
    assert {field.rpartition(".")[2] for field in fields(SCHEMAS[task])} - shared <= explained


@pytest.mark.parametrize("task", SCHEMAS)
def test_the_defaults_in_brackets_are_the_defaults(task: str) -> None:
    # Of each section by itself: what depends on another one is null there.
    sections = {name: field.default for name, field in SCHEMAS[task].model_fields.items()}
    default = {name: each.model_dump(mode="json") for name, each in sections.items() if isinstance(each, BaseModel)}
    default |= {name: each for name, each in sections.items() if name not in default}
    checked = 0
    for path in of_task(task):
        section: dict[str, Any] = default
        above = ""
        for line in path.read_text(encoding="utf-8").splitlines():
            code, _, comment = line.partition("#")
            note = comment.strip() or above
            above = comment.strip() if comment and not code.strip() else ""
            if code.strip().endswith(":") and not code.startswith(" "):
                section = default[code.strip()[:-1]]
                continue
            if ":" not in code or not note.startswith("["):
                continue
            stated = note[1 : note.index("]")]
            actual = section[code.partition(":")[0].strip()]
            if isinstance(actual, list):
                assert yaml.safe_load(f"[{stated}]") == actual, f"{path.name}: {line.strip()}"
            else:
                assert yaml.safe_load(stated.replace(",", "")) == actual, f"{path.name}: {line.strip()}"
            checked += 1
    assert checked > 40
