"""Training a recogniser: from recordings with their texts, or drawings with theirs, to a run directory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from ...data.length_batches import group_by_length
from ...errors import DataError
from ...run.directory import Run
from ...run.own_cell import model_settings
from ...training.processes import Processes
from ...training.randomness import seed_everything
from ...training.task import Evaluation, ExampleTask, Loss
from .augmenting import UtteranceFrames
from .batches import RecognitionBatch, RecognitionBatches, joined_labels, padded_frames
from .config import RecognitionConfig, SpeechConfig
from .data import UtteranceStore, prepare_utterances, speech_features
from .examples import Examples, RecognitionStore, fitting, tell_unknown
from .judging import Confidences, fit_confidence, judge, word_confidences
from .network import Recogniser
from .searching import Search
from .transcripts import Transcripts, load_transcripts

__all__ = ["RecognitionTask", "prepare_task"]


class _Heard(NamedTuple):
    """What was recognised in one validation example, with its loss in nats and the labels that this is the loss of."""

    place: int
    nats: float
    labels: int
    text: str
    words: list[tuple[str, float]]


class RecognitionTask(ExampleTask):
    """The loss of CTC or of a transducer over batches of examples.

    Args:
        model: on `processes.device` already.
        config: of the run.
        store: the examples.
        chosen: which of them are used, (examples,).
        transcripts: the labels.
        frames: makes frames of what the store holds.
    """

    def __init__(
        self,
        model: Recogniser,
        config: RecognitionConfig,
        store: RecognitionStore,
        chosen: npt.NDArray[np.bool_],
        transcripts: Transcripts,
        frames: Examples,
        *,
        processes: Processes,
    ) -> None:
        self.model: nn.Module = model
        self._network = model
        self._config, self._store, self._transcripts, self._frames = config, store, transcripts, frames
        self._processes = processes
        self._search = Search(config.decoding)
        self._train = np.flatnonzero(chosen & ~store.valid)
        self._valid = np.flatnonzero(chosen & store.valid)
        if not len(self._train) or not len(self._valid):
            raise DataError("No example is left to learn from, or none to validate on; give others.")
        training = config.training
        self.batches = RecognitionBatches(
            np.maximum(store.frames[self._train], 1),
            self._training_batch,
            training.batch_frames,
            seed=training.seed,
            rank=processes.rank,
            world_size=processes.world_size,
            noun="examples",
            setting="training.batch_frames",
        )

    @property
    def header(self) -> Mapping[str, str]:
        """The sizes of input and output."""
        return {"features": str(self._network.input_size), "labels": str(self._network.labels)}

    def loss(self, model: nn.Module, batch: RecognitionBatch) -> Loss:
        """Minus the log-probability of the labels, in nats per label."""
        nats = model(batch.frames, batch.lengths, batch.labels, batch.label_lengths)
        mean = nats.sum() / batch.weight
        return Loss(mean, mean.detach())

    def evaluate(self) -> Evaluation:
        """The measures on the validation data, of which each process reads a share; fits the confidences to them."""
        processes = self._processes
        parts = processes.gather(self._heard(processes.rank, processes.world_size))
        heard = sorted((each for part in parts for each in part), key=lambda each: each.place)
        references = [example.text for example in self._store.examples.take(each.place for each in heard)]
        confidences = word_confidences(self._transcripts, references, [each.words for each in heard])
        self._network.confidence.copy_(torch.tensor(_fitted(confidences)))
        slope, offset = self._network.confidence.tolist()
        texts = [each.text for each in heard]
        measures = judge(self._transcripts, references, texts, confidences, (slope, offset))
        labels = sum(each.labels for each in heard)
        return Evaluation(sum(each.nats for each in heard) / labels, measures, self._samples(references, texts))

    def _training_batch(self, chosen: npt.NDArray[np.int64]) -> RecognitionBatch:
        places = self._train[chosen]
        examples = self._store.examples.take(places)
        epoch = self.batches.drawn_epoch
        rows = [
            self._frames.changed(example.frames, epoch, int(place))
            for place, example in zip(places, examples, strict=True)
        ]
        return self._batch(rows, [example.text for example in examples])

    def _batch(self, rows: Sequence[npt.NDArray[np.float32]], texts: Sequence[str]) -> RecognitionBatch:
        return RecognitionBatch(*padded_frames(rows), *joined_labels(self._transcripts.encode_all(texts)))

    def _heard(self, rank: int, world_size: int) -> list[_Heard]:
        """What is recognised in this process's share of the validation data."""
        lengths = np.maximum(self._store.frames[self._valid], 1)
        order = np.argsort(lengths, kind="stable")
        groups = group_by_length(order, lengths, self._config.training.batch_frames)
        heard = []
        for group in groups[rank::world_size]:
            places = self._valid[group]
            examples = self._store.examples.take(places)
            rows = [self._frames.plain(example.frames) for example in examples]
            batch = self._batch(rows, [example.text for example in examples]).to(self._processes.device)
            frames, counts = self._network.frames(batch.frames, batch.lengths)
            nats = self._network.output.nats(frames, counts, batch.labels, batch.label_lengths)
            for row, place in enumerate(places):
                best = self._search(frames[: counts[row], row], self._network.output)[0]
                words = [(text, span.confidence) for text, span in self._transcripts.words(best.spans)]
                labels = max(1, int(batch.label_lengths[row]))
                heard.append(_Heard(int(place), float(nats[row]), labels, self._transcripts.decode(best.labels), words))
        return heard

    def _samples(self, references: Sequence[str], texts: Sequence[str]) -> list[Mapping[str, Any]]:
        samples: list[Mapping[str, Any]] = []
        for right, answer in list(zip(references, texts, strict=True))[: self._config.training.samples]:
            shown = f"  {'right':<6} {right}\n  {'answer':<6} {answer}"
            samples.append({"right": right, "answer": answer, "text": shown})
        return samples


def _fitted(confidences: Confidences) -> tuple[float, float]:
    return fit_confidence(confidences) if len(confidences.values) else (1.0, 0.0)


def prepare_task(run: Run, processes: Processes) -> RecognitionTask:
    """Everything that training needs: the tokenizer and the utterances in the run, made if they are missing; a model.

    Raises:
        RunError: if something cannot be written.
        ConfigError: if the configuration cannot be used, or what reads audio is not installed.
        DataError: if recordings cannot be used; all of them are named, up to ten of each kind.
    """
    config: SpeechConfig = run.config
    settings = model_settings(run)
    bins = config.features.bins
    # A small model without memory: what is wrong with its configuration is said before the long work begins.
    with torch.device("meta"):
        Recogniser(bins, 2, 0, settings)
    if processes.is_main:
        prepare_utterances(run)
    processes.wait()
    transcripts, store = load_transcripts(run.path), UtteranceStore(run)
    chosen = fitting(store, transcripts, config, max(config.augmentation.speeds))
    if processes.is_main:
        tell_unknown(store, transcripts)
    # Every process starts from the same weights; the trainer then seeds each on its own.
    seed_everything(config.training.seed)
    model = Recogniser(bins, transcripts.labels, transcripts.blank, settings).to(processes.device)
    frames = UtteranceFrames(config, speech_features(run))
    return RecognitionTask(model, config, store, chosen, transcripts, frames, processes=processes)
