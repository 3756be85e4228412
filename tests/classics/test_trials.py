"""Trials stop when the paper's rules say so, and find what the paper found."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from recurra.classics.blocks import Sequences, is_compiled, run
from recurra.classics.paper import HeldOut, Recent, Unbroken, experiment, names
from recurra.classics.trials import run_trial
from recurra.errors import ConfigError

pytestmark = pytest.mark.skipif(not is_compiled(), reason="built without a compiler, it takes minutes")


def easy(generator: np.random.Generator, count: int) -> Sequences:
    """Two steps: the first symbol tells the class."""
    symbols = generator.integers(2, size=(count, 2)).astype(np.int32)
    return Sequences(np.arange(count + 1, dtype=np.int64) * 2, symbols.reshape(-1), ends=np.eye(2)[symbols[:, 0]])


def small(rule: Recent | Unbroken | HeldOut) -> object:
    chosen = experiment("long-lag", p=50, q=50)
    return replace(chosen, network=replace(chosen.network, inputs=2), rate=2.0, draw=easy, rule=rule, wrong=0.2)


@pytest.mark.parametrize("rule", [Recent(0.1, window=700), Unbroken(700), HeldOut(0.1, size=100)])
def test_a_trial_stops_where_its_rule_is_met(rule: Recent | Unbroken | HeldOut) -> None:
    trial = run_trial(small(rule), [1], 50_000)  # type: ignore[arg-type]
    assert trial.sequences is not None and 0 < trial.sequences <= trial.learnt < 50_000
    assert trial.wrong == 0 and trial.squared_error < 0.02
    if isinstance(rule, Recent):
        assert trial.sequences == trial.learnt
    # Ended one earlier, the rule is not met.
    if isinstance(rule, Recent):
        assert run_trial(small(rule), [1], trial.sequences - 1).sequences is None  # type: ignore[arg-type]
    # The same seed, the same trial.
    assert run_trial(small(rule), [1], 50_000) == trial  # type: ignore[arg-type]


def test_what_is_not_learnt_is_said() -> None:
    trial = run_trial(experiment("adding"), [1], 700)
    assert trial.sequences is None and trial.learnt == 700 and trial.wrong > 1000


def test_temporal_order_is_learnt_as_in_the_paper() -> None:
    trial = run_trial(experiment("temporal-order-2"), [1, 0], 120_000)
    assert trial.sequences is not None and trial.wrong <= 5


def test_memory_cells_join_when_the_error_stalls() -> None:
    chosen = experiment("noise-free", p=5)
    trial = run_trial(replace(chosen, rule=Unbroken(1000, at_ends=False)), [2], 40_000)
    assert trial.sequences is not None and trial.wrong == 0


def test_experiments_are_known_by_name() -> None:
    assert len(names()) == 11
    for name in names():
        chosen = experiment(name)
        assert chosen.name == name and chosen.reported
        weights = chosen.network.start(np.random.default_rng(0), chosen.scale, chosen.input_gate_biases)
        data = chosen.draw(np.random.default_rng(0), 2)
        assert np.isfinite(run(chosen.network, weights, data)).all()
    with pytest.raises(ConfigError, match=r"no experiment addin; did you mean adding\?"):
        experiment("addin")
    with pytest.raises(ConfigError, match="the experiment adding has no option p; it has T"):
        experiment("adding", p=3)
    with pytest.raises(ConfigError, match="temporal-order-2 has no option T; it has none"):
        experiment("temporal-order-2", T=3)
