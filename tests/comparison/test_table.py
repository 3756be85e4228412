"""The results table: what it refuses, compares, marks and prints."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recurra.comparison.resampling import paired_bootstrap
from recurra.comparison.runs import Measurement, finish
from recurra.comparison.significance import holm, including_seeds, mcnemar, welch_t_test
from recurra.comparison.table import Column, ResultsTable, Row, compare
from recurra.errors import ConfigError, DataError

LOSS = Column("loss", "nats", "{:.2f}", higher=False)
RIGHT = Column("right", "accuracy", "{:.1%}")


def outcomes(shift: float, runs: int = 1, spread: float = 0.0, noise: float = 0.3, examples: int = 200) -> np.ndarray:
    """(runs, examples, 1): the examples' own values, what the system adds, its runs and its noise."""
    shared = np.random.default_rng(0).normal(3, 1, examples)
    own = np.random.default_rng(int(shift * 1000) % 2**16 + 1)
    seeds = own.normal(0, spread, (runs, 1)) if spread else np.zeros((runs, 1))
    found: np.ndarray = (shared + shift + seeds + own.normal(0, noise, (runs, examples)))[..., None]
    return found


def rows(**changes: Any) -> list[Row]:
    return [
        Row("LSTM", {"loss": outcomes(-0.5, 3, 0.01)}, weights=1000, seconds=[60.0, 62.0, 61.0]),
        Row("trigram", {"loss": outcomes(0.0)}, baseline=True, deterministic=True, **changes),
        Row("GRU", {"loss": outcomes(-0.6, 3, 0.01)}, weights=1010, seconds=[3661.0] * 3),
    ]


def test_a_table_without_a_baseline_is_refused() -> None:
    systems = rows()
    with pytest.raises(ConfigError, match="no baseline"):
        compare([systems[0], systems[2]], [LOSS])
    with pytest.raises(ConfigError, match="no baseline"):
        compare([], [LOSS])
    with pytest.raises(ConfigError, match="2 baselines"):
        compare([systems[1], Row("other", baseline=True)], [LOSS])
    with pytest.raises(ConfigError, match="the baseline trigram has no right"):
        compare(systems, [LOSS, RIGHT])


def test_the_baseline_comes_first_and_the_best_is_marked() -> None:
    table = compare(rows(), [LOSS])
    assert [row.name for row in table.rows] == ["trigram", "LSTM", "GRU"] and table.against == "trigram"
    entries = {name: table.entries["loss", name] for name in ("trigram", "LSTM", "GRU")}
    assert entries["trigram"].difference is None and not entries["trigram"].best
    assert entries["GRU"].best and not entries["LSTM"].best


def test_differences_are_those_of_the_paired_test_with_seeds() -> None:
    systems = rows()
    table = compare(systems, [LOSS], samples=500, confidence=0.9, seed=3)
    found = {}
    for row in (systems[0], systems[2]):
        one, two = row.outcomes["loss"], systems[1].outcomes["loss"]
        paired = paired_bootstrap(one, two, samples=500, confidence=0.9, seed=3)
        found[row.name] = including_seeds(paired, np.asarray(one).mean(1).ravel(), [0.0], 0.9)
        assert table.entries["loss", row.name].difference == pytest.approx(found[row.name])
        assert table.entries["loss", row.name].spread.mean == pytest.approx(np.mean(one))
    assert [table.entries["loss", name].p for name in found] == pytest.approx(holm([each.p for each in found.values()]))


def test_what_is_not_significant_is_never_marked() -> None:
    generator = np.random.default_rng(2)
    marked = chance = 0
    for trial in range(60):
        base = generator.normal(size=40)
        systems = [Row("base", {"loss": base}, baseline=True)]
        systems += [Row(str(index), {"loss": base + generator.normal(size=40)}) for index in range(3)]
        table = compare(systems, [LOSS], samples=300, seed=trial)
        for row in systems[1:]:
            entry = table.entries["loss", row.name]
            assert entry.p is not None and entry.difference is not None
            chance += entry.difference.p < 0.05
            if entry.best:
                assert entry.p < 0.05 and entry.difference.difference < 0
                marked += 1
    # Of 180 comparisons some 9 have p < .05 by chance, and after Holm's correction 1.5 of 60 tables have a mark.
    assert chance >= 3 and marked <= 6


def test_a_worse_or_a_lucky_row_is_not_marked() -> None:
    worse = Row("worse", {"loss": outcomes(0.5)})
    noisy = Row("noisy", {"loss": outcomes(-0.4, 2, 2.0)})
    table = compare([*rows(), worse, noisy], [LOSS])
    # Whatever its mean is, two seeds so far apart say nothing.
    assert table.entries["loss", "noisy"].p > 0.05  # type: ignore[operator]
    assert table.entries["loss", "worse"].p < 0.05  # type: ignore[operator]
    assert [name for (_, name), entry in table.entries.items() if entry.best] == ["GRU"]
    higher = compare([*rows(), worse], [Column("loss", "points", higher=True)])
    assert [name for (_, name), entry in higher.entries.items() if entry.best] == ["worse"]


def test_differences_to_a_named_row() -> None:
    table = compare(rows(), [LOSS], against="LSTM")
    assert table.rows[0].name == "trigram" and table.entries["loss", "LSTM"].difference is None
    assert table.entries["loss", "trigram"].difference.difference > 0  # type: ignore[union-attr]
    assert table.entries["loss", "GRU"].best
    with pytest.raises(ConfigError, match="no row RNN"):
        compare(rows(), [LOSS], against="RNN")


def test_values_of_whole_runs_are_tested_over_seeds() -> None:
    systems = [
        Row("base", values={"loss": [3.0]}, baseline=True, deterministic=True),
        Row("three", values={"loss": [2.0, 2.1, 2.05]}),
        Row("one", values={"loss": [1.0]}),
    ]
    table = compare(systems, [LOSS])
    assert table.entries["loss", "three"].difference == welch_t_test([2.0, 2.1, 2.05], [3.0])
    # A single seed without outcomes cannot be tested, nor be the best.
    one = table.entries["loss", "one"]
    assert one.difference is None and one.p is None and not one.best and table.entries["loss", "three"].best
    assert "Of one seed, whose part in a difference is not known: one." in table.notes


def test_mcnemar_of_right_and_wrong() -> None:
    base = np.array([1.0] * 30 + [0.0] * 20)
    other = np.array([1.0] * 28 + [0.0] * 2 + [1.0] * 11 + [0.0] * 9)
    systems = [Row("majority", {"right": base}, baseline=True), Row("net", {"right": other[None, :, None]})]
    entry = compare(systems, [RIGHT], test="mcnemar").entries["right", "net"]
    assert entry.p == mcnemar(11, 2).mid_p and entry.best
    assert entry.difference.difference == pytest.approx(9 / 50)  # type: ignore[union-attr]
    several = [systems[0], Row("net", {"right": np.stack([other, other])[..., None]})]
    with pytest.raises(ConfigError, match="right of net and majority: McNemar's test is for one run"):
        compare(several, [RIGHT], test="mcnemar")
    with pytest.raises(ConfigError, match="independent"):
        compare(systems, [RIGHT], test="mcnemar", groups=np.arange(50) // 2)


def test_groups_make_intervals_wider_where_examples_repeat() -> None:
    single = outcomes(-0.05, examples=20), outcomes(0.0, examples=20)
    systems = [
        Row("base", {"loss": np.repeat(single[1], 10, axis=1)}, baseline=True),
        Row("net", {"loss": np.repeat(single[0], 10, axis=1)}),
    ]
    groups = np.repeat(np.arange(20), 10)
    plain, grouped = (
        compare(systems, [LOSS], groups=each).entries["loss", "net"].difference for each in (None, groups)
    )
    assert grouped.error > 2.5 * plain.error  # type: ignore[union-attr]


def test_markdown() -> None:
    systems = [
        Row("a | b", {"loss": np.array([1.0, 2, 3, 4] * 20)}, baseline=True, deterministic=True),
        Row("net", {"loss": np.array([[0.5, 1.5, 2.25, 3.75] * 20, [0.5, 1.5, 2.5, 3.75] * 20])[..., None]},
            weights=12345, seconds=[70.0, 75.0]),
        Row("old", {"loss": np.array([1.25, 2, 3, 3.75] * 20)}, weights=99),
    ]  # fmt: skip
    lines = compare(systems, [LOSS]).markdown().splitlines()
    assert lines[0] == "| system | nats ↓ | difference | p | seeds | weights | time |"
    assert lines[1] == "|---|---|---|---|---|---|---|"
    assert lines[2] == "| a \\| b | 2.50 |  |  |  |  |  |"
    assert lines[3].startswith("| net | **2.03 ± 0.04** | -0.47 [") and lines[3].endswith("| 2 | 12,345 | 1:12 min |")
    assert lines[4].startswith("| old | 2.50 | +0.00 [-0.0") and lines[4].endswith("] | 1.000 | 1 | 99 |  |")
    assert "± is the standard deviation over seeds." in lines[6] and "Of one seed" in lines[6]


def test_text_and_json_say_the_same() -> None:
    table = compare(rows(), [LOSS])
    lines = table.text().splitlines()
    assert lines[0].split() == ["system", "nats", "↓", "difference", "p", "seeds", "weights", "time"]
    assert lines[1].split() == ["trigram", f"{table.entries['loss', 'trigram'].spread.mean:.2f}"]
    assert " * " in lines[3] and "<0.001" in lines[3] and lines[3].endswith("1:01:01 h")
    assert lines[2].index("1,000") == lines[3].index("1,010")
    record = json.loads(table.json())
    assert record["against"] == "trigram" and record["rows"][0]["baseline"] is True
    gru = record["rows"][2]
    assert gru["weights"] == 1010 and gru["measures"]["loss"]["best"] is True
    entry = table.entries["loss", "GRU"]
    assert gru["measures"]["loss"]["p"] == entry.difference.p  # type: ignore[union-attr]
    assert gru["measures"]["loss"]["corrected_p"] == entry.p


def test_several_measures_and_what_some_rows_lack() -> None:
    systems = rows()
    systems[1] = Row("trigram", {**systems[1].outcomes, "right": np.arange(200) % 2}, baseline=True)
    table = compare(systems, [LOSS, RIGHT])
    assert ("right", "GRU") not in table.entries
    assert table.markdown().splitlines()[2].startswith("| trigram | 2.99 |") and "50.0%" in table.text()


def test_what_does_not_fit_is_named() -> None:
    systems = rows()
    with pytest.raises(ConfigError, match="the row GRU stands twice"):
        compare([*systems, Row("GRU")], [LOSS])
    with pytest.raises(ConfigError, match="the measure loss stands twice"):
        compare(systems, [LOSS, LOSS])
    with pytest.raises(ConfigError, match="los of RNN is no measure"):
        compare([*systems, Row("RNN", {"los": [1.0]})], [LOSS])
    with pytest.raises(ConfigError, match="loss of RNN is given twice"):
        compare([*systems, Row("RNN", {"loss": [1.0]}, {"loss": [1.0]})], [LOSS])
    with pytest.raises(DataError, match="loss of RNN and trigram: 7 and 200 examples"):
        compare([*systems, Row("RNN", {"loss": np.ones(7)})], [LOSS])


def test_rows_of_kept_runs(tmp_path: Path) -> None:
    kept = tmp_path / "results.jsonl"
    results = finish(
        kept,
        [{"cell": "gru", "seed": seed} for seed in (1, 2)],
        lambda case: Measurement(
            {"weights": 7, "seconds": 1.5, "bleu": 30.0 + case["seed"]}, {"loss": np.arange(4.0) + case["seed"]}
        ),
        own_process=False,
    )
    row = Row.of_runs("GRU", kept, results, outcomes=["loss"], values=["bleu"], baseline=True)
    assert row.weights == 7 and row.seconds == [1.5, 1.5] and row.baseline
    assert row.values == {"bleu": [31.0, 32.0]} and np.shape(row.outcomes["loss"]) == (2, 4, 1)
    table: ResultsTable = compare([row], [LOSS, Column("bleu", "BLEU")])
    assert table.entries["bleu", "GRU"].spread == pytest.approx((31.5, 0.5**0.5, 2))
