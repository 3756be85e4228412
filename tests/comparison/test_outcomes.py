"""Outcomes of single examples: their sums must give what each system's own evaluation says of the same files."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import recurra
from recurra import registry
from recurra.comparison.resampling import ratio, run_values
from recurra.comparison.study_training import evaluated, outcomes_on
from recurra.config.load import load_config
from recurra.errors import ConfigError, DataError
from recurra.training.training_run import train

from ..systems.classification import labelled
from ..systems.tagging import tagged
from ..systems.translation import translations
from .tiny_study import configuration, text_file


def values(name: str, predictor: Any, files: list[str]) -> dict[str, float]:
    """The measures that outcomes give."""
    system = registry.find(name)
    found = {}
    for key, rows in outcomes_on(system, predictor, files).items():
        measure = system.measure(key)
        assert measure is not None
        found[key] = float(run_values(rows, registry.resolve(measure.of_sums) if measure.of_sums else ratio)[0])
    return found


def test_lines_of_a_language_model(tmp_path: Path) -> None:
    train(load_config(overrides=[configuration(tmp_path)]), tmp_path / "run")
    predictor, held = recurra.load(tmp_path / "run", device="cpu"), text_file(tmp_path, "held.txt", 9, 5)
    (tmp_path / "held.txt").write_text("\n" + (tmp_path / "held.txt").read_text() + "\n\npear\n")
    rows = outcomes_on(registry.find("language-model"), predictor, [held])
    lines = [line for line in (tmp_path / "held.txt").read_text().splitlines() if line]
    scores = predictor.score(lines)
    assert len(lines) == 10 and rows["loss"].shape == rows["bits_per_character"].shape == (10, 2)
    assert rows["loss"].tolist() == [[-score.log_probability, score.tokens] for score in scores]
    bits = rows["bits_per_character"]
    assert (bits[:, 0] / bits[:, 1]).tolist() == pytest.approx([score.bits_per_character for score in scores])
    # The baseline counts the same tokens and characters.
    name, baseline = registry.resolve(registry.find("language-model").baseline)(predictor, [held])
    assert name.endswith("-gram (Witten-Bell)")
    for key in rows:
        assert np.array_equal(baseline[key][:, 1], rows[key][:, 1])
    assert baseline["bits_per_character"][:, 0] == pytest.approx(baseline["loss"][:, 0] / math.log(2))
    (tmp_path / "empty.txt").write_text("\n \n")
    with pytest.raises(DataError, match="no text to read"):
        outcomes_on(registry.find("language-model"), predictor, [str(tmp_path / "empty.txt")])


@pytest.mark.parametrize("kind", ["single-label", "multi-label", "regression"])
def test_texts_of_a_classifier(tmp_path: Path, kind: str) -> None:
    write = {
        "single-label": labelled.write_texts, "multi-label": labelled.write_several,
        "regression": labelled.write_numbers,
    }[kind]  # fmt: skip
    texts = write(tmp_path, 80)
    train(labelled.config(texts, data={"train": [texts], "kind": kind}, training={"max_epochs": 1}), tmp_path / "run")
    predictor = recurra.load(tmp_path / "run", device="cpu")
    found, expected = values("classification", predictor, [texts]), predictor.evaluate([texts]).verdict.measures
    name = {"single-label": "accuracy", "multi-label": "exact", "regression": "rmse"}[kind]
    assert found == {name: pytest.approx(expected[name])}
    # What the system's evaluation at the command line says, beside other measures.
    told = evaluated(registry.find("classification"), predictor, [texts])
    assert told[name] == pytest.approx(expected[name]) and len(told) > 2
    baseline = registry.resolve(registry.find("classification").baseline)(predictor, [texts])
    if kind == "single-label":
        labels = [line.split("\t")[0] for line in Path(texts).read_text().splitlines()]
        (label, count), *_ = Counter(labels).most_common(1)
        assert baseline[0] == f"most frequent label ({label})" and baseline[1]["accuracy"].sum() == count
    elif kind == "regression":
        assert baseline[1]["rmse"].shape == (80, 2)
    else:
        assert baseline is None


def test_sentences_of_a_tagger(tmp_path: Path) -> None:
    words = tagged.write_columns(tmp_path, 40)
    data = {"train": [words], "words": "1", "tags": ["2", "3"], "scheme": "bio", "span_columns": ["3"]}
    train(tagged.config(words, data=data, training={"max_epochs": 1}), tmp_path / "run")
    predictor = recurra.load(tmp_path / "run", device="cpu")
    # Another word is one that training did not see.
    other = tmp_path / "other.bio"
    other.write_text(Path(words).read_text().replace("dog", "bird").replace("apple", "fig"))
    found, expected = values("tagging", predictor, [str(other)]), predictor.evaluate([str(other)])
    for name, of in (("accuracy", "all"), ("unknown_accuracy", "unknown")):
        counts = [getattr(column, of) for column in expected.values()]
        share = sum(each.correct for each in counts) / sum(each.total for each in counts)
        assert found[name] == pytest.approx(share)
    assert found["span_f1"] == pytest.approx(expected["3"].spans.all.f1) and len(found) == 3
    rows = outcomes_on(registry.find("tagging"), predictor, [str(other)])
    assert {name: len(each) for name, each in rows.items()} == dict.fromkeys(found, 40)


def test_pairs_of_a_translation_system(tmp_path: Path) -> None:
    files = translations.write_pairs(tmp_path)
    train(translations.config(files, training={"max_epochs": 1, "translate_valid": 0}), tmp_path / "run")
    predictor = recurra.load(tmp_path / "run", device="cpu")
    pair = [files["valid_source"], files["valid_target"]]
    found, expected = values("translation", predictor, pair), predictor.evaluate(*pair)
    assert found == {"loss": pytest.approx(expected["loss"]), "bleu": pytest.approx(expected["bleu"])}
    together = tmp_path / "pairs.tsv"
    sides = [Path(name).read_text().splitlines() for name in pair]
    together.write_text("".join(f"{one}\t{other}\n" for one, other in zip(*sides, strict=True)))
    assert values("translation", predictor, [str(together)]) == found
    with pytest.raises(ConfigError, match="translation takes one file of pairs"):
        outcomes_on(registry.find("translation"), predictor, [*pair, *pair])
