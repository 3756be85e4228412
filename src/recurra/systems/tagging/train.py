"""Training a tagger: from tagged sentences to a run directory."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from ...data.length_batches import LengthBatches, group_by_length
from ...data.spans import convert
from ...measures.spans import span_scores
from ...run.checkpoint import has_checkpoint
from ...run.directory import Run
from ...run.own_cell import model_settings
from ...training.processes import Processes
from ...training.randomness import seed_everything
from ...training.task import Evaluation, ExampleTask, Loss
from ...training.vectors import start_from_vectors
from .batches import EncodedSentence, SentenceBatch, collate
from .config import TaggingConfig
from .data import TRAIN, VALID, SentenceStore, opened_readers, prepare_sentences
from .loading import new_network
from .network import Tagger
from .readers import ReaderNetwork, take_weights
from .vocabulary import UNKNOWN, Vocabulary

__all__ = ["TaggingTask", "prepare_task"]


class TaggingTask(ExampleTask):
    """The negative log-likelihood of tags over batches of sentences.

    Args:
        model: on `processes.device` already.
        train, valid: the sentences.
    """

    def __init__(
        self,
        model: Tagger,
        config: TaggingConfig,
        train: SentenceStore,
        valid: SentenceStore,
        vocabulary: Vocabulary,
        *,
        processes: Processes,
    ) -> None:
        self.model: nn.Module = model
        self._network = model
        self._config, self._vocabulary = config, vocabulary
        self._valid, self._processes = valid, processes
        training = config.training
        self.batches = LengthBatches(
            train.lengths,
            lambda chosen: collate(train.take(chosen)),
            training.batch_tokens,
            seed=training.seed,
            rank=processes.rank,
            world_size=processes.world_size,
            noun="sentences",
        )
        alpha = training.unknown_words
        occurrences = torch.from_numpy(vocabulary.occurrences)
        self._forgotten = (alpha / (alpha + occurrences).clamp(min=1e-9)).to(processes.device)

    @property
    def header(self) -> Mapping[str, str]:
        """The sizes of the vocabulary."""
        found = {"words": self._vocabulary.word_count, "characters": self._vocabulary.character_count}
        return {name: str(size) for name, size in found.items()}

    def loss(self, model: nn.Module, batch: SentenceBatch) -> Loss:
        """Nats a word, with some words taken for unknown ones."""
        words = batch.words
        if self._config.training.unknown_words:
            forgotten = torch.rand(words.shape, device=words.device) < self._forgotten[words]
            words = words.masked_fill(forgotten, UNKNOWN)
        nats = model(batch._replace(words=words), batch.tags)
        return Loss(nats, nats.detach())

    def evaluate(self) -> Evaluation:
        """The loss and how many tags are right, of which each process works out a share."""
        processes = self._processes
        found = processes.gather(self._chosen(processes.rank, processes.world_size))
        nats, counted = (sum(part[place] for part in found) for place in (0, 1))
        tags: dict[int, list[list[int]]] = {}
        for _, _, part in found:
            tags |= part
        right, words, unknown, whole = np.zeros(len(self._vocabulary.tags)), 0, np.zeros(2), 0
        numbers = range(len(self._valid))
        sentences = self._valid.take(numbers)
        for number, (sentence, written) in enumerate(zip(sentences, self._valid.words(numbers), strict=True)):
            same = sentence.tags == np.array(tags[number]).T
            right += same.sum(axis=0)
            words += len(same)
            whole += int(same.all(axis=1).sum())
            strange = np.array([not self._vocabulary.has_seen(word) for word in written])
            unknown += [same[strange, 0].sum(), strange.sum()]
        measures: dict[str, float | None] = {"accuracy": float(right[0]) / words}
        measures["unknown_accuracy"] = float(unknown[0] / unknown[1]) if unknown[1] else None
        if len(right) > 1:
            measures |= {"mean_accuracy": float(right.mean()) / words, "all_right": whole / words}
        measures["span_f1"] = self._span_f1(sentences, tags)
        loss = nats / counted if counted else float("nan")
        return Evaluation(loss, measures, self._samples(tags))

    def _span_f1(
        self, sentences: Sequence[EncodedSentence], tags: Mapping[int, Sequence[Sequence[int]]]
    ) -> float | None:
        """Of the first column whose tags mark spans; None if there is none."""
        names = list(self._vocabulary.tags)
        column = next((place for place, name in enumerate(names) if self._config.data.marks_spans(name)), None)
        if column is None:
            return None
        gold = [self._names(column, sentence.tags[:, column].tolist()) for sentence in sentences]
        chosen = [self._names(column, tags[number][column]) for number in range(len(gold))]
        return span_scores(gold, chosen, self._config.data.learnt(names[column])).all.f1

    def _chosen(self, rank: int, world_size: int) -> tuple[float, int, dict[int, list[list[int]]]]:
        """Of this process's share of the validation: nats, words, and the tags of each column by sentence."""
        lengths = self._valid.lengths
        groups = group_by_length(np.argsort(lengths, kind="stable"), lengths, self._config.training.batch_tokens)
        total, words, found = 0.0, 0, {}
        for chosen in groups[rank::world_size]:
            batch = collate(self._valid.take(chosen)).to(self._processes.device)
            emissions = self._network(batch)
            nats, counted = self._network.nats(emissions, batch.tags, batch.lengths)
            total, words = total + float(nats), words + counted
            rows = [self._network.choose(column, each, batch.lengths) for column, each in enumerate(emissions)]
            for row, number in enumerate(chosen.tolist()):
                found[number] = [column[row] for column in rows]
        return total, words, found

    def _names(self, column: int, places: Iterable[int]) -> list[str]:
        """Tags by their names; one that is not known is outside of every span."""
        tags = list(self._vocabulary.tags.values())[column]
        return ["O" if place < 0 else tags[place] for place in places]

    def _samples(self, tags: Mapping[int, Sequence[Sequence[int]]]) -> list[Mapping[str, Any]]:
        count = min(self._config.training.samples, len(self._valid))
        samples: list[Mapping[str, Any]] = []
        data, first = self._config.data, next(iter(self._vocabulary.tags))
        for number, words in enumerate(self._valid.words(range(count))):
            names = self._names(0, tags[number][0])
            if data.marks_spans(first):
                names = convert(names, data.learnt(first), data.scheme)
            shown = "  " + " ".join(f"{word}/{tag}" for word, tag in zip(words, names, strict=True))
            samples.append({"words": words, "tags": names, "text": shown})
        return samples


def prepare_task(run: Run, processes: Processes) -> TaggingTask:
    """Everything that training needs: vocabulary and sentences in the run, made if they are missing, and a model.

    Raises:
        RunError: if something cannot be written.
        ConfigError: if the configuration cannot be used.
        DataError: if a file is missing, not UTF-8, or not of its format.
    """
    config: TaggingConfig = run.config
    settings = model_settings(run)
    # A small model without memory: what is wrong with its configuration is said before the long work begins.
    with torch.device("meta"):
        Tagger(2, 2, {"tags": ["O"]}, settings)
    if processes.is_main:
        prepare_sentences(run)
    processes.wait()
    vocabulary = Vocabulary.load(run.path)
    train, valid = (SentenceStore(run.data / name, vocabulary) for name in (TRAIN, VALID))
    # Every process starts from the same weights; the trainer then seeds each on its own.
    seed_everything(config.training.seed)
    model = new_network(vocabulary, settings, config.data).to(processes.device)
    if processes.is_main and not has_checkpoint(run.checkpoints):
        if config.data.vectors:
            start_from_vectors(model.word_embedding, ("", *vocabulary.known), config.data.vectors, "data.vectors")
        for reader, (_, other) in zip(model.readers, opened_readers(config.data), strict=True):
            assert isinstance(reader, ReaderNetwork)
            take_weights(reader, other)
    return TaggingTask(model, config, train, valid, vocabulary, processes=processes)
