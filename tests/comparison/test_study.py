"""A study from its options to its findings: trainings, selection, failures, and what is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import recurra
from recurra import registry
from recurra.comparison.contestants import Contestant, parse_contestants, sized
from recurra.comparison.search import Dimension
from recurra.comparison.shared_results import keep, read_result
from recurra.comparison.study import Study, best_trial
from recurra.comparison.study_findings import study_findings
from recurra.comparison.study_training import find_training, train_one
from recurra.config.load import load_config
from recurra.errors import ConfigError, DataError, RunError
from recurra.registry import Measure

from . import tiny_study as tiny


def test_contestants_are_named_with_their_options() -> None:
    found = parse_contestants(["lstm, gru", "lstm+model.forget_bias=0+training.weight_decay=1e+2", "own.py:Cell"])
    assert [each.cell for each in found] == ["lstm", "gru", "lstm", "own.py:Cell"]
    assert found[2].settings == {"model.forget_bias": 0, "training.weight_decay": 100.0}
    assert found[2].overrides(7) == [
        {"model": {"cell": "lstm", "hidden_size": 7}},
        {"model": {"forget_bias": 0}},
        {"training": {"weight_decay": 100.0}},
    ]


@pytest.mark.parametrize(
    ("cells", "said"),
    [
        (["lstm,lsmt"], "there is no cell lsmt; did you mean lstm?"),
        (["lstm"], "at least two cells"),
        (["lstm", "gru,lstm"], "lstm stands twice"),
        (["gru", "lstm+a.b=1+a.b=2"], "sets a.b twice"),
    ],
)
def test_contestants_that_are_none(cells: list[str], said: str) -> None:
    with pytest.raises(ConfigError, match=r"^--cells") as caught:
        parse_contestants(cells)
    assert said in str(caught.value)


def test_equal_weights_are_those_of_the_trained_networks(tmp_path: Path) -> None:
    config = load_config(overrides=[tiny.configuration(tmp_path), {"model": {"hidden_size": 20}}])
    asked = parse_contestants(["lstm,rnn_tanh,gru,lstm_peephole+model.tied=false"])
    found = sized(asked, config, "weights", tmp_path / "sizes")
    assert not (tmp_path / "sizes").exists()
    words = 6  # Three fruits, salad, the line end, and <unk>.
    lstm = words * 20 + words + 4 * (20 * 20 + 20 * 20 + 2 * 20)
    assert found[0] == replace(asked[0], width=20, weights=lstm)
    rnn = found[1]
    assert rnn.weights == words * rnn.width + words + 2 * rnn.width**2 + 2 * rnn.width
    for each in found:
        # Half a unit's share of the weights, which grow with the square of the width.
        assert abs(each.weights / lstm - 1) < 1.1 / each.width, each
    study = tiny.tiny_study(tmp_path, contestants=found)
    assert train_one(study, tmp_path / "work", study.trial(1, 0))["weights"] == rnn.weights
    same = sized(asked[:3], config, "widths", tmp_path / "sizes")
    assert [each.width for each in same] == [20] * 3 and same[2].weights < same[0].weights == lstm


def test_a_searched_key_must_not_change_the_weights(tmp_path: Path) -> None:
    config = load_config(overrides=[tiny.configuration(tmp_path)])
    space = [Dimension("model.tied", (True, False), "choice")]
    asked = parse_contestants(["lstm,gru"])
    with pytest.raises(ConfigError, match=r"model\.tied: changes the number of weights.*--equal widths"):
        sized(asked, config, "weights", tmp_path / "sizes", space)
    assert len(sized(asked, config, "widths", tmp_path / "sizes", space)) == 2


@pytest.mark.parametrize(
    ("best", "values", "chosen"),
    [
        ("lowest", [3.0, 1.0, 2.0, 1.0], 1),
        ("highest", [0.3, 0.1, 0.9, 0.9], 2),
        ("lowest", [None, 5.0, None], 1),
        ("highest", [None, -5.0, None], 1),
        ("lowest", [None, None], None),
    ],
)
def test_the_best_trial_is_chosen_in_the_direction_of_the_measure(
    best: Any, values: list[float | None], chosen: Any
) -> None:
    results = [{"failed": "x"} if value is None else {"valid": {"m": value, "loss": 0.0}} for value in values]
    assert best_trial(results, Measure("m", "m", best=best)) == chosen


def test_all_contestants_get_the_same_draws_and_seeds(tmp_path: Path) -> None:
    study = tiny.tiny_study(tmp_path, trials=5, seed=7)
    configs = {(each.index, each.trial): study.configuration(each) for each in study.search_trainings()}
    rates = [configs[0, trial].training.learning_rate for trial in range(5)]
    assert rates == [configs[1, trial].training.learning_rate for trial in range(5)] and len(set(rates)) == 5
    assert {config.training.seed for config in configs.values()} == {7}
    assert [configs[index, 0].model.cell for index in (0, 1)] == ["gru", "rnn_tanh"]
    assert [configs[index, 0].model.hidden_size for index in (0, 1)] == [6, 9]
    # Numbers stay what they are when there are more trials.
    names = [(each.number, each.name) for each in study.search_trainings()]
    assert [(each.number, each.name) for each in replace(study, trials=9).search_trainings()][:10] == names
    assert [number for number, _ in names] == list(range(1, 11)) and len({name for _, name in names}) == 10


def fill(study: Study, folder: Path, values: list[list[float | None]]) -> None:
    """Keep a result for each trial, by contestant."""
    for training in study.search_trainings():
        value = values[training.index][training.trial]
        result = {"failed": "it broke"} if value is None else {"valid": {"loss": value}}
        common = {"trial": training.trial + 1, "seed": 1, "settings": study.settings(training)}
        keep(folder / "trials", training.name, {**common, **result})


def test_final_trainings_have_the_best_settings_and_new_seeds(tmp_path: Path) -> None:
    study = tiny.tiny_study(tmp_path, trials=3, seeds=2, seed=4)
    with pytest.raises(RunError, match=r"trial 1 \(gru\) has no result yet"):
        study.final_trainings(tmp_path)
    fill(study, tmp_path, [[3.0, 2.0, None], [None, None, None]])
    finals = study.final_trainings(tmp_path)
    # The second contestant failed throughout, and has none.
    assert [(each.index, each.trial, each.seed, each.number) for each in finals] == [(0, 1, 5, 1), (0, 1, 6, 3)]
    best = study.configuration(study.trial(0, 1)).training
    assert study.configuration(finals[0]).training == best.model_copy(update={"seed": 5})
    assert find_training(study, tmp_path, 3, final=True) == finals[1]
    with pytest.raises(ConfigError, match="no final training 2"):
        find_training(study, tmp_path, 2, final=True)
    with pytest.raises(ConfigError, match="no trial 7"):
        find_training(study, tmp_path, 7, final=False)


def test_a_whole_study(tmp_path: Path) -> None:
    study = tiny.tiny_study(tmp_path, trials=2, seeds=2)
    work = tmp_path / "work"
    study.opened_in(work)
    assert Study.load(work) == study
    for training in study.search_trainings():
        result = train_one(study, work, training)
        assert result["settings"] == study.settings(training) and result["steps"] == 3
        # What a search needs no more is gone.
        left = sorted(path.name for path in (work / "runs" / training.name).iterdir())
        assert left == ["config.yaml", "metrics.jsonl", "tokenizer.json"]
    for training in study.final_trainings(work):
        train_one(study, work, training)
    found = study_findings(study, work)
    assert [row.name for row in found.table.rows][1:] == ["gru", "rnn_tanh"]
    assert "gram (Witten-Bell)" in found.table.rows[0].name and found.table.rows[0].baseline
    # Each line of the test text, for both seeds, with the tokens that the model and the baseline count.
    nats = np.asarray(found.table.rows[1].outcomes["loss"])
    assert nats.shape == (2, 30, 2)
    assert np.array_equal(nats[0, :, 1], np.asarray(found.table.rows[0].outcomes["loss"])[:, 1])
    assert len(found.pairs) == 3 and found.column.name == "loss"
    assert {each.name: len(each.trials) for each in found.searched} == {"gru": 2, "rnn_tanh": 2}
    found.write(work)
    told = json.loads((work / "table.json").read_text())
    assert [each["name"] for each in told["contestants"]] == ["gru", "rnn_tanh"]
    assert told["contestants"][0]["search_curve"][1]["median"] == min(told["contestants"][0]["trials"])
    for name in ("search_curves", "medians"):
        assert (work / "pictures" / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        assert f"pictures/{name}.png" in (work / "table.md").read_text()


def test_a_training_that_has_a_result_is_left_alone(tmp_path: Path) -> None:
    study = tiny.tiny_study(tmp_path)
    training = study.trial(0, 0)
    first = train_one(study, tmp_path / "work", training)
    stamp = (tmp_path / "work" / "trials" / f"{training.name}.json").stat().st_mtime_ns
    assert train_one(study, tmp_path / "work", training) == first
    assert (tmp_path / "work" / "trials" / f"{training.name}.json").stat().st_mtime_ns == stamp


def test_a_trial_that_fails_is_the_worst_and_is_named(tmp_path: Path) -> None:
    # A rate with which the loss is infinite after a step.
    space = (Dimension("training.learning_rate", (0.01, 1e45), "choice"),)
    study = tiny.tiny_study(tmp_path, trials=4, seeds=1, space=space, training={"clip_norm": None, "optimizer": "sgd"})
    rates = [study.settings(study.trial(0, trial))["training.learning_rate"] for trial in range(4)]
    assert set(rates) == {0.01, 1e45}
    work = tmp_path / "work"
    results = [train_one(study, work, each) for each in study.search_trainings()]
    for result in results:
        assert ("failed" in result) == (result["settings"]["training.learning_rate"] == 1e45)
    finals = study.final_trainings(work)
    assert {each.trial for each in finals} == {rates.index(0.01)}
    for training in finals:
        train_one(study, work, training)
    found = study_findings(study, work)
    assert [value is None for value in found.searched[0].trials] == [rate == 1e45 for rate in rates]
    assert f"gru, trial {rates.index(1e45) + 1}, seed 1: " in found.markdown()
    assert "no longer a finite number" in found.markdown() and str(work) not in found.markdown()


def test_a_contestant_without_a_success_leaves_the_others_their_table(tmp_path: Path) -> None:
    study = replace(tiny.tiny_study(tmp_path, trials=1, seeds=2), test=())
    fill(study, tmp_path, [[None], [2.0]])
    for seed, training in enumerate(study.final_trainings(tmp_path)):
        values = {"valid": {"loss": 2.0 + seed}, "weights": 610, "seconds": 1.0, "trial": 1, "seed": seed}
        keep(tmp_path / "finals", training.name, values)
    found = study_findings(study, tmp_path)
    assert [row.name for row in found.table.rows] == ["rnn_tanh"]
    assert found.medians == {"rnn_tanh": [2.0, 3.0]}
    assert "gru, trial 1, seed 1: it broke" in found.markdown() and "too good" in found.markdown()
    keep(tmp_path / "trials", study.trial(1, 0).name, {"failed": "y", "trial": 1, "seed": 1, "settings": {}})
    with pytest.raises(ConfigError, match="nothing to compare; gru, trial 1, seed 1: it broke"):
        study_findings(study, tmp_path)


def test_a_transformer_is_a_contestant(tmp_path: Path) -> None:
    config = load_config(overrides=[tiny.configuration(tmp_path), {"model": {"hidden_size": 16}}])
    found = sized(parse_contestants(["lstm", "transformer"]), config, "weights", tmp_path / "sizes")
    assert found[1].weights == pytest.approx(found[0].weights, rel=0.2)
    # As few trials as differ by their dropout, which torch's layers have too.
    space = [*tiny.SPACE, Dimension("model.dropout", (0.0, 0.5), "linear")]
    study = tiny.tiny_study(tmp_path, trials=1, seeds=1, contestants=found, space=space)
    for training in [*study.search_trainings()]:
        assert train_one(study, tmp_path / "work", training)["weights"] in (found[0].weights, found[1].weights)
    (final,) = [each for each in study.final_trainings(tmp_path / "work") if each.index == 1]
    train_one(study, tmp_path / "work", final)
    predictor = recurra.load(tmp_path / "work" / "runs" / final.name, device="cpu")
    assert sum(weight.numel() for weight in predictor.model.parameters()) == found[1].weights
    # A line's score is that of its tokens one after another, and the model can write.
    score = predictor.score(["pear salad plum salad"])[0]
    steps = ["", "pear", "pear salad", "pear salad plum"]
    chances = [
        {each.word: each.probability for each in predictor.next(text, top=20, unit="token")}[token]
        for text, token in zip(steps, ["pear", "salad", "plum", "salad"], strict=True)
    ]
    assert [word.log_probability for word in score.words[:4]] == pytest.approx(np.log(chances).tolist(), rel=1e-4)
    assert len(predictor.generate("pear", 5, seed=1)[0]) > 0
    with pytest.raises(ConfigError, match=r"transformer with \d+ units: model\.zoneout"):
        changed = load_config(overrides=[config.model_dump(mode="json"), {"model": {"zoneout": 0.1}}])
        sized(parse_contestants(["lstm", "transformer"]), changed, "widths", tmp_path / "sizes")


def test_missing_data_is_no_fault_of_a_trial(tmp_path: Path) -> None:
    study = tiny.tiny_study(tmp_path)
    (tmp_path / "train.txt").unlink()
    with pytest.raises(DataError, match=r"train\.txt"):
        train_one(study, tmp_path / "work", study.trial(0, 0))
    assert read_result(tmp_path / "work" / "trials", study.trial(0, 0).name) is None


def test_a_folder_of_another_study_is_refused(tmp_path: Path) -> None:
    study, work = tiny.tiny_study(tmp_path), tmp_path / "work"
    study.opened_in(work)
    # It may grow, and the folder then says so.
    grown = replace(study, trials=9, seeds=5, threads=2, block=3)
    grown.opened_in(work)
    assert Study.load(work) == grown
    other = replace(study, config={**study.config, "model": {**study.config["model"], "num_layers": 2}})
    with pytest.raises(RunError, match=r"another study, in which config\.model\.num_layers is 1 and not 2"):
        other.opened_in(work)
    with pytest.raises(RunError, match=r"in which seed is 1 and not 2"):
        replace(study, seed=2).opened_in(work)
    with pytest.raises(RunError, match=r"contestants 2\.name is 'rnn_tanh' and not 'lstm'"):
        replace(study, contestants=(study.contestants[0], Contestant("lstm", "lstm", {}, 6, 700))).opened_in(work)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "letter.txt").touch()
    with pytest.raises(RunError, match="holds something that is no study"):
        study.opened_in(tmp_path / "full")
    with pytest.raises(RunError, match="there is no study here"):
        Study.load(tmp_path / "full")
    (work / "study.json").write_text('{"format": 1}')
    with pytest.raises(RunError, match=r"study\.json: is damaged"):
        Study.load(work)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"trials": 0}, "--search: must be from 1"),
        ({"seeds": 0}, "--seeds: must be from 1"),
        ({"trials": 10_001}, "to 10,000"),
        ({"space": [Dimension("training.learnig_rate", (0.1, 0.2), "log")]}, "did you mean training.learning_rate?"),
        ({"space": [Dimension("training.learning_rate", (-1.0, 0.2), "linear")]}, "training.learning_rate"),
        ({"space": [Dimension("model.hidden_size", (8, 16), "linear", True)]}, "is not searched"),
        ({"space": [Dimension("training.max_steps", (8, 16), "linear", True)]}, "is not searched"),
        ({"contestants": [Contestant("a", "gru", {"training.learning_rate": 1.0})] * 2}, "a sets it"),
    ],
)
def test_options_that_cannot_be(options: dict[str, Any], said: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        tiny.tiny_study(tmp_path, **options)
    assert said in str(caught.value)


def test_a_measure_without_a_direction_is_refused(tmp_path: Path) -> None:
    tree = load_config(overrides=[{"task": "translation", "training": {"select_by": "length_ratio"}}])
    with pytest.raises(ConfigError, match="choose another measure"):
        replace(tiny.tiny_study(tmp_path), config=tree.model_dump(mode="json"))


def test_the_functions_that_systems_name_are_there() -> None:
    named = [place for system in registry.systems() for place in (system.outcomes, system.baseline)]
    named += [measure.of_sums for system in registry.systems() for measure in system.measures]
    assert all(callable(registry.resolve(place)) for place in named if place)
    assert len([place for place in named if place]) >= 8
