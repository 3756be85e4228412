"""What the options of training, validation and search of a translation system promise, each by itself."""

from __future__ import annotations

import itertools
import json
import math
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from recurra.data.pair_corpus import ParallelCorpus
from recurra.data.token_batches import IGNORED, PairBatch, TokenBatches
from recurra.decoding.sampling import SamplingOptions
from recurra.errors import ConfigError
from recurra.measures.translation import measure
from recurra.run.checkpoint import load_checkpoint, unpack
from recurra.run.metrics import read_metrics
from recurra.systems.translation.answers import TranslatedText, Translation
from recurra.systems.translation.config import TranslationConfig, TranslationModelConfig
from recurra.systems.translation.data import load_tokenizers, open_pairs, prepare_pairs
from recurra.systems.translation.loading import build_model
from recurra.systems.translation.network import EncoderDecoder, EncoderDecoderOutput
from recurra.systems.translation.predict import Translator
from recurra.systems.translation.train import TranslationTask, prepare_task
from recurra.training.processes import Processes
from recurra.training.training_run import train

from .translations import WORDS, config, opened, sentences, write_pairs


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, TranslationConfig]:
    """A run directory with tokenizers and pairs, but without a model."""
    folder = tmp_path_factory.mktemp("options")
    settings = config(write_pairs(folder))
    prepare_pairs(opened(settings, folder / "run"))
    return folder / "run", settings


def untrained(prepared: tuple[Path, TranslationConfig], count: int = 1, **decoding: Any) -> Translator:
    """A system of so many models with random weights, sharp enough that they prefer some words, and never <unk>."""
    run, settings = prepared
    tokenizers = load_tokenizers(run)
    settings = settings.model_copy(update={"decoding": settings.decoding.model_copy(update=decoding)})
    models = []
    for number in range(count):
        torch.manual_seed(number)
        model = build_model(*tokenizers, settings.model)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.normal_(std=0.6)
            model.output_bias[tokenizers[1].unk_id] = -1000.0
        models.append(model)
    return Translator(models, tokenizers, settings)


def task_of(folder: Path, **sections: dict[str, Any]) -> TranslationTask:
    settings = config(write_pairs(folder), **sections)
    (folder / "run").mkdir()
    return prepare_task(opened(settings, folder / "run"), Processes(settings.training))


class Recording(nn.Module):
    """A model that keeps what it was given to stand before each target token."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.before: list[Tensor] = []

    def forward(self, source: Tensor, lengths: Tensor, before: Tensor, *wanted: Any) -> Any:
        self.before.append(before)
        return self.model(source, lengths, before, *wanted)


def with_constant_words(task: TranslationTask, shares: dict[int, float]) -> None:
    """Let a task's model give these tokens these probabilities, whatever came before."""
    with torch.no_grad():
        for name, parameter in task.model.named_parameters():
            parameter.zero_()
            if name == "output_bias":
                parameter.fill_(-1000.0)
                for token, share in shares.items():
                    parameter[token] = math.log(share)


def test_scheduled_sampling_feeds_the_model_s_own_draws_more_from_epoch_to_epoch(tmp_path: Path) -> None:
    share = 0.8
    task = task_of(tmp_path, training={"scheduled_sampling": share, "batch_tokens": 100_000})
    tokenizer = load_tokenizers(tmp_path / "run")[1]
    # English words, of which no German target has any.
    often, seldom = tokenizer.encode("the dog").tolist()
    with_constant_words(task, {often: 0.75, seldom: 0.25})
    torch.manual_seed(0)
    for epoch in range(1, 13):
        batch: PairBatch
        (batch,) = task.batches.epoch(epoch - 1)
        if epoch not in (1, 2, 5, 10, 12):
            continue
        recording = Recording(task.model)
        for _ in range(3):
            task.loss(recording, batch)
        seen = torch.stack(recording.before)
        assert (seen[:, 0] == tokenizer.eos_id).all()
        # The word before each token from the second on, where there is one.
        real = (batch.target[1:] != IGNORED).expand(3, -1, -1)
        fed, right = seen[:, 1:][real], batch.before[1:].expand(3, -1, -1)[real]
        drawn = (fed == often) | (fed == seldom)
        assert (fed[~drawn] == right[~drawn]).all()
        # Within four standard deviations of a binomial share.
        rate = share * min(epoch / 10, 1.0)
        assert abs(drawn.double().mean().item() - rate) < 4 * math.sqrt(rate * (1 - rate) / len(fed))
        count = int(drawn.sum())
        assert abs((fed == often).sum().item() / count - 0.75) < 4 * math.sqrt(0.75 * 0.25 / count)
        assert not torch.equal(seen[0], seen[1])


def test_without_scheduled_sampling_the_right_words_are_fed(tmp_path: Path) -> None:
    task = task_of(tmp_path)
    batch: PairBatch = next(task.batches.epoch(0))
    recording = Recording(task.model)
    task.loss(recording, batch)
    assert torch.equal(recording.before[0], batch.before)


def answers(sources: list[str], texts: list[str]) -> list[Translation]:
    return [
        Translation(source, [TranslatedText(text, -1.0, -1.0, len(text.split()))] if text else [])
        for source, text in zip(sources, texts, strict=True)
    ]


def test_the_best_length_ratio_is_the_one_nearest_to_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ratios = [2.0, 0.6, 1.1, 0.2, 1.3, 1.0, 1.0]
    left = iter(ratios)

    def translate(self: Translator, sources: list[str], **options: Any) -> list[Translation]:
        # A source has as many words as its reference.
        words = round(next(left) * sum(len(source.split()) for source in sources))
        return answers(sources, [" ".join(["der"] * words), *[""] * (len(sources) - 1)])

    monkeypatch.setattr(Translator, "translate", translate)
    training = {
        "select_by": "length_ratio", "max_steps": 20, "max_epochs": None, "evaluate_every": 2, "patience": 2,
        "samples": 0,
    }  # fmt: skip
    result = train(config(write_pairs(tmp_path), training=training), tmp_path / "run")
    # The third evaluation is best, the two after it are worse, and then patience ends.
    assert result.stopped_because == "patience" and result.steps == 10
    assert result.measures["length_ratio"] == pytest.approx(1.1, abs=0.02)
    best = load_checkpoint(tmp_path / "run" / "checkpoints", ("best",))
    assert best is not None and unpack(best.tensors, best.state)["step"] == 6
    lines = [line for line in read_metrics(tmp_path / "run" / "metrics.jsonl") if line["kind"] == "valid"]
    assert [line["length_ratio"] for line in lines] == pytest.approx(ratios[:5], abs=0.02)
    by_criterion = sorted(lines, key=lambda line: line["criterion"])
    assert [round(line["length_ratio"], 1) for line in by_criterion[:3]] == [1.1, 1.3, 0.6]


@pytest.mark.parametrize(("setting", "expected"), [(3, 3), (500, 12), (None, 12), (0, 0)])
def test_so_many_validation_pairs_are_translated_as_asked_for(
    setting: int | None, expected: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def translate(self: Translator, sources: list[str], **options: Any) -> list[Translation]:
        asked.extend(sources)
        return answers(sources, ["der"] * len(sources))

    monkeypatch.setattr(Translator, "translate", translate)
    task = task_of(tmp_path, training={"translate_valid": setting})
    found = task.evaluate()
    sources, targets = sentences(12, 2)
    assert asked == sources[:expected]
    assert ("exact" in found.measures) == (expected > 0)
    # The loss is that of all pairs in any case.
    with torch.no_grad():
        nats, tokens = task._nats()
    assert tokens == sum(len(target.split()) + 1 for target in targets)
    assert found.loss == pytest.approx(nats / tokens, rel=1e-6)


def test_bits_are_counted_over_the_characters_of_the_targets(tmp_path: Path) -> None:
    training = {"max_steps": 4, "max_epochs": None, "evaluate_every": 4, "translate_valid": 0}
    train(config(write_pairs(tmp_path), training=training, logging={"every_steps": 1}), tmp_path / "run")
    lines = read_metrics(tmp_path / "run" / "metrics.jsonl")
    for kind, (count, seed) in {"train": (150, 1), "valid": (12, 2)}.items():
        _, targets = sentences(count, seed)
        # A sentence's end counts as a token and as a character.
        tokens, characters = (sum(len(part) + 1 for part in parts) for parts in ([t.split() for t in targets], targets))
        chosen = [line for line in lines if line["kind"] == kind]
        assert chosen
        for line in chosen:
            expected = line["loss"] * tokens / characters / math.log(2)
            assert line["bits_per_character"] == pytest.approx(expected, rel=1e-9)


def distinct_pairs(folder: Path, count: int) -> tuple[dict[str, str], list[tuple[str, str]]]:
    """Files of pairs that are all different, on both sides, and the pairs."""
    pairs = [(f"the dog {'and ' * (number % 3)}x{number}", f"der Hund y{number}") for number in range(count)]
    for name, side in (("source", 0), ("target", 1)):
        (folder / name).write_text("".join(f"{pair[side]}\n" for pair in pairs), encoding="utf-8")
    return {name: str(folder / name) for name in ("source", "target")}, pairs


@pytest.mark.parametrize(("share", "count"), [(0.25, 10), (0.5, 20), (0.01, 1)])
def test_the_share_of_pairs_that_is_held_out_is_the_one_asked_for(share: float, count: int, tmp_path: Path) -> None:
    files, pairs = distinct_pairs(tmp_path, 40)
    prepare_pairs(opened(config(files, data={"validation_fraction": share}), tmp_path / "run"))
    corpus, valid = open_pairs(opened(config({}), tmp_path / "run"))
    assert len(valid) == count == len(set(valid) & set(pairs)) and len(corpus) == 40 - count
    # What is trained on is the rest.
    source, target = load_tokenizers(tmp_path / "run")
    kept = [corpus.pair(index) for index in range(len(corpus))]
    trained = {(source.decode(one.tolist()), target.decode(other.tolist())) for one, other in kept}
    assert trained == set(pairs) - set(valid)


def test_other_seeds_hold_out_other_pairs(tmp_path: Path) -> None:
    files, _ = distinct_pairs(tmp_path, 40)
    held = []
    for run, seed in enumerate((1, 1, 2)):
        prepare_pairs(opened(config(files, training={"seed": seed}), tmp_path / str(run)))
        held.append(open_pairs(opened(config({}), tmp_path / str(run)))[1])
    assert held[0] == held[1] != held[2]


@pytest.mark.parametrize(("ratio", "kept"), [(None, 5), (3.0, 5), (2.0, 3), (1.5, 1)])
def test_training_pairs_of_unlike_lengths_are_dropped_on_either_side(
    ratio: float | None, kept: int, tmp_path: Path
) -> None:
    lines = ["a b\tx y", "a\tx y", "a b\tx", "a\tx y z", "a b c d e f\tx y"]
    for name, text in (("pairs.tsv", "\n".join(lines) + "\n"), ("valid.tsv", "a\tx y z\n")):
        (tmp_path / name).write_text(text, encoding="utf-8")
    files = {"pairs": str(tmp_path / "pairs.tsv"), "valid_pairs": str(tmp_path / "valid.tsv")}
    prepare_pairs(opened(config(files, data={"max_length_ratio": ratio}), tmp_path / "run"))
    corpus, valid = open_pairs(opened(config({}), tmp_path / "run"))
    assert len(corpus) == kept and len(valid) == 1
    told = json.loads((tmp_path / "run" / "data" / "dropped.json").read_text())
    assert told["unlike_lengths"] == 5 - kept and told["kept"] == kept


@pytest.mark.parametrize("kind", ["reverse", "copy"])
def test_toys_are_validated_on_rows_that_were_not_trained_on(kind: str, tmp_path: Path) -> None:
    prepare_pairs(opened(config({}, data={"toy": kind}), tmp_path / "run"))
    corpus, valid = open_pairs(opened(config({}), tmp_path / "run"))
    source, _ = load_tokenizers(tmp_path / "run")
    trained = {corpus.pair(index)[0].tobytes() for index in range(len(corpus))}
    # Eight letters or more hardly ever come up twice.
    long = [pair for pair in valid if len(pair.source.split()) >= 8]
    assert len(long) > 100 and len(trained) > 10_000
    assert not any(source.encode(pair.source).tobytes() in trained for pair in long)
    step = -1 if kind == "reverse" else 1
    assert all(pair.target.split() == pair.source.split()[::step] for pair in valid)


def forced(model: EncoderDecoder, translator: Translator, source: str, target: list[int]) -> tuple[Tensor, Tensor]:
    """Probabilities (T + 1, V) after each token of a target, its end included, and weights (T + 1, S)."""
    eos = translator.target_tokenizer.eos_id
    read = torch.tensor([*translator.source_tokenizer.encode(source).tolist(), eos])
    with torch.no_grad():
        output = model(read[:, None], torch.tensor([len(read)]), torch.tensor([eos, *target])[:, None])
    assert output.weights is not None
    return output.logits[:, 0].double().softmax(-1), output.weights[:, 0]


SEARCHES: list[dict[str, Any]] = [
    {"beam": 1},
    {"beam": 3, "n_best": 3},
    {"sampling": SamplingOptions(), "n_best": 2, "seed": 7},
]


@pytest.mark.parametrize("search", SEARCHES, ids=str)
def test_models_decide_together_by_the_mean_of_their_probabilities_and_weights(
    search: dict[str, Any], prepared: tuple[Path, TranslationConfig]
) -> None:
    translator = untrained(prepared, 3)
    sources, _ = sentences(6, 8)
    eos = translator.target_tokenizer.eos_id
    for translation in translator.translate(sources, max_length=5, **search):
        for found in translation.alternatives:
            ids = translator.target_tokenizer.encode(" ".join(found.target_pieces[:-1])).tolist()
            assert len(ids) == found.tokens
            each = [forced(model, translator, translation.source, ids) for model in translator.models]
            together = torch.stack([probabilities for probabilities, _ in each]).mean(0)
            logs = [math.log(together[step, token]) for step, token in enumerate([*ids, eos])]
            assert found.log_probability == pytest.approx(sum(logs), abs=1e-5)
            assert found.weights is not None
            weights = torch.stack([weights for _, weights in each]).mean(0)
            np.testing.assert_allclose(found.weights, weights.numpy(), rtol=0, atol=1e-5)
            if search == {"beam": 1}:
                # No token of a greedy translation is less likely than another, but for the end at the greatest length.
                chosen = [*ids, eos][:5]
                assert together[: len(chosen)].argmax(-1).tolist() == chosen


def test_each_model_of_several_has_its_say(prepared: tuple[Path, TranslationConfig]) -> None:
    translator = untrained(prepared, 2)
    sources, _ = sentences(12, 8)

    def texts(models: list[EncoderDecoder]) -> list[str]:
        some = Translator(models, (translator.source_tokenizer, translator.target_tokenizer), translator.config)
        return [each.best for each in some.translate(sources, max_length=6)]

    first, second = translator.models
    together = texts([first, second])
    assert together != texts([first]) and together != texts([second]) and together == texts([second, first])


def test_a_seed_decides_what_is_drawn(prepared: tuple[Path, TranslationConfig]) -> None:
    translator = untrained(prepared)
    sources, _ = sentences(8, 3)
    drawn = [
        [each.best for each in translator.translate(sources, sampling=SamplingOptions(), seed=seed)]
        for seed in (0, 1, 2, 1)
    ]
    assert drawn[1] == drawn[3]
    # A model this unsure hardly writes a sentence twice.
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert sum(a != b for a, b in zip(drawn[one], drawn[other], strict=True)) >= 6


@pytest.mark.parametrize("beam", [1, 3])
def test_a_translation_is_at_most_the_configured_times_as_long_and_ten_tokens_more(
    beam: int, prepared: tuple[Path, TranslationConfig]
) -> None:
    for ratio in (0.5, 1.5, 3.0):
        translator = untrained(prepared, max_length_ratio=ratio)
        with torch.no_grad():
            translator.models[0].output_bias[translator.target_tokenizer.eos_id] = -1000.0
        for source in ("the", "the red apple", "a cat and a dog and a bird"):
            (found,) = translator.translate([source], beam=beam)
            assert found.alternatives[0].tokens == int(ratio * len(source.split())) + 10
        (found,) = translator.translate(["the cat"], beam=beam, max_length=4)
        assert found.alternatives[0].tokens == 4


@pytest.mark.parametrize("replaced", [True, False])
def test_unknown_words_are_replaced_where_the_configuration_says_so(
    replaced: bool, prepared: tuple[Path, TranslationConfig]
) -> None:
    translator = untrained(prepared, replace_unknown=replaced)
    with torch.no_grad():
        translator.models[0].output_bias[translator.target_tokenizer.unk_id] = 1000.0
    (found,) = translator.translate(["zebra"], beam=1, max_length=2)
    assert found.best == ("zebra zebra" if replaced else "<unk> <unk>")
    assert found.alternatives[0].alignment == [(0, 0), (0, 1)]


BOUND = 1 << 24
"""Numbers of the largest tensor that an evaluation may make, 64 MiB in single precision."""


@pytest.mark.parametrize(
    ("options", "source_length", "target_length"),
    [({"attention": "none"}, 3, 100_000), ({"attention": "additive"}, 3, 100_000), ({"hidden_size": 16}, 1500, 2000)],
    ids=str,
)
def test_a_long_pair_is_evaluated_in_parts_of_bounded_size(
    options: dict[str, Any], source_length: int, target_length: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    vocabulary, rows = 300, 2
    settings = TranslationModelConfig(**{"embedding_size": 4, "hidden_size": 4} | options)
    network = EncoderDecoder(vocabulary, vocabulary, settings).eval()
    taken: list[int] = []

    def step(tokens: Tensor, state: Any) -> EncoderDecoderOutput:
        taken.append(len(tokens))
        return EncoderDecoderOutput(torch.empty(0), None, state)

    monkeypatch.setattr(network, "step", step)
    source = torch.zeros((source_length, rows), dtype=torch.int64)
    target = torch.zeros((target_length, rows), dtype=torch.int64)
    for _ in network.chunks(source, torch.full((rows,), source_length), target):
        pass
    assert sum(taken) == target_length
    compared = 0 if settings.attention == "none" else source_length * settings.inner_size
    numbers = [rows * steps * max(vocabulary, compared) for steps in taken]
    assert len(numbers) > 1 and max(numbers) <= BOUND
    # Not smaller than they need be either.
    assert numbers[0] > BOUND / 2


@pytest.mark.parametrize("search", [{"beam": 4}, {"sampling": SamplingOptions(), "n_best": 4}], ids=str)
def test_long_sources_are_read_in_batches_of_bounded_size(
    search: dict[str, Any], prepared: tuple[Path, TranslationConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    translator = untrained(prepared)
    read: list[tuple[int, int]] = []
    encode = EncoderDecoder.encode

    def counted(self: EncoderDecoder, source: Tensor, lengths: Tensor) -> Any:
        read.append((source.shape[0], source.shape[1]))
        return encode(self, source, lengths)

    monkeypatch.setattr(EncoderDecoder, "encode", counted)
    found = translator.translate([" ".join(list(WORDS) * 80)] * 30, max_length=1, batch_size=30, **search)
    assert len(found) == 30 == sum(rows for _, rows in read)
    # The positions of all hypotheses of a batch.
    assert len(read) > 1 and max(4 * steps * rows for steps, rows in read) <= 1 << 16


def ngrams(text: str, order: int) -> Counter[str]:
    bare = "".join(text.split())
    return Counter(bare[at : at + order] for at in range(len(bare) - order + 1))


def test_chrf_is_that_of_characters_alone() -> None:
    """Popovic (2015): means of precision and of recall over 1 to 6 characters, recall being twice as heavy."""
    text, reference = "the red cats see a dog", "a dog sees the red cat"
    precisions, recalls = [], []
    for order in range(1, 7):
        own, wanted = ngrams(text, order), ngrams(reference, order)
        same = sum((own & wanted).values())
        precisions.append(same / sum(own.values()))
        recalls.append(same / sum(wanted.values()))
    precision, recall = sum(precisions) / 6, sum(recalls) / 6
    expected = 100 * 5 * precision * recall / (4 * precision + recall)
    assert measure([text], [reference]).chrf == pytest.approx(expected, rel=1e-9)


def lengths_of(batches: Iterator[PairBatch]) -> list[list[tuple[int, int]]]:
    """The longer side and the target of each pair, ends included, batch by batch."""
    found = []
    for batch in batches:
        targets = (batch.target != IGNORED).sum(0).tolist()
        found.append([(max(pair), pair[1]) for pair in zip(batch.lengths.tolist(), targets, strict=True)])
    return found


def test_a_batch_holds_pairs_of_like_lengths_of_the_longer_side() -> None:
    random = np.random.default_rng(6)
    sides = [random.integers(1, 30, 400) for _ in range(2)]
    starts = [np.concatenate([[0], np.cumsum(side)]) for side in sides]
    ids = [np.full(each[-1], 5, np.uint32) for each in starts]
    corpus = ParallelCorpus(ids[0], starts[0], ids[1], starts[1])
    batches = lengths_of(TokenBatches(corpus, 200, 0, 1, seed=3).epoch(0))
    assert sum(map(len, batches)) == 400 and all(max(batch)[0] * len(batch) <= 200 for batch in batches)
    ranges = sorted((min(batch), max(batch)) for batch in batches)
    # By the longer side and then the target, no batch reaches into the next.
    assert len(ranges) > 20 and all(one[1] <= other[0] for one, other in itertools.pairwise(ranges))


def test_bleu_counts_words_as_it_is_asked_to(tmp_path: Path) -> None:
    text, reference = "我们在学校看书", "我们在学校读书"
    # As one word each the two have nothing in common.
    assert measure([text], [reference]).bleu == pytest.approx(0.0, abs=1e-6)
    found = measure([text], [reference], tokenizer="zh")
    # 6 of 7 characters, 4 of 6 pairs, 3 of 5 triples, 2 of 4 fours (Papineni et al. 2002).
    assert found.bleu == pytest.approx(100 * (6 / 7 * 4 / 6 * 3 / 5 * 2 / 4) ** 0.25, rel=1e-6)
    assert "tok:zh" in found.signatures["bleu"]
    with pytest.raises(ConfigError, match="sacreBLEU's nothing cannot be used here; name another"):
        measure([text], [reference], tokenizer="nothing")
    settings = config(
        write_pairs(tmp_path, 40),
        training={"max_steps": 1, "bleu_tokenizer": "char", "translate_valid": 4},
    )
    train(settings, tmp_path / "run")
    translator = Translator.from_runs([tmp_path / "run"], device="cpu")
    files = (str(tmp_path / "valid_source.txt"), str(tmp_path / "valid_target.txt"))
    assert "tok:char" in translator.evaluate(*files, beam=1)["signatures"]["bleu"]
    assert "tok:intl" in translator.evaluate(*files, beam=1, bleu_tokenizer="intl")["signatures"]["bleu"]


def test_a_default_device_changes_nothing(prepared: tuple[Path, TranslationConfig]) -> None:
    translator = untrained(prepared, 2)
    sources = ["the red apple", "a dog"]

    def answers() -> list[object]:
        return [
            translator.translate(sources, beam=1),
            translator.translate(sources, beam=3, n_best=2, coverage_penalty=0.2, no_repeat=2),
            translator.translate(sources, beam=2, banned=["der"], required=["Hund"]),
            translator.translate(sources, prefix="der", sampling=SamplingOptions(), seed=4, n_best=2),
            translator.score(sources, ["der rote Apfel", "ein Hund"]),
        ]

    expected = repr(answers())
    # On which nothing could be read.
    with torch.device("meta"):
        assert repr(answers()) == expected
