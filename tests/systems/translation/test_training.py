"""Translation systems end to end: trained, killed, resumed, read back, asked."""

from __future__ import annotations

import json
import math
import os
import random
import re
import signal
import subprocess
import sys
import time
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch.nn import functional as F

import recurra
from recurra.config.load import save_config
from recurra.data.pair_corpus import ParallelCorpus
from recurra.data.parallel import PairReader, read_pairs
from recurra.data.sentences import SentenceTokenizer
from recurra.data.token_batches import IGNORED, PairBatch
from recurra.decoding.hypothesis import Hypothesis
from recurra.decoding.sampling import SamplingOptions
from recurra.errors import ConfigError, DataError, RunError
from recurra.run.checkpoint import load_checkpoint, unpack
from recurra.run.directory import Run, hold_run
from recurra.run.metrics import read_metrics
from recurra.systems.translation import search
from recurra.systems.translation.answers import TranslatedText, Translation
from recurra.systems.translation.config import TranslationTokenizerConfig
from recurra.systems.translation.data import load_tokenizers, open_pairs, prepare_pairs
from recurra.systems.translation.loading import copied_as, load_model
from recurra.systems.translation.predict import Translator
from recurra.systems.translation.train import aligned, coverage_loss, prepare_task
from recurra.systems.translation.writer import TranslationWriter
from recurra.training.processes import Processes
from recurra.training.training_run import train

from .translations import config, opened, sentences, write_pairs


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
    samples = [json.loads(line) for line in (run / "samples.jsonl").read_text(encoding="utf-8").split("\n")[:-1]]
    assert len(samples) == 3 * len(valid) and {"source", "reference", "translation", "alignment"} <= set(samples[0])
    # The reported loss, computed again pair by pair.
    total, count = 0.0, 0
    for pair in open_pairs(opened(config({}), run))[1]:
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
    # With the source's word in place of <unk> the text would read as another pair.
    decoding = translator.config.decoding.model_copy(update={"replace_unknown": False})
    settings = translator.config.model_copy(update={"decoding": decoding})
    translator = Translator(translator.models, (translator.source_tokenizer, translator.target_tokenizer), settings)
    answers = [(each.source, text) for each in translator.translate(sources, **options) for text in each.alternatives]
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


def test_draws_depend_on_a_sentence_s_number_alone(translator: Translator) -> None:
    sampling = SamplingOptions(2.0)
    lines = ["the cat", "", "the cat", "a red dog", "the cat"] * 3
    whole = [each.best for each in translator.translate(lines, sampling=sampling, seed=1)]
    parts = [translator.translate(lines[at : at + 4], sampling=sampling, seed=1, first=at) for at in range(0, 15, 4)]
    assert [each.best for part in parts for each in part] == whole
    assert len({text for line, text in zip(lines, whole, strict=True) if line == "the cat"}) > 3
    drawn = translator.translate(["the red cat sees"], sampling=sampling, n_best=8)[0].alternatives
    assert [each.score for each in drawn] == sorted((each.score for each in drawn), reverse=True)
    assert len({each.score for each in drawn}) > 3


def test_scores_of_outputs_written_without_a_search_are_those_of_a_search(translator: Translator) -> None:
    sources, _ = sentences(10, 4)
    penalties = {"length_penalty": 0.7, "coverage_penalty": 0.3}
    searched = translator.translate(sources, beam=4, n_best=4, **penalties)
    greedy = translator.translate(sources, beam=1, **penalties)
    drawn = translator.translate(sources, sampling=SamplingOptions(0.5), **penalties)
    compared = 0
    for each, *others in zip(searched, greedy, drawn, strict=True):
        known = {text.text: text.score for text in each.alternatives}
        for text in (other.alternatives[0] for other in others):
            assert text.score != text.log_probability
            if text.text in known:
                assert text.score == pytest.approx(known[text.text], abs=1e-5)
                compared += 1
    assert compared > 10


def test_long_sources_are_searched_in_batches_that_bound_the_kept_weights(
    translator: Translator, monkeypatch: pytest.MonkeyPatch
) -> None:
    sources, _ = sentences(9, 6)
    expected = translator.translate(sources, n_best=2)
    rows: list[int] = []
    encode = search._encode

    def counted(models: Any, chosen: Any, eos: int) -> Any:
        rows.append(len(chosen))
        return encode(models, chosen, eos)

    monkeypatch.setattr(search, "_encode", counted)
    monkeypatch.setattr(search, "_MOST_WEIGHTS", 3 * 3 * 8 * 25)
    found = translator.translate(sources, n_best=2)
    assert sum(rows) == 9 and len(rows) > 1 and max(rows) > 1
    for one, other in zip(found, expected, strict=True):
        assert [each.text for each in one.alternatives] == [each.text for each in other.alternatives]
        assert [each.pharaoh for each in one.alternatives] == [each.pharaoh for each in other.alternatives]
    monkeypatch.setattr(search, "_MOST_WEIGHTS", 1)
    rows.clear()
    translator.translate(sources[:3])
    assert rows == [1, 1, 1]


def test_what_is_out_of_range_is_refused(translator: Translator) -> None:
    for wrong in ({"beam": 0}, {"n_best": 0}, {"batch_size": 0}, {"n_best": 0, "sampling": SamplingOptions()}):
        with pytest.raises(ConfigError, match="at least 1"):
            translator.translate(["the cat"], **wrong)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="n_best must be from 1 to the beam's 1, not 2"):
        translator.translate(["the cat"], beam=1, n_best=2)
    assert len(translator.translate(["the cat"], n_best=5)[0].alternatives) == 5


def test_an_empty_source_or_target_can_be_scored(translator: Translator) -> None:
    nothing, unknown, to_nothing = translator.score(["", "", "the cat"], ["der", "zebra", ""])
    assert nothing.tokens == 2 and nothing.log_probability < 0 and nothing.alignment == ""
    assert unknown.unknown == 1
    assert to_nothing.tokens == 1 and to_nothing.log_probability < 0


def test_a_source_is_scored_as_far_as_it_is_translated(translator: Translator) -> None:
    limit = translator.config.decoding.max_source_length
    words = ["the", "red", "apple"] * 400
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


def test_whole_words_are_banned_and_required_of_subwords(tmp_path: Path) -> None:
    words = {"dog": "hund", "dogs": "hunde", "air": "luft", "balloon": "luftballon", "green": "grün", "a": "ein"}
    choose = random.Random(3)
    lines = [choose.choices(list(words), k=choose.randint(1, 5)) for _ in range(200)]
    for side, rows in (("source", lines), ("target", [[words[word] for word in line] for line in lines])):
        (tmp_path / side).write_text("".join(" ".join(row) + "\n" for row in rows), encoding="utf-8")
    files = {"source": str(tmp_path / "source"), "target": str(tmp_path / "target")}
    settings = config(
        files, tokenizer={"kind": "bpe", "vocab_size": 300}, training={"max_epochs": 12, "learning_rate": 0.02}
    )
    train(settings, tmp_path / "run")
    translator = Translator.from_runs([tmp_path / "run"], device="cpu")
    asked = [" ".join(line) for line in lines[:25]]

    def has(text: str, word: str) -> bool:
        return re.search(rf"(?<!\w){word}(?!\w)", text) is not None

    for word in ("hund", "luft", "grün"):
        for beam in (1, 4):
            found = translator.translate(asked, required=[word], beam=beam)
            assert all(has(each.best, word) for each in found)
            assert not any(each.unmet for each in found)
        found = translator.translate(asked, banned=[word], beam=4)
        assert not any(has(each.best, word) for each in found)
    # What only begins with a banned word may stand.
    free = [each.best for each in translator.translate(asked, beam=4)]
    found = translator.translate(asked, banned=["hund"], beam=4)
    kept = [(a, b.best) for a, b in zip(free, found, strict=True) if has(a, "hunde") and not has(a, "hund")]
    assert kept and all(one == other for one, other in kept)
    with pytest.raises(ConfigError, match="cannot be drawn"):
        translator.translate(asked, required=["hund"], sampling=SamplingOptions())


@pytest.mark.parametrize("kind", ["character", "unigram"])
def test_words_of_other_tokenizers_are_whole_too(kind: str, tmp_path: Path) -> None:
    files = write_pairs(tmp_path, 60)
    settings = config(files, tokenizer={"kind": kind, "vocab_size": 300}, training={"max_epochs": 1})
    train(settings, tmp_path / "run")
    translator = Translator.from_runs([tmp_path / "run"], device="cpu")
    found = translator.translate(sentences(10, 3)[0], required=["Hund"], beam=3)
    assert all(re.search(r"(?<!\w)Hund(?!\w)", each.best) for each in found)


def test_one_string_is_no_list_of_sentences(translator: Translator) -> None:
    for call in (lambda: translator.translate("the cat"), lambda: translator.score("the cat", ["die Katze"])):
        with pytest.raises(TypeError, match="put it in a list"):
            call()


def test_a_scored_pair_is_aligned_by_its_own_words(translator: Translator) -> None:
    known, unknown = translator.score(["the red dog"] * 2, ["der rote Hund", "der zebra Hund"])
    assert [pair.split("-")[1] for pair in known.alignment.split()] == ["0", "1", "2"]
    assert sorted({pair.split("-")[1] for pair in unknown.alignment.split()}) == ["0", "1", "2"]


def test_no_source_is_in_training_and_validation(tmp_path: Path) -> None:
    pairs = [(f"s{number % 40}", f"t{number}") for number in range(120)]
    (tmp_path / "pairs.tsv").write_text("".join(f"{a}\t{b}\n" for a, b in pairs), encoding="utf-8")
    prepare_pairs(opened(config({"pairs": str(tmp_path / "pairs.tsv"), "validation_fraction": 0.25}), tmp_path / "run"))
    trained, valid = texts_of(tmp_path / "run")
    assert sorted(trained + valid) == sorted(pairs) and len({source for source, _ in valid}) == 10
    assert not {source for source, _ in trained} & {source for source, _ in valid}
    prepare_pairs(opened(config({"toy": "reverse"}), tmp_path / "toy"))
    made, held = texts_of(tmp_path / "toy")
    assert len(held) == 1000 and not set(made) & set(held)


def texts_of(run: Path) -> tuple[list[tuple[str, ...]], list[tuple[str, ...]]]:
    """Training and validation pairs of a run, as texts."""
    corpus, valid = open_pairs(opened(config({}), run))
    tokenizers = load_tokenizers(run)
    found = [
        tuple(each.decode(ids.tolist()) for each, ids in zip(tokenizers, corpus.pair(index), strict=True))
        for index in range(len(corpus))
    ]
    return found, [tuple(pair) for pair in valid]


def test_a_second_start_reads_no_text_and_says_what_became_of_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = config(write_pairs(tmp_path), training={"max_steps": 2})
    train(settings, tmp_path / "run")
    assert not list((tmp_path / "run" / "data").glob("texts*"))
    with monkeypatch.context() as patch:
        patch.setattr(PairReader, "__iter__", lambda reader: pytest.fail("the text is read again"))
        prepare_pairs(opened(settings, tmp_path / "run"))
        assert capsys.readouterr().err == ""
        with open(tmp_path / "source.txt", "a", encoding="utf-8") as file:
            file.write("the cat\n")
        (tmp_path / "valid_target.txt").unlink()
        longer = settings.model_copy(update={"training": settings.training.model_copy(update={"max_steps": 4})})
        assert train(longer, tmp_path / "run", resume=True).steps == 4
    said = capsys.readouterr().err
    assert re.search(
        r"recurra: \S+/source.txt was edited since: it had [\d,]+ bytes and has [\d,]+ now; training goes", said
    )
    assert re.search(
        r"recurra: \S+valid_target.txt can no longer be found \(No such file or directory\); training", said
    )
    assert said.count("training goes on with the data as prepared") == 2


def test_pairs_that_were_prepared_as_arrays_are_trained_on_alike(tmp_path: Path) -> None:
    # As it was done before there was a store.
    settings = config(write_pairs(tmp_path), training={"max_steps": 7, "save_every": 3}, data={"max_length_ratio": 2.0})
    longer = settings.model_copy(update={"training": settings.training.model_copy(update={"max_steps": 12})})
    for name in ("store", "arrays"):
        prepare_pairs(opened(settings, tmp_path / name))
        save_config(settings, tmp_path / name / "config.yaml")
        if name == "arrays":
            folder = tmp_path / name / "data"
            read, _ = read_pairs(settings.data.source, settings.data.target, None)
            corpus, _ = ParallelCorpus.of(read, *load_tokenizers(tmp_path / name)).kept(100, 2.0)
            for file in folder.glob("train.*"):
                file.unlink()
            corpus.save(folder / "train.npz")
        for each in (settings, longer):
            train(each, tmp_path / name, resume=True)
    assert {path.name for path in (tmp_path / "arrays" / "data").glob("train.*")} == {"train.npz"}
    weights = [load_file(tmp_path / name / "model.safetensors") for name in ("store", "arrays")]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert numbers(tmp_path / "store")[-1]["loss"] == numbers(tmp_path / "arrays")[-1]["loss"]


def test_words_of_toys_are_aligned_where_the_right_letter_stands() -> None:
    def answer(source: str, pharaoh: str) -> Translation:
        pairs = [(int(a), int(b)) for a, b in (pair.split("-") for pair in pharaoh.split())]
        return Translation(source, [TranslatedText("", -1.0, -1.0, len(pairs), pairs)])

    answers = [answer("a b c", "2-0 1-1 0-2"), answer("a b", "0-0 0-1"), answer("a", "")]
    assert aligned(answers, "reverse") == 4 / 5 and aligned(answers, "copy") == 2 / 5


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


def test_a_copied_unknown_word_is_one_of_the_source_s_unknown_words(translator: Translator) -> None:
    tokenizers = translator.source_tokenizer, translator.target_tokenizer
    unknown = translator.target_tokenizer.unk_id
    assert unknown is not None
    weights = torch.tensor([[0.5, 0.1, 0.3, 0.1], [0.0, 0.0, 0.0, 1.0]])
    for copies, word in ((False, "the"), (True, "ibex")):
        writer = TranslationWriter(*tokenizers, replace_unknown=True, copies=copies)
        assert writer.write("the zebra ibex", Hypothesis([unknown], -1.0, -1.0, weights)).text == word
        assert writer.write("the cat dog", Hypothesis([unknown], -1.0, -1.0, weights)).text == "the"
        # Each for itself, at the place that its own step attended to.
        two = torch.tensor([[0.1, 0.6, 0.2, 0.1], [0.1, 0.2, 0.6, 0.1], [0.0, 0.0, 0.0, 1.0]])
        assert writer.write("the zebra ibex", Hypothesis([unknown] * 2, -1.0, -1.0, two)).text == "zebra ibex"


@pytest.mark.parametrize("kind", ["word", "whitespace", "character", "bpe"])
def test_tokens_are_copied_as_those_of_the_same_text(kind: str) -> None:
    settings = TranslationTokenizerConfig(kind=kind, vocab_size=270 if kind == "bpe" else 100)
    source = SentenceTokenizer.train(["the year 1984 was b", "the dog , 22"], settings)
    target = SentenceTokenizer.train(["das jahr 1984 war", "1984 , der hund"], settings)
    copies = copied_as(source, target).tolist()
    assert len(copies) == source.vocab_size and copies[source.eos_id] == target.eos_id
    if target.unk_id is not None and source.unk_id is not None:
        assert copies[source.unk_id] == target.unk_id
    words = {"word": ["1984", ","], "whitespace": ["1984", ","], "character": list("198,"), "bpe": ["1984", ","]}[kind]
    for word in words:
        own, theirs = source.encode(word).tolist(), target.encode(word).tolist()
        if len(own) == len(theirs) == 1:
            assert copies[own[0]] == theirs[0]
    specials = {target.eos_id, target.unk_id}
    texts = {target.tokenizer.token_bytes(token): token for token in range(target.vocab_size) if token not in specials}
    for token in set(range(source.vocab_size)) - {source.eos_id, source.unk_id}:
        assert copies[token] == texts.get(source.tokenizer.token_bytes(token), -1)
    assert -1 in copies and len(set(copies)) > 4


def test_a_name_unknown_to_both_vocabularies_is_copied_by_its_place(tmp_path: Path) -> None:
    files = write_pairs(tmp_path, 400)
    for name, path in files.items():
        lines = Path(path).read_text(encoding="utf-8").splitlines()
        kind = "v" if name.startswith("valid") else "t"
        # At another place than on the other side, so that its own place is no help.
        added = [f"{kind}name{n} {line}" if name.endswith("source") else f"{line} {kind}name{n}"
                 for n, line in enumerate(lines)]  # fmt: skip
        Path(path).write_text("".join(f"{line}\n" for line in added), encoding="utf-8")
    settings = config(
        files,
        tokenizer={"kind": "word", "min_count": 2, "joint": False},
        model={"tied": "decoder", "copy_source": True},
        training={"max_epochs": 20, "learning_rate": 0.02},
    )
    train(settings, tmp_path / "run")
    translator = Translator.from_runs([tmp_path / "run"], device="cpu")
    found = translator.translate(["vname7 the cat", "zanzibar a dog"], beam=2)
    assert [each.best for each in found] == ["der Katze vname7", "ein Hund zanzibar"]


def test_validation_translates_as_translate_does(tmp_path: Path) -> None:
    files = write_pairs(tmp_path, 300)
    # A name that occurs once is unknown, and is to be written as the source has it.
    for name, path in files.items():
        lines = Path(path).read_text(encoding="utf-8").splitlines()
        kind = "v" if name.startswith("valid") else "t"
        named = [f"{kind}name{number}" if number % 3 == 0 else line for number, line in enumerate(lines)]
        Path(path).write_text("".join(f"{line}\n" for line in named), encoding="utf-8")
    settings = config(
        files,
        tokenizer={"kind": "word", "min_count": 2, "joint": False},
        model={"tied": "decoder"},
        training={"max_epochs": 6, "select_by": "chrf", "learning_rate": 0.02},
    )
    train(settings, tmp_path / "run")
    translator = Translator.from_runs([tmp_path / "run"], device="cpu")
    assert "vname3" in [each.best for each in translator.translate(["vname3", "the cat"], beam=1)]
    best = max((n for n in numbers(tmp_path / "run") if n["kind"] == "valid"), key=lambda line: line["chrf"])
    found = translator.evaluate(files["valid_source"], files["valid_target"], beam=1)
    for name in ("bleu", "bleu_tokenized", "chrf", "exact", "length_ratio"):
        assert found[name] == best[name]


def test_references_are_compared_as_they_were_written(tmp_path: Path) -> None:
    """Cased, decomposed and spaced as the tokens would not write them; the signatures say where they are changed."""
    from sacrebleu.metrics import BLEU, CHRF

    settings = config(write_pairs(tmp_path), tokenizer={"lowercase": True}, training={"max_epochs": 8})
    train(settings, tmp_path / "lower")
    translator = Translator.from_runs([tmp_path / "lower"], device="cpu")
    sources, targets = sentences(12, 2)
    forms = {
        "cased": [target.upper() for target in targets],
        "decomposed": [unicodedata.normalize("NFD", target + " grüne") for target in targets],
        "spaced": [f"{target} 5 % / 10 %" for target in targets],
    }
    (tmp_path / "s").write_text("".join(f"{source}\n" for source in sources), encoding="utf-8")
    for name, references in forms.items():
        (tmp_path / "t").write_text("".join(f"{reference}\n" for reference in references), encoding="utf-8")
        files = (str(tmp_path / "s"), str(tmp_path / "t"))
        found = translator.evaluate(*files, output=tmp_path / "o", beam=1)
        texts = (tmp_path / "o").read_text(encoding="utf-8").splitlines()
        assert texts == [each.best for each in translator.translate(sources, beam=1)]
        assert found["bleu"] == BLEU(force=True).corpus_score(texts, [references]).score, name
        assert found["chrf"] == CHRF().corpus_score(texts, [references]).score, name
        assert found["signatures"]["bleu"] == "nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:" + sacre_version()
        other = translator.evaluate(*files, beam=1, references="normalized")
        assert other["bleu"] > found["bleu"], name
        for signature in other["signatures"].values():
            assert signature.endswith("|norm:nfc+lowercase+words")
    with pytest.raises(ConfigError, match="references: must be written or normalized, not both"):
        translator.evaluate(*files, references="both")


def test_validation_is_measured_on_the_references_as_they_were_written(tmp_path: Path) -> None:
    files = write_pairs(tmp_path)
    targets = Path(files["valid_target"]).read_text(encoding="utf-8")
    Path(files["valid_target"]).write_text(targets.upper(), encoding="utf-8")
    best = []
    for references in ("written", "normalized"):
        training = {"max_epochs": 4, "select_by": "chrf", "references": references}
        settings = config(files, tokenizer={"lowercase": True}, training=training)
        best.append(train(settings, tmp_path / references).measures["chrf"])
    assert best[0] < 5 < best[1]


def sacre_version() -> str:
    import sacrebleu

    return str(sacrebleu.__version__)


def test_an_output_has_a_line_for_each_source_line(translator: Translator, tmp_path: Path) -> None:
    sources, targets = sentences(6, 2)
    targets[1], sources[4] = "", ""
    for side, lines in (("s", sources), ("t", targets)):
        (tmp_path / side).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    files = (str(tmp_path / "s"), str(tmp_path / "t"))
    with pytest.raises(DataError, match=r"t:2: there is no sentence in this line; .* --empty-lines drop"):
        translator.evaluate(*files)
    found = translator.evaluate(*files, output=tmp_path / "o", empty_lines="drop", beam=1)
    assert (found["pairs"], found["dropped"]) == (4, 2)
    lines = (tmp_path / "o").read_text(encoding="utf-8").split("\n")
    assert lines == [*(each.best for each in translator.translate(sources, beam=1)), ""]
    assert lines[1] and not lines[4]
    # The measures are those of the four.
    whole = [0, 2, 3, 5]
    for side, part in (("s4", sources), ("t4", targets)):
        (tmp_path / side).write_text("".join(f"{part[at]}\n" for at in whole), encoding="utf-8")
    alone = translator.evaluate(str(tmp_path / "s4"), str(tmp_path / "t4"), beam=1)
    assert found | {"dropped": 0} == alone


def test_the_share_of_unknown_words_is_told(tmp_path: Path) -> None:
    files = write_pairs(tmp_path)
    target = Path(files["valid_target"])
    lines = target.read_text(encoding="utf-8").splitlines()
    target.write_text("".join(f"{line} quux\n" for line in lines), encoding="utf-8")
    expected = len(lines) / sum(len(line.split()) + 2 for line in lines)
    result = train(config(files), tmp_path / "run")
    assert result.measures["unknown_rate"] == pytest.approx(expected)
    assert all(n["unknown_rate"] == pytest.approx(expected) for n in numbers(tmp_path / "run") if n["kind"] == "valid")
    translator = Translator.from_runs([tmp_path / "run"], device="cpu")
    found = translator.evaluate(files["valid_source"], files["valid_target"], beam=1)
    assert found["unknown_rate"] == pytest.approx(expected)


def test_an_input_is_not_overwritten(translator: Translator, tmp_path: Path) -> None:
    files = write_pairs(tmp_path)
    target = Path(files["valid_target"])
    before = target.read_bytes()
    (tmp_path / "link").symlink_to(target)
    (tmp_path / "hard").hardlink_to(target)
    for output in (target, tmp_path / "link", tmp_path / "hard", tmp_path / "x" / ".." / target.name):
        (tmp_path / "x").mkdir(exist_ok=True)
        with pytest.raises(ConfigError, match="would destroy that; name another file"):
            translator.evaluate(files["valid_source"], files["valid_target"], output=output)
    pairs = tmp_path / "p.tsv"
    pairs.write_text("the cat\tder Katze\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="would destroy that"):
        translator.evaluate(pairs=str(pairs), output=pairs)
    assert target.read_bytes() == before and pairs.read_text(encoding="utf-8") == "the cat\tder Katze\n"


def test_words_of_tokenised_bleu_are_those_of_a_word_tokenizer(translator: Translator, tmp_path: Path) -> None:
    from sacrebleu.metrics import BLEU

    sources, targets = sentences(12, 2)
    for side, lines in (("s", sources), ("t", targets)):
        (tmp_path / side).write_text("".join(f"{line} .\n" for line in lines), encoding="utf-8")
    files = (str(tmp_path / "s"), str(tmp_path / "t"))
    found = translator.evaluate(*files, beam=1, references="normalized")
    texts = [each.best for each in translator.translate([f"{source} ." for source in sources], beam=1)]
    spaced = [" ".join(text.replace(".", " . ").split()) for text in texts]
    bleu = BLEU(lowercase=True, tokenize="none", smooth_method="none", force=True)
    assert found["bleu_tokenized"] == bleu.corpus_score(spaced, [[f"{target} ." for target in targets]]).score
    # Otherwise a last word with its full stop would be a word of its own.
    assert found["bleu_tokenized"] != bleu.corpus_score(texts, [[f"{target}." for target in targets]]).score
    written = translator.evaluate(*files, beam=1)
    assert written["bleu_tokenized"] == bleu.corpus_score(texts, [[f"{target} ." for target in targets]]).score


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
            ids = each.target_tokenizer.encode(" ".join([*target[:step], *target[step : step + 1]]))
            logs.append(_log_of(each, source, ids.tolist(), step))
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
        assert result.measures["exact"] == 1.0, model


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
    assert math.isfinite(result.best_loss) and "chrf" in result.measures
    dropped = json.loads((tmp_path / "run" / "data" / "dropped.json").read_text())
    held = [pair.source for pair in open_pairs(opened(config({}), tmp_path / "run"))[1]]
    trained = [each for each in sides[0] if each not in held]
    assert len(set(held)) == round(0.1 * len(set(sides[0]))) and len(held) + len(trained) == 150
    assert dropped["pairs"] == len(trained) + 1 and dropped["empty"] == 1
    assert dropped["kept"] + dropped["too_long"] == len(trained)
    source, target = load_tokenizers(tmp_path / "run")
    assert source.tokenizer != target.tokenizer
    assert recurra.load(tmp_path / "run").translate(["the cat"])[0].alternatives


@pytest.mark.parametrize("kind", ["bpe", "unigram", "character"])
def test_an_empty_line_is_an_empty_line_for_every_kind_of_token(kind: str, tmp_path: Path) -> None:
    size = {"bpe": 280, "unigram": 300, "character": 100}[kind]
    settings = config(
        write_pairs(tmp_path, 60), tokenizer={"kind": kind, "vocab_size": size}, training={"max_steps": 1}
    )
    train(settings, tmp_path / "run")
    translator = Translator.from_runs([tmp_path / "run"], device="cpu")
    found = translator.translate(["the cat", "", " \t ", "a dog"])
    assert [bool(each.alternatives) for each in found] == [True, False, False, True]
    assert found[1].best == found[2].best == "" and not found[1].unmet
    assert translator.score(["the cat"], [""])[0].tokens == 1
    for wrong in ({"required": [" "]}, {"banned": [""]}):
        with pytest.raises(ConfigError, match="has no tokens"):
            translator.translate(["the cat"], **wrong)  # type: ignore[arg-type]
    assert translator.translate(["the cat"], prefix=" ")[0].best == translator.translate(["the cat"])[0].best


@pytest.mark.parametrize("line", ['{"source": 3, "target": "b"}', '{"source": "a", "target": "\\ud800"}', "[]", ""])
def test_validation_pairs_that_are_no_text_are_prepared_again(line: str, tmp_path: Path) -> None:
    train(config(write_pairs(tmp_path), training={"max_steps": 1}), tmp_path / "run")
    path = tmp_path / "run" / "data" / "valid.jsonl"
    whole = path.read_text(encoding="utf-8")
    path.write_text(line and line + "\n", encoding="utf-8")
    with pytest.raises(RunError, match="prepare them again"):
        open_pairs(opened(config({}), tmp_path / "run"))
    train(config(write_pairs(tmp_path), training={"max_steps": 2}), tmp_path / "run", resume=True)
    assert path.read_text(encoding="utf-8") == whole


def test_dropped_validation_pairs_are_counted_and_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = write_pairs(tmp_path)
    for side in ("valid_source", "valid_target"):
        with open(files[side], "a", encoding="utf-8") as file:
            file.write("\n" if side == "valid_source" else "x\n")
    settings = config(files, data={"empty_lines": "drop"}, logging={"progress": True})
    prepare_pairs(opened(settings, tmp_path / "run"))
    told = json.loads((tmp_path / "run" / "data" / "dropped.json").read_text())
    assert told["valid_empty"] == 1 and told["empty"] == 0
    assert "1 of 13 validation pairs are left out: with an empty side." in capsys.readouterr().err


def test_the_objective_is_smoothed_cross_entropy_with_coverage(tmp_path: Path) -> None:
    settings = config(write_pairs(tmp_path), training={"label_smoothing": 0.2, "coverage_loss": 0.5})
    (tmp_path / "run").mkdir()
    task = prepare_task(opened(settings, tmp_path / "run"), Processes(settings.training))
    batch: PairBatch = next(task.batches.epoch(0))
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
from recurra.config.load import load_config
from recurra.training.training_run import train
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
    assert (result.best_loss, result.measures) == (expected.best_loss, expected.measures)
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
    with pytest.raises(ValueError, match="coverage_loss needs attention weights"):
        config(files, model={"attention": "none"}, training={"coverage_loss": 1.0})
    assert config(files, training={"select_by": "bleu_tokenized"}).training.select_by == "bleu_tokenized"
    with pytest.raises(ValueError, match="select_by bleu needs translations"):
        config(files, training={"select_by": "bleu", "translate_valid": 0})


def test_runs_of_other_kinds_are_told_apart(run: Path, tmp_path: Path) -> None:
    from recurra.systems.language_model.loading import load_model as load_language_model

    with pytest.raises(RunError, match="is a run of the task translation"):
        load_language_model(run)
    other = config(write_pairs(tmp_path, 40), tokenizer={"kind": "character"}, training={"max_steps": 1})
    train(other, tmp_path / "other")
    with pytest.raises(RunError, match="other tokenizers"):
        Translator.from_runs([run, tmp_path / "other"])
    with pytest.raises(RunError, match="no run directory was named"):
        Translator.from_runs([])


def test_sentences_come_from_anywhere_one_after_another(translator: Translator, tmp_path: Path) -> None:
    sources, targets = sentences(4, 3)
    expected = translator.translate(sources, beam=1)
    assert [each.best for each in translator.translate((one for one in sources), beam=1)] == [e.best for e in expected]
    (tmp_path / "lines").write_text("".join(f"{line}\n" for line in sources), encoding="utf-8")
    with open(tmp_path / "lines", encoding="utf-8") as file:
        assert [each.best for each in translator.translate(file, beam=1)] == [each.best for each in expected]
    assert translator.score(iter(sources), iter(targets)) == translator.score(sources, targets)
    for wrong in ({"banned": "Hund"}, {"required": "Hund"}):
        with pytest.raises(TypeError, match="takes a list of texts"):
            translator.translate(sources, **wrong)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="text 1 is of type NoneType, not a string"):
        translator.translate(["the cat", None])  # type: ignore[list-item]


def test_several_runs_are_loaded_together(run: Path, tmp_path: Path) -> None:
    together = recurra.load([run, str(run)], device="cpu")
    assert isinstance(together, Translator) and len(together.models) == 2
    with pytest.raises(RunError, match="no run directory was named"):
        recurra.load([])
    with pytest.raises(ConfigError, match="average must be 0 or more, not -1"):
        recurra.load(run, average=-1)
    (tmp_path / "text").write_text("the cat\n", encoding="utf-8")
    with pytest.raises(RunError, match="is a file, not a run directory"):
        recurra.load(tmp_path / "text")


def test_one_training_at_a_time_is_at_work_in_a_folder(tmp_path: Path) -> None:
    pytest.importorskip("fcntl")
    settings = config(write_pairs(tmp_path, 40), training={"max_epochs": 1})
    train(settings, tmp_path / "run")
    before = (tmp_path / "run" / "config.yaml").read_bytes()
    longer = config(write_pairs(tmp_path, 40), training={"max_epochs": 2})
    with hold_run(tmp_path / "run"), pytest.raises(RunError, match="another training is at work here"):
        train(longer, tmp_path / "run", resume=True)
    assert (tmp_path / "run" / "config.yaml").read_bytes() == before
    assert train(longer, tmp_path / "run", resume=True).stopped_because == "max_epochs"


def test_a_new_run_is_held_while_it_trains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("fcntl")
    refused: list[str] = []

    def prepare(run: Run, processes: Processes) -> Any:
        with pytest.raises(RunError) as caught, hold_run(run.path):
            pass
        refused.append(str(caught.value))
        return prepare_task(run, processes)

    monkeypatch.setattr("recurra.systems.translation.train.prepare_task", prepare)
    train(config(write_pairs(tmp_path, 40), training={"max_steps": 1}), tmp_path / "run")
    assert refused and "another training" in refused[0]


def test_translations_by_bytes_are_whole_characters(tmp_path: Path) -> None:
    files = write_pairs(tmp_path, 60)
    for name in ("target", "valid_target"):
        lines = Path(files[name]).read_text(encoding="utf-8").splitlines()
        hangul = [
            "".join(chr(0xAC00 + 37 * len(word) + 588 * (ord(word[0]) % 19)) for word in line.split()) for line in lines
        ]
        Path(files[name]).write_text("".join(f"{line}\n" for line in hangul), encoding="utf-8")
    settings = config(files, tokenizer={"kind": "bpe", "vocab_size": 262}, training={"max_steps": 3})
    train(settings, tmp_path / "run")
    translator = Translator.from_runs([tmp_path / "run"], device="cpu")
    drawn = translator.translate(
        ["the cat sees"] * 8, sampling=SamplingOptions(temperature=2.0), n_best=4, max_length=40
    )
    texts = [text for each in drawn for text in each.alternatives]
    ended = [text.text for text in texts if text.tokens < 40]
    assert ended and any(not text.isascii() for text in ended) and not any("\ufffd" in text for text in ended)
    # One that has to end may end inside a character, but is not broken before.
    assert not any("\ufffd" in text.text[:-1] for text in texts)
