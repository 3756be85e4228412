"""A classifier is trained, resumed, saved, loaded and asked."""

from __future__ import annotations

import itertools
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import recurra
from recurra.errors import ConfigError, DataError, RunError
from recurra.run.directory import open_run, read_run
from recurra.run.metrics import read_metrics
from recurra.run.weights import read_weights
from recurra.systems.classification.config import ClassificationModelConfig
from recurra.systems.classification.explaining import explain
from recurra.systems.classification.network import TextClassifier
from recurra.systems.classification.predict import Classifier
from recurra.systems.classification.train import prepare_task
from recurra.systems.language_model.config import LanguageModelConfig
from recurra.training.processes import Processes
from recurra.training.training_run import train

from .labelled import QUIET, config, write_numbers, write_several, write_texts


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("classifier")
    train(config(write_texts(folder, 300)), folder / "run")
    return folder / "run"


def valid(run: Path) -> list[dict[str, Any]]:
    return [record for record in read_metrics(run / "metrics.jsonl") if record["kind"] == "valid"]


def test_it_learns_and_answers(run: Path) -> None:
    assert valid(run)[-1]["accuracy"] == 1.0 and valid(run)[-1]["macro_f1"] == 1.0
    model = recurra.load(run)
    assert isinstance(model, Classifier) and model.labels == ("bad", "good", "odd")
    answers = model.classify(["the pear is so rotten", "a sweet song", "the square salad is quite blue"])
    assert [answer.label for answer in answers] == ["bad", "good", "odd"]
    for answer in answers:
        assert sum(answer.probabilities.values()) == pytest.approx(1)
        assert answer.probability == max(answer.probabilities.values()) and answer.labels == (answer.label,)


def test_what_it_says_is_what_was_measured(run: Path, tmp_path: Path) -> None:
    """The best weights have their temperature with them: evaluating the validation texts gives the log's numbers."""
    store = read_run(run).data / "valid"
    from recurra.systems.classification.data import TextStore, load_tokenizer
    from recurra.systems.classification.labels import Labels

    texts = TextStore(store, load_tokenizer(run).vocab_size, Labels.load(run))
    held = tmp_path / "held.tsv"
    held.write_text("".join(f"{labels[0]}\t{text}\n" for text, labels, _ in texts.examples(range(len(texts)))))
    verdict = recurra.load(run).evaluate(str(held)).verdict
    best = min(valid(run), key=lambda record: record["loss"])
    assert verdict.loss == pytest.approx(best["loss"], rel=1e-5)
    for name in ("accuracy", "macro_f1", "calibration_error", "brier", "temperature"):
        assert verdict.measures[name] == pytest.approx(best[name], rel=1e-5, abs=1e-7), name


def test_an_answer_does_not_depend_on_its_company(run: Path) -> None:
    model = recurra.load(run)
    texts = [line.split("\t")[1] for line in Path(run.parent / "texts.tsv").read_text().splitlines()[:50]]
    together = model.logits(texts)
    alone = np.concatenate([model.logits([text]) for text in texts])
    np.testing.assert_allclose(together, alone, rtol=0, atol=1e-6)


def test_a_text_without_tokens_gets_the_shares(run: Path) -> None:
    lines = (run.parent / "texts.tsv").read_text().splitlines()
    answers = recurra.load(run).classify(["", "  \n "])
    # All texts teach but those that validation takes, so the shares are near.
    share = sum(line.startswith("good") for line in lines) / len(lines)
    assert answers[0].probabilities["good"] == pytest.approx(share, abs=0.05)
    assert answers[0].probabilities == answers[1].probabilities


def test_what_is_saved_is_what_was_loaded(run: Path, tmp_path: Path) -> None:
    model = recurra.load(run)
    again = recurra.load(model.save(tmp_path / "saved"))
    texts = ["the pear is fine", "sour", ""]
    assert model.classify(texts) == again.classify(texts)


def test_a_resumed_training_is_the_same(tmp_path: Path) -> None:
    path = write_texts(tmp_path, 120)
    # The cosine's fall follows from the bound, so a constant rate makes the halves alike.
    whole, half = (config(path, training={"max_epochs": epochs, "schedule": "constant"}) for epochs in (4, 2))
    train(whole, tmp_path / "one")
    train(half, tmp_path / "two")
    train(whole, tmp_path / "two", resume=True)
    one, two = (read_weights(read_run(tmp_path / name)) for name in ("one", "two"))
    assert one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


@pytest.mark.parametrize("pooling", ["last", "mean", "max", "last-mean-max", "attention"])
def test_every_parameter_gets_a_gradient(tmp_path: Path, pooling: str) -> None:
    model = {"pooling": pooling, "num_layers": 2, "head_size": 5, "residual": "highway", "cell": "gru"}
    settings = config(write_texts(tmp_path, 40), model=model)
    task = prepare_task(open_run(tmp_path / "run", settings, resume=False), Processes(settings.training))
    batch = next(task.batches.epoch(0))
    task.loss(task.model, batch).objective.backward()
    for name, parameter in task.model.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().max() > 0, name


@pytest.mark.parametrize("pooling", ["last", "mean-max", "attention"])
def test_it_can_learn_ten_texts_by_heart(tmp_path: Path, pooling: str) -> None:
    path = tmp_path / "ten.tsv"
    texts = [" ".join(words) for words in itertools.permutations(["pear", "apple", "salad"])]
    path.write_text("".join(f"{number % 3}\t{text}\n" for number, text in enumerate(texts)))
    data = {"train": [str(path)], "valid": [str(path)]}
    training = {"max_epochs": 120, "batch_tokens": 1000, "schedule": "constant"}
    train(config(str(path), data=data, model={"pooling": pooling}, training=training), tmp_path / "run")
    assert valid(tmp_path / "run")[-1]["accuracy"] == 1.0 and valid(tmp_path / "run")[-1]["loss"] < 0.05


def test_several_labels(tmp_path: Path) -> None:
    data = {"kind": "multi-label"}
    train(config(write_several(tmp_path, 300), data=data, training={"max_epochs": 10}), tmp_path / "run")
    found = valid(tmp_path / "run")[-1]
    assert found["exact"] > 0.95 and found["micro_f1"] > 0.97 and "accuracy" not in found
    model = recurra.load(tmp_path / "run")
    both, none = model.classify(["the pear sweet grey", "the pear"])
    assert set(both.labels) == {"good", "bad"} and none.labels == () and none.label is None
    assert none.line() == "" and none.json()["labels"] == []
    assert 0 < float(model.model.thresholds.min()) < 1


def test_numbers(tmp_path: Path) -> None:
    data = {"kind": "regression"}
    train(config(write_numbers(tmp_path, 300), data=data, training={"max_epochs": 15}), tmp_path / "run")
    found = valid(tmp_path / "run")[-1]
    assert found["pearson"] > 0.98 and found["rmse"] < 3
    model = recurra.load(tmp_path / "run")
    high, low, nothing = (answer.number for answer in model.classify(["sweet sweet sweet", "sour sour pear", ""]))
    assert high is not None and low is not None and nothing is not None
    assert high == pytest.approx(130, abs=6) and low == pytest.approx(80, abs=6)
    assert nothing == pytest.approx(100, abs=3)


@pytest.mark.parametrize("label", ["good", "odd"])
def test_contributions_sum_to_the_logit(run: Path, label: str) -> None:
    """Completeness (Sundararajan et al. 2017, proposition 1), and the word that decides has the largest share."""
    word = {"good": "sweet", "odd": "blue"}[label]
    answer = recurra.load(run).classify([f"the pear is very {word}"], explain=True)[0]
    found = answer.explanation
    assert found is not None and found.target == label
    assert [piece.text.strip() for piece in found.pieces] == ["the", "pear", "is", "very", word]
    added = [piece.contribution for piece in found.pieces]
    # Where pooling takes another maximum the integrand has a corner, and the sum is not exact.
    assert sum(added) == pytest.approx(found.logit - found.baseline, rel=0.01)
    assert max(range(5), key=added.__getitem__) == 4


def test_without_corners_the_sum_is_exact() -> None:
    torch.manual_seed(2)
    model = TextClassifier(20, 3, ClassificationModelConfig(hidden_size=6, pooling="mean", init_scale=1.0)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(2)
    ids = np.arange(3, 12)
    found = explain(model, 0, ids, [f"w{number} ".encode() for number in ids], 1, "text", "label")
    total = sum(piece.contribution for piece in found.pieces)
    assert abs(found.logit - found.baseline) > 1e-3 and total == pytest.approx(found.logit - found.baseline, abs=1e-6)


def test_an_empty_text_has_nothing_to_explain(run: Path) -> None:
    answer = recurra.load(run).classify([""], explain=True)[0]
    assert answer.explanation is not None and list(answer.explanation.pieces) == []


def test_weights_of_labels_count(tmp_path: Path) -> None:
    path = tmp_path / "uneven.tsv"
    # The same text has both labels, so that only their shares and weights tell what is likelier.
    path.write_text("many\tpear\n" * 30 + "few\tpear\n" * 10 + "many\tapple\nfew\tapple\n")
    data = {"train": [str(path)], "valid": [str(path)]}
    chances = {}
    for weights in ("none", "balanced"):
        training = {"class_weights": weights, "max_epochs": 40}
        train(config(str(path), data=data, training=training), tmp_path / weights)
        model = recurra.load(tmp_path / weights)
        logits = model.logits(["pear"])[0]
        chances[weights] = float(torch.from_numpy(logits).softmax(0)[0])
    assert chances["none"] == pytest.approx(0.25, abs=0.05) and chances["balanced"] == pytest.approx(0.5, abs=0.06)


def language_model(tmp_path: Path) -> Path:
    text = tmp_path / "plain.txt"
    lines = Path(write_texts(tmp_path, 300, "for-text.tsv")).read_text().splitlines()
    text.write_text("".join(line.partition("\t")[2] + "\n" for line in lines))
    settings = LanguageModelConfig.model_validate(
        {
            "data": {"train": [str(text)]},
            "tokenizer": {"kind": "word"},
            "model": {"cell": "gru", "hidden_size": [10, 8], "num_layers": 2},
            "training": {"batch_size": 4, "sequence_length": 8, "max_epochs": 2, "device": "cpu"},
            "logging": QUIET,
        }
    )
    train(settings, tmp_path / "language")
    return tmp_path / "language"


def test_a_language_model_becomes_the_encoder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from recurra.run.start_from import settings_of

    base = language_model(tmp_path)
    taken = settings_of(str(base), "classification")
    assert taken["model"] == {
        "cell": "gru", "hidden_size": [10, 8], "num_layers": 2, "residual": "none", "learn_initial_state": False,
        "bidirectional": False, "embedding_size": None,
    }  # fmt: skip
    training = {"start_from": str(base), "gradual_unfreezing": True, "max_epochs": 1}
    model = taken["model"]
    settings = config(write_texts(tmp_path, 100), tokenizer=taken["tokenizer"], model=model, training=training)
    capsys.readouterr()
    train(settings, tmp_path / "run")
    assert "taken are tokenizer, embedding, encoder; left are labels (it has none)" in capsys.readouterr().err
    learnt, found = (read_weights(read_run(path)) for path in (base, tmp_path / "run"))
    # In the first epoch the output layers alone are trained.
    for name in [each for each in learnt if each.startswith(("embedding.", "recurrent."))]:
        assert torch.equal(learnt[name], found[name]), name


def test_layers_thaw_one_by_one(tmp_path: Path) -> None:
    model = {"num_layers": 2, "hidden_size": 6}
    training = {"gradual_unfreezing": True, "layer_rate_decay": 2.6, "max_epochs": 3, "keep_evaluated": 3}
    settings = config(write_texts(tmp_path, 60), model=model, training=training)
    run = open_run(tmp_path / "run", settings, resume=False)
    task = prepare_task(run, Processes(settings.training))
    assert task.part_rates(0) == [1, 0, 0, 0]
    assert task.part_rates(1) == pytest.approx([1, 1 / 2.6, 0, 0])
    assert task.part_rates(7) == pytest.approx([1, 1 / 2.6, 1 / 2.6**2, 1 / 2.6**3])
    parts = task.part_parameters()
    assert sorted(id(each) for part in parts for each in part) == sorted(map(id, task.model.parameters()))
    from recurra.training.loop import Trainer

    before = {name: value.clone() for name, value in task.model.state_dict().items()}
    trainer = Trainer(task, run, Processes(settings.training))
    trainer.run()
    after = task.model.state_dict()
    moved = {name for name, value in after.items() if not torch.equal(value, before[name])}
    assert "embedding.weight" not in moved and "recurrent.weight_ih_l0" in moved and "recurrent.weight_ih_l1" in moved
    rates = {group["part"]: group["lr"] for group in trainer.optimizer.param_groups}
    assert rates[1] == pytest.approx(rates[0] / 2.6) and rates[3] == 0


def test_validation_texts_that_teach_too_are_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, other = tmp_path / "a.tsv", tmp_path / "b.tsv"
    path.write_text("x\tone pear\ny\ttwo pears\n")
    other.write_text("x\tone  pear\ny\tthree pears\n")
    settings = config(str(path), data={"train": [str(path)], "valid": [str(other)]}, training={"max_epochs": 1})
    train(settings, tmp_path / "run")
    assert "1 of 2 validation texts stand among the training texts too." in capsys.readouterr().err


def test_equal_texts_are_held_out_together(tmp_path: Path) -> None:
    path = tmp_path / "a.tsv"
    path.write_text("".join(f"{n % 2}\ttext number {n % 10}\n" for n in range(100)))
    settings = config(str(path), data={"validation_fraction": 0.3, "train": [str(path)]}, training={"max_epochs": 1})
    task = prepare_task(open_run(tmp_path / "run", settings, resume=False), Processes(settings.training))
    held = {text for text, _, _ in task._valid.examples(range(len(task._valid)))}
    assert len(held) == 3 and len(task._valid) == 30


@pytest.mark.parametrize(
    ("train_text", "valid_text", "sections", "message"),
    [
        ("x\ta\nx\tb\nx\tc\n", None, {}, r"All \d training texts have the label 'x'; there is nothing to tell apart"),
        ("x\ta\n", None, {}, "one text cannot be parted into training and validation"),
        (
            "x\ta\ny\tb\n",
            "z\tc\nz\td\n",
            {},
            r"All 2 validation texts have labels that no training text has: ",
        ),
        (
            "0\ta\n1e200\tb\n2e200\tc\n",
            None,
            {"kind": "regression"},
            "which are too far from 1 to be computed with",
        ),
        ("0\ta\n1e-200\tb\n2e-200\tc\n", None, {"kind": "regression"}, "which are too far from 1 to be computed with"),
        ("1\ta\n1\tb\n1\tc\n", None, {"kind": "regression"}, "have the number 1; there is nothing to learn"),
        (
            "\ta\n\tb\n\tc\n",
            None,
            {"kind": "multi-label"},
            "No training text has labels; there is nothing",
        ),
    ],
)
def test_what_cannot_be_learnt_is_said(
    tmp_path: Path, train_text: str, valid_text: str | None, sections: dict[str, Any], message: str
) -> None:
    path, other = tmp_path / "train.tsv", tmp_path / "valid.tsv"
    path.write_text(train_text)
    data = {"train": [str(path)], **sections}
    if valid_text is not None:
        other.write_text(valid_text)
        data["valid"] = [str(other)]
    with pytest.raises(DataError, match=message):
        train(config(str(path), data=data), tmp_path / "run")
    assert not any((tmp_path / "run").iterdir())


def test_settings_that_do_not_go_together_are_refused() -> None:
    for sections, message in (
        ({"data": {"kind": "regression"}, "training": {"select_by": "accuracy"}}, "accuracy is not for regression"),
        ({"data": {"kind": "regression"}, "training": {"label_smoothing": 0.1}}, "are for labels, not for data.kind="),
        ({"data": {"kind": "multi-label"}, "training": {"label_smoothing": 0.1}}, "label_smoothing is for data.kind=s"),
        ({"model": {"hidden_size": [3, 4]}}, "hidden_size lists 2 sizes for num_layers 1"),
    ):
        with pytest.raises(ValueError, match=message):
            config("x", **sections)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda tree: tree | {"names": ["bad", "bad"]}, "its labels do not fit its kind"),
        (lambda tree: tree | {"names": ["bad", "good"]}, "the weights do not fit config.yaml and tokenizer.json, lab"),
        (lambda tree: tree | {"kind": "sorts"}, "labels.json: is damaged"),
        (lambda tree: tree | {"deviation": 0.0}, "labels.json: is damaged"),
        (lambda tree: [tree], "labels.json: is damaged"),
    ],
)
def test_damaged_labels_are_said(run: Path, tmp_path: Path, damage: Any, message: str) -> None:
    shutil.copytree(run, tmp_path / "run", ignore=shutil.ignore_patterns("checkpoints"))
    path = tmp_path / "run" / "labels.json"
    path.write_text(json.dumps(damage(json.loads(path.read_text()))))
    with pytest.raises(RunError, match=message):
        recurra.load(tmp_path / "run")


def test_two_do_not_answer_together(run: Path) -> None:
    with pytest.raises(ConfigError, match="classifiers do not answer together"):
        recurra.load([run, run])


def test_contributions_hold_where_the_network_is_steepest() -> None:
    """An LSTM with large weights answers embeddings near zero most steeply (meta-pytorch/captum#1334)."""
    torch.manual_seed(4)
    settings = ClassificationModelConfig(hidden_size=16, embedding_size=8, pooling="mean-max", init_scale=3.0)
    model = TextClassifier(50, 2, settings).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.mul_(4 if "recurrent" in name else 1)
    for seed in range(5):
        ids = np.random.default_rng(seed).integers(1, 50, 40)
        found = explain(model, 0, ids, [b"x "] * 40, 0, "text", "label")
        assert found.gap == pytest.approx(
            sum(piece.contribution for piece in found.pieces) - (found.logit - found.baseline)
        )
        assert abs(found.gap) <= 0.01 * max(abs(found.logit - found.baseline), 1.0)


def test_parts_of_a_character_are_one_piece(tmp_path: Path) -> None:
    path = write_texts(tmp_path, 60)
    training = {"max_epochs": None, "max_steps": 1}
    settings = config(path, tokenizer={"kind": "bpe", "vocab_size": 300}, training=training)
    train(settings, tmp_path / "run")
    (answer,) = recurra.load(tmp_path / "run").classify(["pear é한😀 day"], explain=True)
    assert answer.explanation is not None
    pieces = [piece.text for piece in answer.explanation.pieces]
    assert "".join(pieces).strip() == "pear é한😀 day" and {"é", "한", "😀"} <= {piece.strip() for piece in pieces}


def test_validation_labels_that_nothing_teaches_count_as_wrong(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, other = tmp_path / "a.tsv", tmp_path / "b.tsv"
    path.write_text("x\tpear\ny\tapple\n" * 20)
    other.write_text("x\tpear\ny\tapple\nz\tsalad\nw\tday\n")
    data = {"train": [str(path)], "valid": [str(other)]}
    train(config(str(path), data=data, training={"max_epochs": 15}), tmp_path / "run")
    assert "2 of 4 validation texts have labels that no training text has: " in capsys.readouterr().err
    found = valid(tmp_path / "run")[-1]
    # Each of x and y has one right answer of one or more; z and w have F1 0, as scikit-learn counts them.
    assert found["accuracy"] == 0.5 and found["macro_f1"] <= 0.5 and found["loss"] < 0.5
    assert recurra.load(tmp_path / "run").evaluate(str(other)).verdict.measures["macro_f1"] == found["macro_f1"]


def test_the_split_leaves_every_label_to_training(tmp_path: Path) -> None:
    path = tmp_path / "a.tsv"
    path.write_text("".join(f"label {n}\ttext {n} {m}\n" for n in range(40) for m in range(2)))
    data = {"train": [str(path)], "validation_fraction": 0.5}
    settings = config(str(path), data=data)
    task = prepare_task(open_run(tmp_path / "run", settings, resume=False), Processes(settings.training))
    assert len(task._labels.names) == 40 and 0 < len(task._valid) < 40


def test_a_resumed_training_keeps_its_labels(tmp_path: Path) -> None:
    path = Path(write_texts(tmp_path, 60))
    train(config(str(path), training={"max_epochs": 1}), tmp_path / "run")
    kept = (tmp_path / "run" / "labels.json").read_bytes()
    # Lost data are prepared again from the same files.
    (tmp_path / "run" / "data" / "train.arrow").unlink()
    train(config(str(path), training={"max_epochs": 2}), tmp_path / "run", resume=True)
    text = path.read_text()
    (tmp_path / "run" / "data" / "train.arrow").unlink()
    path.write_text(text.replace("good\t", "zgood\t"))
    again = config(str(path), training={"max_epochs": 3})
    with pytest.raises(RunError, match="the files have other labels or numbers now, or it was changed"):
        train(again, tmp_path / "run", resume=True)
    path.write_text(text)
    (tmp_path / "run" / "labels.json").write_bytes(kept.replace(b"odd", b"zzz"))
    with pytest.raises(RunError, match="the files have other labels or numbers now, or it was changed"):
        train(again, tmp_path / "run", resume=True)


def test_texts_without_tokens_are_judged_as_they_are_answered(tmp_path: Path) -> None:
    path, other = Path(write_texts(tmp_path, 100)), tmp_path / "held.tsv"
    other.write_text("good\t\nbad\t \ngood\tthe pear is sweet\nbad\tthe day is grey\n")
    train(config(str(path), data={"train": [str(path)], "valid": [str(other)]}), tmp_path / "run")
    best = min(valid(tmp_path / "run"), key=lambda record: record["loss"])
    verdict = recurra.load(tmp_path / "run").evaluate(str(other)).verdict
    assert verdict.loss == pytest.approx(best["loss"], rel=1e-5)
    for name in ("accuracy", "macro_f1", "brier", "temperature"):
        assert verdict.measures[name] == pytest.approx(best[name], rel=1e-5), name


def test_weights_count_for_a_text_that_is_alone_in_its_batch(tmp_path: Path) -> None:
    path = tmp_path / "uneven.tsv"
    path.write_text("many\tpear\n" * 30 + "few\tpear\n" * 10 + "many\tapple\nfew\tapple\n")
    data = {"train": [str(path)], "valid": [str(path)]}
    # A bound on the norm of each text's gradient would take the weights away.
    training = {"class_weights": "balanced", "max_epochs": 10, "batch_tokens": 1, "learning_rate": 0.005}
    training |= {"clip_norm": None}
    train(config(str(path), data=data, training=training), tmp_path / "run")
    logits = recurra.load(tmp_path / "run").logits(["pear"])[0]
    assert float(torch.from_numpy(logits).softmax(0)[0]) == pytest.approx(0.5, abs=0.15)


def test_weights_lift_a_rare_one_of_several_labels(tmp_path: Path) -> None:
    path = tmp_path / "several.tsv"
    path.write_text(("common\tpear\n" * 18 + "common,rare\tpear\n" * 2 + "\tapple\n") * 2)
    chances = {}
    for weights in ("none", "balanced"):
        data = {"train": [str(path)], "valid": [str(path)], "kind": "multi-label"}
        training = {"class_weights": weights, "max_epochs": 40}
        train(config(str(path), data=data, training=training), tmp_path / weights)
        logits = recurra.load(tmp_path / weights).logits(["pear"])[0]
        chances[weights] = float(torch.from_numpy(logits).sigmoid()[1])
    assert chances["none"] == pytest.approx(0.1, abs=0.05) and chances["balanced"] > 0.4
