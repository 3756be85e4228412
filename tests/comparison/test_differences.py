"""Which pairs differ, and the sentences that say so."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from recurra.comparison.differences import Pair, differences, sentences
from recurra.comparison.findings import Searched, findings
from recurra.comparison.significance import Difference, holm, welch_t_test
from recurra.comparison.table import Column, Row, compare
from recurra.errors import ConfigError

LOSS = Column("loss", "loss", "{:.2f}", higher=False)
RIGHT = Column("right", "right", "{:.1%}", higher=True)


def row(name: str, mean: float, seed: int, runs: int = 3) -> Row:
    """Losses of 200 examples that vary alike in all rows, and a little of their own in each run."""
    common = np.random.default_rng(0).normal(2.0, 1.0, 200)
    own = np.random.default_rng(seed).normal(mean, 0.02, (runs, 200))
    return Row(name, {"loss": (common + own)[:, :, None]})


ROWS = [row("one", 0.0, 1), row("two", 0.5, 2), row("same", 0.0, 3)]


def test_all_pairs_are_tested_as_the_table_tests_them() -> None:
    pairs = differences(ROWS, LOSS)
    assert [pair[:2] for pair in pairs] == [*itertools.combinations(["one", "two", "same"], 2)]
    assert pairs[0].difference.difference == pytest.approx(-0.5, abs=0.01) and pairs[0].p < 0.001 < 0.05 < pairs[1].p
    alone = []
    for first, second in itertools.combinations(ROWS, 2):
        base = Row(second.name, second.outcomes, baseline=True)
        alone.append(compare([base, first], [LOSS], samples=2000).entries["loss", first.name].difference)
    assert [pair.difference for pair in pairs] == alone
    assert [pair.p for pair in pairs] == holm([each.p for each in alone if each is not None])


def test_values_of_whole_runs_are_tested_over_seeds() -> None:
    rows = [Row("a", values={"right": [0.9, 0.91, 0.92]}), Row("b", values={"right": [0.5, 0.51, 0.53]}), Row("none")]
    (pair,) = differences(rows, RIGHT)
    assert pair == Pair("a", "b", welch_t_test([0.9, 0.91, 0.92], [0.5, 0.51, 0.53]), pair.p)
    # One run each tells nothing.
    assert differences([Row("a", values={"right": [0.9]}), Row("b", values={"right": [0.5]})], RIGHT) == []


def difference(number: float, margin: float) -> Difference:
    return Difference(number, number - margin, number + margin, 0.0, margin / 2, 10.0)


@pytest.mark.parametrize(
    ("column", "number", "said"),
    [
        (LOSS, -0.3, "a is better than b: loss lower by 0.30 (95% interval 0.20 to 0.40, p = 0.012)."),
        (LOSS, 0.3, "b is better than a: loss lower by 0.30 (95% interval 0.20 to 0.40, p = 0.012)."),
        (RIGHT, 0.3, "a is better than b: right higher by 30.0% (95% interval 20.0% to 40.0%, p = 0.012)."),
        (RIGHT, -0.3, "b is better than a: right higher by 30.0% (95% interval 20.0% to 40.0%, p = 0.012)."),
    ],
)
def test_a_sentence_names_the_better_one_first(column: Column, number: float, said: str) -> None:
    assert sentences([Pair("a", "b", difference(number, 0.1), 0.012)], column) == [said]


def test_the_largest_real_difference_comes_first_and_the_others_are_named() -> None:
    pairs = [
        Pair("a", "b", difference(0.1, 0.05), 0.04),
        Pair("a", "c", difference(-0.4, 0.1), 0.0001),
        Pair("b", "c", difference(0.2, 0.4), 0.05),
    ]
    first, second, last = sentences(pairs, LOSS)
    assert first.startswith("a is better than c") and first.endswith("p < 0.001).")
    assert second.startswith("b is better than a")
    assert last == "No difference is shown between b and c; that does not show that they are alike."
    assert sentences(pairs[2:], LOSS) == [
        "Of 1 pairs none differs with p < 0.05; that does not show that they are alike."
    ]
    assert "train several seeds" in sentences([], LOSS)[0]
    many = [pairs[0], *(Pair("b", f"c{number}", difference(0.2, 0.4), 0.5) for number in range(11))]
    assert sentences(many, LOSS)[1].startswith("Of the other 11 pairs no difference is shown")


def test_findings_begin_with_the_baseline_and_keep_to_its_measures() -> None:
    both = [Row(each.name, dict(each.outcomes), {"right": [0.5, 0.6, 0.7]}) for each in ROWS]
    searched = [Searched(each.name, [1.0, None, 0.5], [0.4, 0.6], each) for each in both]
    baseline = Row("simple", {"loss": np.full((200, 1), 3.0)}, deterministic=True)
    found = findings(searched, LOSS, [LOSS, RIGHT], baseline=baseline, block=10)
    assert [each.name for each in found.table.rows] == ["simple", "one", "two", "same"]
    assert [each.name for each in found.table.measures] == ["loss"] and len(found.pairs) == 6
    assert "groups of examples" in found.markdown()
    assert found.curves["one"][-1].median == 0.5 and found.curves["one"][0].expected is None
    # A baseline without the first measure has no place.
    found = findings(searched, LOSS, [RIGHT, LOSS], baseline=baseline)
    assert [each.name for each in found.table.rows] == ["one", "two", "same"] and found.column is RIGHT
    assert [each.name for each in found.table.measures] == ["right", "loss"]
    assert found.medians["one"] == [0.5, 0.6, 0.7]
    assert "seeds' right, and their range: one 60.0% (50.0% to 70.0%); two 60.0%" in found.markdown()
    with pytest.raises(ConfigError, match="nothing to compare; it broke"):
        findings([Searched("one", [None], failures=["it broke"])], LOSS, [LOSS])
