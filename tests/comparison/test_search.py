"""What trials draw: from the seed and the number alone, the same for everyone, within the space."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recurra.comparison.search import Dimension, default_space, draw, read_space
from recurra.config.load import load_config
from recurra.errors import ConfigError

RATE = Dimension.of("training.learning_rate", [1e-4, 1e-1, "log"])
DROPOUT = Dimension.of("model.dropout", [0.0, 0.5, "linear"])
SIZE = Dimension.of("training.batch_size", [8, 64, "log"])
KIND = Dimension.of("training.optimizer", ["adamw", "sgd", "choice"])
SPACE = [RATE, DROPOUT, SIZE, KIND]


def test_draws_depend_on_seed_and_number_alone() -> None:
    first = [draw(SPACE, 7, trial) for trial in range(50)]
    # In another order, and with other keys beside them.
    assert [draw(SPACE[::-1], 7, trial) for trial in range(49, -1, -1)] == first[::-1]
    assert [draw([DROPOUT], 7, trial)["model.dropout"] for trial in range(50)] == [d["model.dropout"] for d in first]
    assert draw(SPACE, 8, 0) != first[0]


def test_trials_and_keys_draw_apart() -> None:
    rates = [draw(SPACE, 1, trial)["training.learning_rate"] for trial in range(200)]
    assert len(set(rates)) > 190
    # Neither neighbouring numbers and seeds nor two keys go together.
    logs = np.log(rates)
    others = np.log([draw(SPACE, 2, trial)["training.learning_rate"] for trial in range(200)])
    drops = [draw(SPACE, 1, trial)["model.dropout"] for trial in range(200)]
    for one, other in ((logs[:-1], logs[1:]), (logs, others), (logs, drops)):
        assert abs(np.corrcoef(one, other)[0, 1]) < 4 / math.sqrt(200)


def test_draws_fill_their_ranges_evenly() -> None:
    found = [draw(SPACE, 3, trial) for trial in range(2000)]
    rates, drops, sizes = (np.array([each[d.key] for each in found]) for d in (RATE, DROPOUT, SIZE))
    assert rates.min() >= 1e-4 and rates.max() <= 1e-1 and drops.min() >= 0 and drops.max() <= 0.5
    # Each third of the logarithm has a third of the draws, within four deviations.
    margin = 4 * math.sqrt(2000 * 2 / 9)
    assert abs(((rates > 1e-3) & (rates < 1e-2)).sum() - 2000 / 3) < margin
    assert abs((drops < 0.5 / 3).sum() - 2000 / 3) < margin
    assert set(sizes) == set(range(8, 65)) and all(type(each["training.batch_size"]) is int for each in found)
    assert (sizes < 16).sum() > (sizes > 56).sum() * 2
    assert {each["training.optimizer"] for each in found} == {"adamw", "sgd"}


@pytest.mark.parametrize("dimension", SPACE)
def test_the_ends_are_within(dimension: Dimension) -> None:
    assert dimension.at(0.0) == dimension.values[0]
    assert dimension.at(1 - 2**-53) == dimension.values[-1]


def test_the_default_space_has_what_the_system_has() -> None:
    found = default_space(load_config(overrides=[{"task": "tagging", "model": {"num_layers": 1}}]))
    assert [each.key for each in found] == ["training.learning_rate", "model.input_dropout", "model.output_dropout"]
    assert found[0].values == (2e-3 / 8, 2e-3 * 8)
    keys = [each.key for each in default_space(load_config(overrides=[{"model": {"num_layers": 2}}]))]
    assert keys[1:] == ["model.dropout", "model.input_dropout", "model.output_dropout"]


def test_a_space_is_read_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "space.yaml"
    path.write_text("training.learning_rate: [1e-4, 0.1, log]\nmodel.dropout: [0.0, 0.5, linear]\n"
                    "training.batch_size: [8, 64, log]\ntraining.optimizer: [adamw, sgd, choice]\n")  # fmt: skip
    assert read_space(path) == SPACE
    assert [Dimension.of(each.key, each.described) for each in SPACE] == SPACE


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("0.1", "is no range"),
        (["log"], "is no range"),
        ([1, 2, "logg"], "there is no scale logg; did you mean log?"),
        ([1, 2, 3], "there is no scale 3; write it"),
        ([1, "log"], "needs two numbers"),
        ([1, True, "log"], "needs two numbers"),
        ([1, math.inf, "linear"], "needs two numbers"),
        ([1, 2, 3, "linear"], "needs two numbers"),
        ([2, 1, "linear"], "low must be below high"),
        ([0, 1, "log"], "low must be above 0 and below high"),
        ([*range(1001), "choice"], "at most 1,000"),
    ],
)
def test_what_is_no_range_is_refused(given: Any, said: str) -> None:
    with pytest.raises(ConfigError, match=r"^training\.learning_rate: ") as caught:
        Dimension.of("training.learning_rate", given)
    assert said in str(caught.value)


@pytest.mark.parametrize("text", ["", "[1]", "a: [1, 2", "a: 1"])
def test_a_file_that_is_no_space_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "space.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"space\.yaml: "):
        read_space(path)
    with pytest.raises(ConfigError, match="there is no such file"):
        read_space(tmp_path / "gone.yaml")
