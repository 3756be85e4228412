"""Training and answering of a classifier and a tagger against the same networks on torch.nn with packing.

    python benchmarks/reading.py [--rounds 5] [--threads 2]

The networks on torch.nn start from the same weights, see the same batches with the same padding and dropout off, and
give the same loss, which is checked first. Lengths have a long tail, as reviews and sentences have. Then the time that
one text at a time takes, from the text to its label: its median and its 99th percentile.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from machine import busy_share, describe
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from recurra.config.load import load_config
from recurra.data.length_batches import LengthBatches
from recurra.systems.classification.batches import padded
from recurra.systems.classification.network import TextClassifier
from recurra.systems.tagging.batches import EncodedSentence, SentenceBatch, collate
from recurra.systems.tagging.network import Tagger

CONFIGS = Path(__file__).parents[1] / "configs"
TOKENS, LABELS, TAGS, LETTERS = 8000, 2, 17, 100


def lengths(count: int, seed: int) -> np.ndarray:
    """Of texts: half of them below 12, one in a hundred above 100."""
    return np.random.default_rng(seed).lognormal(np.log(12), 0.9, count).clip(1, 400).astype(np.int64)


def still(section: Any) -> Any:
    """A `model` section without dropout, whose random numbers would differ."""
    return section.model_copy(update={name: 0.0 for name in type(section).model_fields if name.endswith("dropout")})


def read(layers: nn.LSTM, embedded: Tensor, counts: Tensor) -> Tensor:
    packed = pack_padded_sequence(embedded, counts, enforce_sorted=False)
    return pad_packed_sequence(layers(packed)[0], total_length=len(embedded))[0]


def copy_layers(target: nn.LSTM, source: nn.Module) -> None:
    target.load_state_dict({name: value.detach().clone() for name, value in source.state_dict().items()})


class PlainClassifier(nn.Module):
    """What one writes by hand for `configs/classification.yaml`."""

    def __init__(self, ours: TextClassifier) -> None:
        super().__init__()
        config = ours.config
        self.embedding = nn.Embedding.from_pretrained(ours.embedding.weight.detach().clone(), freeze=False)
        self.recurrent = nn.LSTM(config.input_size, config.layer_sizes[0], config.num_layers, bidirectional=True)
        copy_layers(self.recurrent, ours.recurrent)
        self.output = nn.Linear(ours.output.in_features, LABELS)
        self.output.load_state_dict(ours.output.state_dict())

    def forward(self, tokens: Tensor, counts: Tensor) -> Tensor:
        outputs = read(self.recurrent, self.embedding(tokens), counts)
        outside = (torch.arange(len(tokens)).unsqueeze(1) >= counts).unsqueeze(-1)
        mean = outputs.sum(0) / counts.unsqueeze(1)
        return self.output(torch.cat([mean, outputs.masked_fill(outside, -torch.inf).amax(0)], dim=1))


class PlainTagger(nn.Module):
    """What one writes by hand for `configs/tagging.yaml` with output softmax."""

    def __init__(self, ours: Tagger) -> None:
        super().__init__()
        config = ours.config
        self.words = nn.Embedding.from_pretrained(ours.word_embedding.weight.detach().clone(), freeze=False)
        self.letters = nn.Embedding.from_pretrained(ours.character_embedding.weight.detach().clone(), freeze=False)  # type: ignore[union-attr]
        self.spelling = nn.LSTM(config.character_embedding_size, config.character_size, bidirectional=True)
        copy_layers(self.spelling, ours.spelling)  # type: ignore[arg-type]
        self.recurrent = nn.LSTM(config.word_size, config.hidden_size, config.num_layers, bidirectional=True)
        copy_layers(self.recurrent, ours.recurrent)
        self.output = nn.Linear(config.output_size, TAGS)
        self.output.load_state_dict(ours.outputs[0].state_dict())

    def forward(self, batch: SentenceBatch) -> Tensor:
        packed = pack_padded_sequence(self.letters(batch.characters), batch.sizes, enforce_sorted=False)
        spelt = torch.cat(tuple(self.spelling(packed)[1][0]), dim=-1)
        embedded = torch.cat([self.words(batch.words), spelt[batch.spelling]], dim=-1)
        return self.output(read(self.recurrent, embedded, batch.lengths))


def tag_loss(logits: Tensor, batch: SentenceBatch) -> Tensor:
    return F.cross_entropy(logits.flatten(0, 1), batch.tags.flatten(), ignore_index=-1)


def classifier_batches(bound: int) -> list[tuple[Tensor, Tensor, Tensor]]:
    choose, counts = np.random.default_rng(1), lengths(2000, 1)
    texts = [choose.integers(0, TOKENS, count) for count in counts]

    def made(chosen: np.ndarray) -> tuple[Tensor, Tensor, Tensor]:
        return (*padded([texts[i] for i in chosen], 0), torch.from_numpy(choose.integers(0, LABELS, len(chosen))))

    return list(LengthBatches(counts + 1, made, bound).epoch(0))


def tagger_batches(bound: int) -> list[SentenceBatch]:
    """Words are drawn as Zipf's law has them, so that a batch repeats the frequent ones; a word has its spelling."""
    choose, counts = np.random.default_rng(2), lengths(1000, 2)
    spelt = [choose.integers(1, LETTERS, choose.integers(1, 12)) for _ in range(TOKENS)]
    chances = 1 / np.arange(10, TOKENS + 10)
    sentences = []
    for count in counts:
        words = choose.choice(TOKENS, count, p=chances / chances.sum())
        letters = [spelt[word] for word in words]
        sizes = np.array([len(each) for each in letters])
        tags = choose.integers(0, TAGS, (count, 1))
        sentences.append(EncodedSentence(words, np.concatenate(letters), sizes, tags))
    return list(LengthBatches(counts, lambda chosen: collate([sentences[i] for i in chosen]), bound).epoch(0))


def in_turn(
    name: str,
    models: dict[str, nn.Module],
    loss: Callable[[nn.Module, Any], Tensor],
    batches: Sequence[Any],
    rounds: int,
) -> None:
    """Seconds of an epoch of training and of answering, each model in turn over the same batches."""
    with torch.no_grad():
        losses = {each: float(loss(model, batches[0])) for each, model in models.items()}
    one, other = losses.values()
    assert abs(one - other) < 1e-4 * abs(one), losses
    optimizers = {each: torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True) for each, model in models.items()}
    times: dict[str, dict[str, list[float]]] = {
        what: {each: [] for each in models} for what in ("training", "answering")
    }
    for number in range(rounds + 1):
        for each, model in models.items():
            began = time.perf_counter()
            for batch in batches:
                loss(model, batch).backward()
                nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                optimizers[each].step()
                optimizers[each].zero_grad(set_to_none=True)
            middle = time.perf_counter()
            with torch.inference_mode():
                for batch in batches:
                    loss(model, batch)
            if number:
                times["training"][each].append(middle - began)
                times["answering"][each].append(time.perf_counter() - middle)
    for what, found in times.items():
        medians = {each: statistics.median(seconds) for each, seconds in found.items()}
        ratio = statistics.median(b / a for a, b in zip(found["recurra"], found["torch.nn"], strict=True))
        print(f"{name:<10} {what:<10} " + "  ".join(f"{e} {s:.3f} s" for e, s in medians.items()) + f"  {ratio:.2f}x")


def one_at_a_time(model: nn.Module, name: str, answer: Callable[[nn.Module, int], None], count: int = 300) -> None:
    seconds = []
    with torch.inference_mode():
        for number in range(count + 20):
            began = time.perf_counter()
            answer(model, number)
            if number >= 20:
                seconds.append(time.perf_counter() - began)
    print(f"one text   {name:<10} median {1e3 * statistics.median(seconds):.2f} ms, "
          f"99th percentile {1e3 * float(np.percentile(seconds, 99)):.2f} ms")  # fmt: skip


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--threads", type=int, default=2)
    given = arguments.parse_args()
    torch.set_num_threads(given.threads)
    print(describe(), f"{given.threads} threads")
    print(f"other processes take {busy_share():.0%} of the machine")
    torch.manual_seed(1)

    config = load_config(CONFIGS / "classification.yaml")
    ours = TextClassifier(TOKENS, LABELS, still(config.model))
    texts = classifier_batches(config.training.batch_tokens)
    readers: dict[str, nn.Module] = {"recurra": ours, "torch.nn": PlainClassifier(ours)}
    in_turn("classifier", readers, lambda model, b: F.cross_entropy(model(b[0], b[1]), b[2]), texts, given.rounds)

    config = load_config(CONFIGS / "tagging.yaml")
    tagger = Tagger(TOKENS, LETTERS, {"tags": [str(i) for i in range(TAGS)]},
                    still(config.model).model_copy(update={"output": "softmax"}))  # fmt: skip
    sentences = tagger_batches(config.training.batch_tokens)

    def loss(model: nn.Module, b: SentenceBatch) -> Tensor:
        if isinstance(model, Tagger):
            return model(b, b.tags)
        return tag_loss(model(b), b)

    in_turn("tagger", {"recurra": tagger, "torch.nn": PlainTagger(tagger)}, loss, sentences, given.rounds)

    counts = lengths(320, 3)
    choose = np.random.default_rng(3)
    singles = [padded([choose.integers(0, TOKENS, count)], 0) for count in counts]
    for name, model in readers.items():
        one_at_a_time(model, name, lambda reader, number: reader(*singles[number]).softmax(-1).tolist())


if __name__ == "__main__":
    main()
