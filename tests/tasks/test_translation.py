"""Translation systems end to end: trained, killed, resumed, read back, asked."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

import recurra
from recurra.config import save_config
from recurra.data.token_batches import IGNORED, PairBatch
from recurra.decoding.sampling import SamplingOptions
from recurra.errors import ConfigError, DataError, RunError
from recurra.tasks.translation import coverage_loss, load_model, prepare_task, train
from recurra.tasks.translation_files import load_tokenizers, open_pairs, prepare_pairs
from recurra.tasks.translator import Translator
from recurra.training.checkpoint import load_checkpoint, unpack
from recurra.training.logging import read_metrics
from recurra.training.processes import Processes

from .translations import config, sentences, write_pairs


def numbers(run_dir: Path) -> list[dict[str, Any]]:
    lines = read_metrics(run_dir / "metrics.jsonl")
    return [{k: v for k, v in line.items() if k not in ("seconds", "tokens_per_second")} for line in lines]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("translation")
    settings = config(
        write_pairs(folder, 300),
        training={"max_epochs": 15, "select_by": "bleu", "learning_rate": 0.02},
        logging={"picture": True, "tensorboard": True},
    )
    train(settings, folder / "run")
    return folder / "run"


@pytest.fixture(scope="module")
def translator(run: Path) -> Translator:
    loaded = recurra.load(run, device="cpu")
    assert isinstance(loaded, Translator)
    return loaded


def test_a_run_holds_what_it_needs_and_the_best_weights(run: Path) -> None:
    present = {path.name for path in run.iterdir()}
    assert present == {
        *("config.yaml", "tokenizer.json", "model.safetensors", "metrics.jsonl", "samples.jsonl", "checkpoints"),
        *("data", "learning_curve.png", "attention.png", "tensorboard"),
    }
    settings, (source, target), model = load_model(run)
    assert source is target and not model.training and settings.training.select_by == "bleu"
    best = load_checkpoint(run / "checkpoints", ("best",))
    assert best is not None
    state = unpack(best.tensors, best.state)
    assert all(torch.equal(model.state_dict()[name], value) for name, value in state["model"].items())
    valid = [line for line in read_metrics(run / "metrics.jsonl") if line["kind"] == "valid"]
    chosen = max(valid, key=lambda line: line["bleu"])
    assert chosen["step"] == state["step"] and chosen["criterion"] == -chosen["bleu"]
    samples = read_metrics(run / "samples.jsonl")
    assert len(samples) == 3 * len(valid) and {"source", "reference", "translation", "alignment"} <= set(samples[0])
    # The reported loss, computed again pair by pair.
    total, count = 0.0, 0
    for pair in open_pairs(run)[1]:
        ids = [torch.from_numpy(source.encode(text).astype(np.int64)) for text in pair]
        ends = torch.tensor([source.eos_id])
        with torch.no_grad():
            logits = model(torch.cat([ids[0], ends])[:, None], torch.tensor([len(ids[0]) + 1]),
                           torch.cat([ends, ids[1]])[:, None]).logits[:, 0]  # fmt: skip
        total += float(F.cross_entropy(logits, torch.cat([ids[1], ends]), reduction="sum"))
        count += len(ids[1]) + 1
    assert total / count == pytest.approx(chosen["loss"], rel=1e-5)


def test_it_has_learnt_to_translate_and_to_align(translator: Translator) -> None:
    sources, targets = sentences(30, 7)
    found = translator.translate(sources)
    assert sum(each.best == target for each, target in zip(found, targets, strict=True)) >= 25
    right = [each for each, target in zip(found, targets, strict=True) if each.best == target]
    pairs = [pair for each in right for pair in each.alternatives[0].alignment]
    assert sum(source == target for source, target in pairs) > 0.8 * len(pairs)
    weights = right[0].alternatives[0].weights
    assert weights is not None and np.allclose(weights.sum(1), 1.0, atol=1e-5)
    told = right[0].alternatives[0].attention()
    assert len(told["weights"]) == len(told["target"]) and len(told["weights"][0]) == len(told["source"])


@pytest.mark.parametrize(
    "options", [{"beam": 1}, {"beam": 4, "n_best": 4}, {"sampling": SamplingOptions(), "n_best": 2}]
)
def test_the_score_of_what_was_found_is_that_of_the_pair(translator: Translator, options: dict[str, Any]) -> None:
    sources, _ = sentences(12, 9)
    answers = [(each.source, text) for each in translator.translate(sources, **options) for text in each.alternatives]
    # Hypotheses that lack what their text would give (unknown or doubled tokens) read as other pairs.
    scores = translator.score([source for source, _ in answers], [text.text for _, text in answers])
    same = [
        (score, text)
        for score, (_, text) in zip(scores, answers, strict=True)
        if score.tokens == text.tokens + 1 and score.unknown == 0
    ]
    assert len(same) > 0.8 * len(answers)
    for score, text in same:
        assert score.log_probability == pytest.approx(text.log_probability, abs=1e-5)
        assert score.alignment == text.pharaoh


def test_what_else_is_translated_changes_nothing(translator: Translator) -> None:
    sources, _ = sentences(20, 3)
    together = translator.translate(sources, n_best=3)
    for size in (1, 3):
        for one, other in zip(together, translator.translate(sources, n_best=3, batch_size=size), strict=True):
            assert [each.text for each in one.alternatives] == [each.text for each in other.alternatives]
            for a, b in zip(one.alternatives, other.alternatives, strict=True):
                assert a.score == pytest.approx(b.score, abs=1e-5)
    drawn = translator.translate(sources, sampling=SamplingOptions(), seed=4)
    again = translator.translate(sources, sampling=SamplingOptions(), seed=4, batch_size=2)
    assert [each.best for each in drawn] == [each.best for each in again]


def test_a_source_is_scored_as_far_as_it_is_translated(translator: Translator) -> None:
    limit = translator.config.decoding.max_source_length
    words = ["the", "red", "apple"] * 400
    with pytest.warns(UserWarning, match="1 of 2 sources are longer than 1000 tokens"):
        long, exact = translator.score([" ".join(words), " ".join(words[:limit])], ["der rote", "der rote"])
    assert long.cut_at == limit and exact.cut_at is None
    assert long.log_probability == pytest.approx(exact.log_probability, abs=1e-5)


def test_lines_that_are_empty_long_or_unknown(translator: Translator) -> None:
    long = " ".join(["the red apple"] * 1700)
    found = translator.translate(["", "  ", long, "the zebra"], beam=1)
    assert [each.best for each in found[:2]] == ["", ""] and not found[0].alternatives
    assert found[2].cut_at == translator.config.decoding.max_source_length == 1000
    assert 0 < len(found[2].best.split()) <= 2010 and found[0].cut_at is None
    assert translator.translate([]) == []


def test_words_are_begun_with_banned_and_required(translator: Translator) -> None:
    source = "the cat sees a dog"
    assert translator.translate([source], prefix="ein")[0].best.startswith("ein ")
    assert "Hund" not in translator.translate([source], banned=["Hund"])[0].best
    assert "Vogel" in translator.translate([source], required=["Vogel"])[0].best
    assert len(translator.translate([source], min_length=9, max_length=9)[0].best.split()) == 9
    short = translator.translate([source, "a"], min_length=13, prefix="ein", beam=1)
    assert all(len(each.best.split()) >= 13 for each in short)
    assert translator.translate(["a"], required=["Vogel"] * 2, prefix=" ".join(["ein"] * 14))[0].best
    with pytest.raises(ConfigError, match="least length 13 is above the greatest, 5"):
        translator.translate(["a"], min_length=13, max_length=5)
    words = translator.translate(["a a a a"], no_repeat=1)[0].best.split()
    assert len(set(words)) == len(words)
    with pytest.raises(ConfigError, match="zebra: the vocabulary"):
        translator.translate([source], required=["zebra"])


def test_unknown_words_are_written_as_the_source_has_them(translator: Translator) -> None:
    unknown = translator.target_tokenizer.unk_id
    assert unknown is not None
    model = translator.models[0]
    with torch.no_grad():
        kept = model.output_bias[unknown].clone()
        model.output_bias[unknown] = 100.0
        try:
            found = translator.translate(["zebra"], beam=1, max_length=1)[0]
        finally:
            model.output_bias[unknown] = kept
    assert found.best == "zebra" and found.alternatives[0].alignment == [(0, 0)]


def test_an_ensemble_takes_the_mean_of_probabilities(translator: Translator, run: Path) -> None:
    twice = Translator.from_runs([run, run], device="cpu")
    sources, targets = sentences(6, 5)
    one, other = translator.score(sources, targets), twice.score(sources, targets)
    assert [a.log_probability for a in one] == pytest.approx([b.log_probability for b in other], abs=1e-6)
    with torch.no_grad():
        for parameter in twice.models[1].parameters():
            parameter.mul_(0.9)
    apart = Translator([twice.models[1]], (twice.source_tokenizer, twice.target_tokenizer), twice.config)
    source, target = sources[0], targets[0].split()
    # One token at a time: P of the mean is not the mean of P over a sentence.
    total = 0.0
    for step in range(len(target) + 1):
        logs = []
        for each in (translator, apart):
            scores = each.score([source] * 2, [" ".join(target[:step]), " ".join(target[: step + 1])])
            ids = each.target_tokenizer.encode(" ".join([*target[:step], *target[step : step + 1]]))
            logs.append(_log_of(each, source, ids.tolist(), step))
            assert scores[0].log_probability < 0
        total += math.log(sum(math.exp(log) for log in logs) / 2)
    assert twice.score([source], [" ".join(target)])[0].log_probability == pytest.approx(total, abs=1e-5)


def _log_of(translator: Translator, source: str, target: list[int], step: int) -> float:
    """log P of token `step` of a target (its end behind the last), by the first model alone."""
    model, eos = translator.models[0], translator.target_tokenizer.eos_id
    read = torch.tensor([*translator.source_tokenizer.encode(source).tolist(), eos])
    before = torch.tensor([eos, *target])[: step + 1]
    with torch.no_grad():
        logits = model(read[:, None], torch.tensor([len(read)]), before[:, None]).logits[-1, 0]
    return float(logits.double().log_softmax(-1)[[*target, eos][step]])


def test_checkpoints_of_the_latest_evaluations_are_averaged(tmp_path: Path) -> None:
    training = {"max_steps": 6, "max_epochs": None, "evaluate_every": 2, "keep_evaluated": 2}
    train(config(write_pairs(tmp_path), training=training), tmp_path / "run")
    kept = sorted(path.name for path in (tmp_path / "run" / "checkpoints").glob("evaluated-*"))
    assert kept == ["evaluated-000000004", "evaluated-000000006"]
    states = []
    for name in kept:
        checkpoint = load_checkpoint(tmp_path / "run" / "checkpoints", (name,))
        assert checkpoint is not None
        states.append(unpack(checkpoint.tensors, checkpoint.state)["model"])
    found = load_model(tmp_path / "run", average=2)[2].state_dict()
    for name, value in found.items():
        assert not torch.equal(states[0][name], states[1][name])
        torch.testing.assert_close(value, ((states[0][name].double() + states[1][name]) / 2).float(), rtol=1e-6, atol=0)
    assert Translator.from_runs([tmp_path / "run"], average=2).translate(["the cat"])[0].alternatives
    with pytest.raises(RunError, match="of 2 evaluations were kept, not of 3"):
        load_model(tmp_path / "run", average=3)


def test_evaluation_is_that_of_its_parts(translator: Translator, tmp_path: Path) -> None:
    from sacrebleu.metrics import BLEU

    files = write_pairs(tmp_path)
    result = translator.evaluate(files["valid_source"], files["valid_target"], beam=2)
    sources, targets = sentences(12, 2)
    texts = [each.best for each in translator.translate(sources, beam=2)]
    assert result["bleu"] == BLEU().corpus_score(texts, [targets]).score
    assert result["exact"] == sum(a == b for a, b in zip(texts, targets, strict=True)) / 12
    scores = translator.score(sources, targets)
    assert result["loss"] == pytest.approx(-sum(s.log_probability for s in scores) / sum(s.tokens for s in scores))
    assert result["perplexity"] == pytest.approx(math.exp(result["loss"]))
    assert result["length_ratio"] == sum(len(t.split()) for t in texts) / sum(len(t.split()) for t in targets)
    assert result["signatures"]["bleu"].startswith("nrefs:1|case:mixed|eff:no|tok:13a")


def test_ten_pairs_are_learnt_by_heart(tmp_path: Path) -> None:
    files = write_pairs(tmp_path, 10)
    files |= {"valid_source": files["source"], "valid_target": files["target"]}
    training = {"max_epochs": 100, "label_smoothing": 0.0, "learning_rate": 0.02, "evaluate_every": 100}
    models: list[dict[str, Any]] = [
        {"attention": "none"},
        {"decoder": "conditional", "coverage": True},
        {"copy_source": True},
    ]
    for number, model in enumerate(models):
        result = train(config(files, model=model, training=training), tmp_path / str(number))
        assert result.metrics["exact"] == 1.0, model


def test_separate_subwords_held_out_pairs_and_the_rest_of_the_options(tmp_path: Path) -> None:
    files = write_pairs(tmp_path)
    sides = [Path(files[side]).read_text(encoding="utf-8").splitlines() for side in ("source", "target")]
    lines = [f"{target}\t{source}\n" for source, target in zip(*sides, strict=True)]
    (tmp_path / "pairs.tsv").write_text("".join([*lines, "\tempty\n"]), encoding="utf-8")
    settings = config(
        {"pairs": str(tmp_path / "pairs.tsv"), "columns": [2, 1], "empty_lines": "drop", "max_length": 20},  # type: ignore[dict-item]
        tokenizer={"kind": "bpe", "vocab_size": 300, "joint": False},
        model={"tied": "decoder", "cell": "lstm", "dropout": 0.1, "attention": "multi-head"},
        training={"scheduled_sampling": 0.5, "coverage_loss": 1.0, "select_by": "length_ratio", "max_steps": 8},
    )
    result = train(settings, tmp_path / "run")
    assert math.isfinite(result.best_loss) and "chrf" in result.metrics
    dropped = json.loads((tmp_path / "run" / "data" / "dropped.json").read_text())
    assert dropped["pairs"] == 135 + 1 and dropped["empty"] == 1 and dropped["kept"] + dropped["too_long"] == 135
    assert len(open_pairs(tmp_path / "run")[1]) == 15
    source, target = load_tokenizers(tmp_path / "run")
    assert source.tokenizer != target.tokenizer
    assert recurra.load(tmp_path / "run").translate(["the cat"])[0].alternatives


def test_dropped_validation_pairs_are_counted_and_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = write_pairs(tmp_path)
    for side in ("valid_source", "valid_target"):
        with open(files[side], "a", encoding="utf-8") as file:
            file.write("\n" if side == "valid_source" else "x\n")
    settings = config(files, data={"empty_lines": "drop"}, logging={"progress": True})
    prepare_pairs(settings, tmp_path / "run")
    told = json.loads((tmp_path / "run" / "data" / "dropped.json").read_text())
    assert told["valid_empty"] == 1 and told["empty"] == 0
    assert "1 of 13 validation pairs are left out: with an empty side." in capsys.readouterr().err


def test_the_objective_is_smoothed_cross_entropy_with_coverage(tmp_path: Path) -> None:
    settings = config(write_pairs(tmp_path), training={"label_smoothing": 0.2, "coverage_loss": 0.5})
    (tmp_path / "run").mkdir()
    task = prepare_task(settings, tmp_path / "run", Processes(settings.training))
    batch: PairBatch = next(task.batches())
    objective, nats = task.loss(task.model, batch)
    logits, weights, _ = task.model(batch.source, batch.lengths, batch.before)
    arguments = {"input": logits.flatten(0, 1), "target": batch.target.flatten(), "ignore_index": IGNORED}
    torch.testing.assert_close(nats, F.cross_entropy(**arguments).detach())
    smoothed = F.cross_entropy(**arguments, label_smoothing=0.2)
    penalty, count = 0.0, 0
    for row in range(batch.target.shape[1]):
        coverage = np.zeros(weights.shape[2])
        for step in range(int((batch.target[:, row] != IGNORED).sum())):
            now = weights[step, row].detach().numpy()
            penalty += float(np.minimum(now, coverage).sum())
            coverage, count = coverage + now, count + 1
    torch.testing.assert_close(objective, smoothed + 0.5 * penalty / count)
    assert coverage_loss(weights, batch.target != IGNORED).item() == pytest.approx(penalty / count, rel=1e-5)


KILLABLE = """
import sys
from pathlib import Path
from recurra.config import load_config
from recurra.tasks.translation import train
train(load_config(sys.argv[1]), Path(sys.argv[2]), resume=(Path(sys.argv[2]) / "config.yaml").exists())
"""


@pytest.mark.slow
def test_killed_and_resumed_equals_uninterrupted(tmp_path: Path) -> None:
    names = ("dropout", "embedding_dropout", "input_dropout", "annotation_dropout", "output_dropout")
    settings = config(
        write_pairs(tmp_path),
        model=dict.fromkeys(names, 0.2),
        training={"max_steps": 60, "max_epochs": None, "save_every": 7, "evaluate_every": 10, "scheduled_sampling": 0.3,
                  "select_by": "bleu"},
    )  # fmt: skip
    torch.set_num_threads(1)
    whole, part = tmp_path / "whole", tmp_path / "part"
    expected = train(settings, whole)
    save_config(settings, tmp_path / "config.yaml")
    command = [sys.executable, "-c", KILLABLE, str(tmp_path / "config.yaml"), str(part)]
    process = subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1"})
    deadline = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < deadline:
        lines = (part / "metrics.jsonl").read_bytes() if (part / "metrics.jsonl").exists() else b""
        if b'{"step": 25,' in lines:
            process.send_signal(signal.SIGKILL)
        time.sleep(0.002)
    assert process.wait() == -signal.SIGKILL
    result = train(settings, part, resume=True)
    assert numbers(part) == numbers(whole)
    assert (result.best_loss, result.metrics) == (expected.best_loss, expected.metrics)
    assert (part / "samples.jsonl").read_text() == (whole / "samples.jsonl").read_text()
    one, other = (load_model(each)[2].state_dict() for each in (part, whole))
    assert all(torch.equal(one[key], other[key]) for key in other)


def test_what_cannot_be_trained_on_leaves_the_folder_free(tmp_path: Path) -> None:
    files = write_pairs(tmp_path)
    with pytest.raises(DataError, match="no such file"):
        train(config(files | {"source": str(tmp_path / "gone")}), tmp_path / "run")
    with pytest.raises(ConfigError, match="nosuchcell"):
        train(config(files, model={"cell": "nosuchcell"}), tmp_path / "run")
    assert not list((tmp_path / "run").iterdir())
    for wrong, message in (
        ({"target": None}, "source is given without target"),
        ({"pairs": "x.tsv"}, "pairs holds both sides"),
        ({"columns": [0, 1]}, "columns.0\n.*greater than or equal to 1"),
        ({"columns": [1, -1]}, "columns.1\n.*greater than or equal to 1"),
    ):
        with pytest.raises(ValueError, match=message):
            config(files, data=wrong)
    with pytest.raises(ValueError, match="tied all needs one vocabulary"):
        config(files, tokenizer={"joint": False})
    with pytest.raises(ValueError, match="copy_source needs one vocabulary"):
        config(files, model={"copy_source": True, "tied": "decoder"}, tokenizer={"joint": False})
    with pytest.raises(ValueError, match="coverage_loss needs attention weights"):
        config(files, model={"attention": "none"}, training={"coverage_loss": 1.0})
    assert config(files, training={"select_by": "bleu_tokenized"}).training.select_by == "bleu_tokenized"
    with pytest.raises(ValueError, match="select_by bleu needs translations"):
        config(files, training={"select_by": "bleu", "translate_valid": 0})


def test_runs_of_other_kinds_are_told_apart(run: Path, tmp_path: Path) -> None:
    from recurra.tasks.language_model import load_model as load_language_model

    with pytest.raises(RunError, match="is a run of the task translation"):
        load_language_model(run)
    other = config(write_pairs(tmp_path, 40), tokenizer={"kind": "character"}, training={"max_steps": 1})
    train(other, tmp_path / "other")
    with pytest.raises(RunError, match="other tokenizers"):
        Translator.from_runs([run, tmp_path / "other"])
    with pytest.raises(RunError, match="no run directory was named"):
        Translator.from_runs([])
