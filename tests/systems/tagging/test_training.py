"""A tagger is trained, resumed, saved, loaded and asked."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

import recurra
from recurra.data.tagged import TaggedReader, rewritten
from recurra.errors import ConfigError, DataError, RunError
from recurra.run.directory import open_run, read_run
from recurra.run.metrics import read_metrics
from recurra.run.weights import read_weights
from recurra.systems.tagging.predict import TaggerPredictor
from recurra.systems.tagging.train import prepare_task
from recurra.training.processes import Processes
from recurra.training.training_run import train

from .tagged import config, write_columns, write_conllu


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tagger")
    train(config(write_conllu(folder, 150)), folder / "run")
    return folder / "run"


@pytest.fixture(scope="module")
def spans(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tagger of spans that learns bioes from bio."""
    folder = tmp_path_factory.mktemp("spans")
    data = {"scheme": "bio", "learn": "bioes"}
    train(config(write_columns(folder, 150), data=data | {"train": [str(folder / "texts.bio")]}), folder / "run")
    return folder / "run"


def valid(run: Path) -> list[dict[str, Any]]:
    return [record for record in read_metrics(run / "metrics.jsonl") if record["kind"] == "valid"]


def test_it_learns_and_answers(run: Path) -> None:
    assert valid(run)[-1]["accuracy"] == 1.0
    model = recurra.load(run)
    assert isinstance(model, TaggerPredictor) and model.columns == ("upos",)
    # "can" is told by its neighbour, and a word that was never seen by its letters.
    found = model.tag([["the", "can", "can", "."], ["the", "dog", "zoing", "."], []])
    assert [answer.tags["upos"] for answer in found] == [
        ("DET", "NOUN", "VERB", "PUNCT"), ("DET", "NOUN", "VERB", "PUNCT"), (),
    ]  # fmt: skip


@pytest.mark.parametrize("model", [{"output": "softmax"}, {"characters": "convolution"}, {"characters": "none"}])
def test_other_networks_learn_too(tmp_path: Path, model: dict[str, str]) -> None:
    train(config(write_conllu(tmp_path, 120), model=model), tmp_path / "run")
    assert valid(tmp_path / "run")[-1]["accuracy"] > 0.95


def test_an_answer_does_not_depend_on_its_company(run: Path) -> None:
    model = recurra.load(run)
    sentences = [list(sentence.words) for sentence in TaggedReader(run.parent / "texts.conllu", ["upos"])][:40]
    together = model.tag(sentences, n_best=3, marginals=True)
    for words, answer in zip(sentences, together, strict=True):
        (alone,) = model.tag([words], n_best=3, marginals=True)
        assert alone.tags == answer.tags
        assert alone.probabilities["upos"] == pytest.approx(answer.probabilities["upos"], abs=1e-5)
        for one, other in zip(alone.alternatives["upos"], answer.alternatives["upos"], strict=True):
            assert one.log_probability == pytest.approx(other.log_probability, abs=1e-4)


def test_ways_and_probabilities(run: Path) -> None:
    (answer,) = recurra.load(run).tag([["the", "can", "."]], n_best=64, marginals=True)
    ways = answer.alternatives["upos"]
    # All ways of three words and four tags.
    assert len(ways) == 64 and ways[0].tags == answer.tags["upos"]
    assert sum(2.718281828459045**way.log_probability for way in ways) == pytest.approx(1, abs=1e-5)
    for place in range(3):
        right = sum(2.718281828459045**w.log_probability for w in ways if w.tags[place] == answer.tags["upos"][place])
        assert answer.probabilities["upos"][place] == pytest.approx(right, abs=1e-5)


def test_a_file_comes_back_with_other_tags_alone(run: Path, tmp_path: Path) -> None:
    path = Path(write_conllu(tmp_path, 20, seed=9))
    model = recurra.load(run)
    texts = []
    for sentence, answer in model.tag_sentences(model.reader([str(path)], None, None).pieces()):
        texts.append(sentence.text if answer is None else rewritten(sentence, dict(answer.tags)))
    assert "".join(texts) == path.read_text()  # all tags are right


def test_several_columns_are_learnt_together(tmp_path: Path) -> None:
    data = {"tags": ["upos", "feats"]}
    path = write_conllu(tmp_path, 150)
    train(config(path, data=data | {"train": [path]}, training={"max_epochs": 8}), tmp_path / "run")
    last = valid(tmp_path / "run")[-1]
    assert last["mean_accuracy"] > 0.99 and last["all_right"] > 0.98
    model = recurra.load(tmp_path / "run")
    (answer,) = model.tag([["the", "dog", "eats", "apple", "salad", "."]])
    assert answer.tags["upos"][1] == "NOUN" and answer.tags["feats"][3:5] == ("F=B-MEAL", "F=I-MEAL")
    assert model.evaluate(path)["feats"].all.share > 0.99


def test_spans_are_learnt_in_one_scheme_and_answered_in_another(spans: Path) -> None:
    assert valid(spans)[-1]["span_f1"] == 1.0
    model = recurra.load(spans)
    assert set(next(iter(model.vocabulary.tags.values()))) == {"B-MEAL", "E-MEAL", "O"}
    (answer,) = model.tag([["the", "dog", "eats", "apple", "salad", "."]])
    assert next(iter(answer.tags.values())) == ("O", "O", "O", "B-MEAL", "I-MEAL", "O")
    found = next(iter(model.evaluate(str(spans.parent / "texts.bio")).values()))
    assert found.spans is not None and found.spans.all.f1 == 1.0 and list(found.spans.types) == ["MEAL"]


@pytest.mark.parametrize("output", ["crf", "softmax"])
def test_no_answer_breaks_the_scheme(tmp_path: Path, output: str) -> None:
    """Not even of a network that has hardly learnt."""
    from recurra.data.spans import broken

    path = write_columns(tmp_path, 40)
    training = {"max_epochs": None, "max_steps": 1}
    sections: dict[str, Any] = {"data": {"train": [path], "scheme": "bio"}, "model": {"output": output}}
    train(config(path, **sections, training=training), tmp_path / "run")
    model = recurra.load(tmp_path / "run")
    answers = model.tag([[word] * 5 for word in ("apple", "salad", "dog", "eats", ".", "a", "b", "c")], n_best=4)
    for answer in answers:
        for name, tags in answer.tags.items():
            assert not broken(tags, "bio")
            assert not any(broken(way.tags, "bio") for way in answer.alternatives[name])


def test_a_resumed_training_is_the_same(tmp_path: Path) -> None:
    path = write_conllu(tmp_path, 60)
    # The cosine's fall follows from the bound, so a constant rate makes the halves alike.
    whole, half = (config(path, training={"max_epochs": epochs, "schedule": "constant"}) for epochs in (4, 2))
    train(whole, tmp_path / "one")
    train(half, tmp_path / "two")
    train(whole, tmp_path / "two", resume=True)
    one, two = (read_weights(read_run(tmp_path / name)) for name in ("one", "two"))
    assert one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


@pytest.mark.parametrize("characters", ["recurrent", "convolution"])
def test_every_parameter_gets_a_gradient(tmp_path: Path, characters: str) -> None:
    settings = config(write_conllu(tmp_path, 30), model={"num_layers": 2, "characters": characters, "cell": "gru"})
    task = prepare_task(open_run(tmp_path / "run", settings, resume=False), Processes(settings.training))
    for batch in task.batches.epoch(0):
        task.loss(task.model, batch).objective.backward()
    for name, parameter in task.model.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().max() > 0, name


def test_what_is_saved_is_what_was_loaded(run: Path, tmp_path: Path) -> None:
    model = recurra.load(run)
    again = recurra.load(model.save(tmp_path / "saved"))
    sentences = [["the", "pear", "eats"], ["unheard"]]
    assert model.tag(sentences, n_best=2, marginals=True) == again.tag(sentences, n_best=2, marginals=True)


def test_word_vectors(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    vectors = tmp_path / "vectors.txt"
    vectors.write_text("pear 1 2 3 4 5 6 7 8\nDog 1 1 1 1 1 1 1 1\nthe 2 2 2 2 2 2 2 2\n")
    path = write_conllu(tmp_path, 40)
    settings = config(path, data={"train": [path], "vectors": str(vectors)})
    task = prepare_task(open_run(tmp_path / "run", settings, resume=False), Processes(settings.training))
    assert "vectors for 2 of" in capsys.readouterr().err
    row = task._vocabulary._word_ids["pear"]
    assert task._network.word_embedding.weight[row].tolist() == [1, 2, 3, 4, 5, 6, 7, 8]


def test_a_long_sentence_and_long_words(run: Path) -> None:
    model = recurra.load(run)
    words = ["the", "can", "can", "apple", "salad"] * 2000
    (answer,) = model.tag([words])
    assert len(answer.tags["upos"]) == 10_000
    (answer,) = model.tag([["x" * 100_000, "\u0000", "😀"]])
    assert len(answer.tags["upos"]) == 3


def test_wrong_calls_are_said(run: Path) -> None:
    model = recurra.load(run)
    for given, message in (
        (["the dog"], "sentence 0 is a text; give a list of its words"),
        ([["a"], ["b", 3]], "sentence 1 has a word of type int"),
        ([["a", ""]], "sentence 0 has an empty word"),
    ):
        with pytest.raises(TypeError, match=message):
            model.tag(given)
    with pytest.raises(ConfigError, match="n_best must be at least 1"):
        model.tag([["a"]], n_best=0)
    with pytest.raises(ConfigError, match="taggers do not answer together"):
        recurra.load([run, run])


@pytest.mark.parametrize(
    ("name", "text", "data", "message"),
    [
        (
            "a.bio",
            "a\tO\nb\tI-X\n\nc\tO\n",
            {"scheme": "bio"},
            r"a.bio:1: in the sentence that begins here no span is",
        ),
        ("a.bio", "a\tO\n\nb\n", {}, r"a.bio:3"),
        ("a.conllu", "1\ta\t_\tX\n", {}, r"a.conllu:1"),
        ("a.pdf", "a\tO\n", {}, r"a.pdf: its name does not tell what format it has"),
        ("a.jsonl", '{"words": ["a", "b"], "tags": ["X"]}\n', {}, r"a.jsonl:1"),
    ],
)
def test_what_cannot_be_learnt_is_said(
    tmp_path: Path, name: str, text: str, data: dict[str, Any], message: str
) -> None:
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(DataError, match=message):
        train(config(str(path), data=data | {"train": [str(path)]}), tmp_path / "run")
    assert not any((tmp_path / "run").iterdir())


def test_a_tag_that_only_validation_has_counts_as_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one, other = tmp_path / "a.bio", tmp_path / "b.bio"
    one.write_text("a\tX\nb\tY\n")
    other.write_text("a\tX\n\nc\tX\nd\tZ\n")
    data = {"train": [str(one)], "valid": [str(other)]}
    for output in ("crf", "softmax"):
        training = {"max_epochs": 30, "select_by": "accuracy"}
        train(config(str(one), data=data, training=training, model={"output": output}), tmp_path / output)
        assert "1 of 3 words (valid) have tags that no training sentence has" in capsys.readouterr().err
        found = valid(tmp_path / output)[-1]
        assert found["accuracy"] <= 2 / 3 and 0 < found["loss"] < 10


@pytest.mark.parametrize("how", ["to-b", "to-o"])
def test_broken_tags_are_repaired(tmp_path: Path, how: str) -> None:
    path = tmp_path / "a.bio"
    path.write_text("the\tO\nsalad\tI-MEAL\nis\tO\n\n" * 3 + "a\tB-MEAL\nb\tI-MEAL\nc\tO\n\n" * 3)
    data = {"train": [str(path)], "valid": [str(path)], "scheme": "bio", "repair": how}
    train(config(str(path), data=data, training={"max_epochs": 30}), tmp_path / "run")
    (answer,) = recurra.load(tmp_path / "run").tag([["the", "salad", "is"]])
    assert next(iter(answer.tags.values()))[1] == ("B-MEAL" if how == "to-b" else "O")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda tree: tree | {"words": tree["words"][:-1]}, "its words, counts and tags do not fit together"),
        (lambda tree: tree | {"tags": {}}, "its words, counts and tags do not fit together"),
        (lambda tree: tree | {"tags": {"upos": ["X"]}}, "the weights do not fit config.yaml and vocabulary.json"),
        (lambda tree: tree | {"min_count": "2"}, "vocabulary.json: is damaged"),
        (lambda tree: [tree], "vocabulary.json: is damaged"),
    ],
)
def test_a_damaged_vocabulary_is_said(run: Path, tmp_path: Path, damage: Any, message: str) -> None:
    shutil.copytree(run, tmp_path / "run", ignore=shutil.ignore_patterns("checkpoints"))
    path = tmp_path / "run" / "vocabulary.json"
    path.write_text(json.dumps(damage(json.loads(path.read_text()))))
    with pytest.raises(RunError, match=message):
        recurra.load(tmp_path / "run")


def test_a_resumed_training_keeps_its_words_and_tags(tmp_path: Path) -> None:
    """Prepared data that were lost are prepared again, but not from files whose tags are others."""
    path = Path(write_conllu(tmp_path, 40))
    settings = config(str(path), training={"max_epochs": 1})
    train(settings, tmp_path / "run")
    (tmp_path / "run" / "data" / "train.arrow").unlink()
    longer = config(str(path), training={"max_epochs": 2})
    train(longer, tmp_path / "run", resume=True)
    kept = (tmp_path / "run" / "vocabulary.json").read_bytes()
    (tmp_path / "run" / "data" / "train.arrow").unlink()
    path.write_text(path.read_text().replace("\tDET\t", "\tzDET\t"))
    with pytest.raises(RunError, match="the files have other words or tags now, or it was changed"):
        train(config(str(path), training={"max_epochs": 3}), tmp_path / "run", resume=True)
    assert (tmp_path / "run" / "vocabulary.json").read_bytes() == kept
    tree = json.loads(kept)
    tree["tags"]["upos"] = tree["tags"]["upos"][::-1]
    (tmp_path / "run" / "vocabulary.json").write_text(json.dumps(tree))
    path.write_text(path.read_text().replace("\tzDET\t", "\tDET\t"))
    with pytest.raises(RunError, match="the files have other words or tags now, or it was changed"):
        train(config(str(path), training={"max_epochs": 3}), tmp_path / "run", resume=True)


def test_the_last_column_is_known_by_its_number(tmp_path: Path) -> None:
    """In another file the last column may be another one."""
    path = write_columns(tmp_path, 60)
    train(config(path), tmp_path / "run")
    model = recurra.load(tmp_path / "run")
    assert model.columns == ("3",)
    other = tmp_path / "other.tsv"
    other.write_text("the\tDET\ndog\tNOUN\n")
    (sentence,) = model.reader([str(other)], None, None)
    (answer,) = model.tag([sentence.words])
    assert rewritten(sentence, dict(answer.tags)) == "the\tDET\tO\ndog\tNOUN\tO\n"


def test_one_column_marks_spans_and_another_does_not(tmp_path: Path) -> None:
    path = write_columns(tmp_path, 150)
    data = {"train": [path], "tags": ["2", "3"], "scheme": "bio", "span_columns": ["3"], "learn": "bioes"}
    train(config(path, data=data, training={"max_epochs": 8}), tmp_path / "run")
    assert valid(tmp_path / "run")[-1]["span_f1"] > 0.95
    (answer,) = recurra.load(tmp_path / "run").tag([["the", "dog", "eats", "apple", "salad", "."]])
    assert answer.tags["2"][:3] == ("DET", "NOUN", "VERB") and answer.tags["3"][3:5] == ("B-MEAL", "I-MEAL")
    with pytest.raises(ValueError, match="span_columns names 4, which tags does not"):
        config(path, data=data | {"span_columns": ["4"]})


@pytest.mark.parametrize("swapped", [False, True])
def test_files_of_two_formats_are_told_apart(tmp_path: Path, swapped: bool) -> None:
    files = [write_conllu(tmp_path, 8), str(tmp_path / "a.tsv")]
    Path(files[1]).write_text("the\tDET\npear\tNOUN\n\n" * 3)
    one, other = reversed(files) if swapped else files
    for data in ({"train": [one, other]}, {"train": [one], "valid": [other]}):
        with pytest.raises(DataError, match=r"^\S+ \((conllu|columns)\) and \S+ \((conllu|columns)\) have different"):
            train(config(one, data=data), tmp_path / "run")


def test_gold_that_breaks_its_scheme_is_mended_as_in_training(tmp_path: Path) -> None:
    path = tmp_path / "a.iob"
    path.write_text("the\tO\nsalad\tI-MEAL\nis\tO\n\n" * 3 + "a\tO\napple\tI-MEAL\n\n" * 3)
    for how in ("to-b", "error"):
        data = {"train": [str(path)], "valid": [str(path)], "scheme": "bio" if how == "to-b" else "iob1", "repair": how}
        train(config(str(path), data=data, training={"max_epochs": 40}), tmp_path / how)
        found = next(iter(recurra.load(tmp_path / how).evaluate(str(path)).values()))
        assert found.spans is not None and found.spans.all.f1 == 1.0


@pytest.mark.parametrize(("scheme", "letters"), [("bilou", "BLU"), ("bmes", "BES")])
def test_answers_are_in_the_scheme_of_the_files(tmp_path: Path, scheme: str, letters: str) -> None:
    first, last, single = letters
    path = tmp_path / "a.txt"
    path.write_text(f"the\tO\napple\t{first}-X\nsalad\t{last}-X\n\na\tO\npear\t{single}-X\nis\tO\n\n" * 4)
    data = {"train": [str(path)], "valid": [str(path)], "format": "columns", "scheme": scheme}
    train(config(str(path), data=data, training={"max_epochs": 40}), tmp_path / "run")
    model = recurra.load(tmp_path / "run")
    answers = model.tag([["the", "apple", "salad"], ["a", "pear", "is"]])
    assert [next(iter(answer.tags.values())) for answer in answers] == [
        ("O", f"{first}-X", f"{last}-X"), ("O", f"{single}-X", "O")
    ]  # fmt: skip
    found = next(iter(model.evaluate(str(path)).values()))
    assert found.spans is not None and found.spans.all.f1 == 1.0


def test_every_sentence_has_a_legal_row_of_tags(tmp_path: Path) -> None:
    """Training has spans of two words alone, and a sentence of one word none of them."""
    path = tmp_path / "a.bio"
    path.write_text("".join(f"{a}\tB-X\n{b}\tI-X\n\n" for a, b in (("a", "b"), ("c", "d"), ("e", "f"))))
    data = {"train": [str(path)], "scheme": "bio", "learn": "bioes"}
    train(config(str(path), data=data, training={"max_epochs": 1}), tmp_path / "run")
    (answer,) = recurra.load(tmp_path / "run").tag([["a"]])
    assert next(iter(answer.tags.values())) == ("O",)


def test_some_sentences_are_held_out_whatever_the_seed(tmp_path: Path) -> None:
    path = write_conllu(tmp_path, 8)
    for seed in range(6):
        settings = config(path, training={"seed": seed})
        task = prepare_task(open_run(tmp_path / str(seed), settings, resume=False), Processes(settings.training))
        assert len(task._valid) >= 1


def test_a_word_is_unknown_if_training_never_had_it(tmp_path: Path) -> None:
    path, other = write_conllu(tmp_path, 60), Path(write_conllu(tmp_path, 20, "valid.conllu", seed=9))
    other.write_text(other.read_text().replace("\tpear\t", "\tquince\t"))
    data = {"train": [path], "valid": [str(other)]}
    settings = config(path, data=data, vocabulary={"min_count": 1000})
    train(settings, tmp_path / "run")
    found = recurra.load(tmp_path / "run").evaluate(str(other))["upos"]
    assert found.unknown.total and found.unknown.share == pytest.approx(valid(tmp_path / "run")[-1]["unknown_accuracy"])


def test_words_may_hold_any_character(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    rows = [{"words": [f"a\x1f{n}", "b"], "tags": ["X", "Y"]} for n in range(6)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    train(config(str(path), training={"max_epochs": 1}), tmp_path / "run")
    assert valid(tmp_path / "run")[-1]["accuracy"] >= 0
