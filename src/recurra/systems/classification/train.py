"""Training a classifier: from labelled texts to a run directory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...data.length_batches import LengthBatches, group_by_length
from ...measures.classification import fit_temperature, fit_thresholds, probabilities
from ...models.loss import smoothed_cross_entropy
from ...pictures.reliability import draw_reliability
from ...run.checkpoint import has_checkpoint
from ...run.directory import Run
from ...run.own_cell import model_settings
from ...training.processes import Processes
from ...training.randomness import seed_everything
from ...training.task import Evaluation, ExampleTask, Loss
from ...training.vectors import start_from_vectors
from .batches import TextBatch, padded
from .config import ClassificationConfig
from .data import TRAIN, VALID, TextStore, load_tokenizer, prepare_texts
from .judging import judge, nothing_known
from .labels import Labels
from .network import TextClassifier

__all__ = ["ClassificationTask", "prepare_task"]

RELIABILITY = "reliability.png"

_IGNORED = -100


class TextBatches(LengthBatches[TextBatch]):
    """Batches of texts that know their epoch."""

    def epoch(self, number: int) -> Iterator[TextBatch]:
        """The batches of one epoch; of the current one, those that are left."""
        for batch in super().epoch(number):
            yield batch._replace(epoch=number)


class ClassificationTask(ExampleTask):
    """Cross entropy of labels, or squared error of numbers, over batches of texts.

    Args:
        model: on `processes.device` already.
        train, valid: the texts.
        first: the token that leads each text.
        run_dir: where the reliability picture is drawn; None: nowhere.
    """

    def __init__(
        self,
        model: TextClassifier,
        config: ClassificationConfig,
        train: TextStore,
        valid: TextStore,
        labels: Labels,
        first: int,
        *,
        processes: Processes,
        run_dir: Path | None = None,
    ) -> None:
        self.model: nn.Module = model
        self._network = model
        self._config, self._labels, self._first = config, labels, first
        self._valid, self._processes, self._run_dir = valid, processes, run_dir
        training = config.training
        self.batches = TextBatches(
            train.lengths + 1,
            lambda chosen: self._batch(train, chosen),
            training.batch_tokens,
            seed=training.seed,
            rank=processes.rank,
            world_size=processes.world_size,
            noun="texts",
        )
        self._weights: Tensor | None = None
        if training.class_weights == "balanced":
            shares = np.maximum(train.shares, 1e-9)
            # All labels together weigh the same, with a mean of 1 over the texts; or presence as much as absence.
            weights = (1.0 - shares) / shares if labels.kind == "multi-label" else 1.0 / (len(shares) * shares)
            self._weights = torch.from_numpy(weights).float().to(processes.device)

    @property
    def header(self) -> Mapping[str, str]:
        """The sizes of vocabulary and output."""
        return {"vocab_size": str(self._network.vocab_size), "labels": str(self._labels.outputs)}

    def part_parameters(self) -> list[list[Tensor]]:
        """The parameters in parts of their own learning rates, from the output layers down."""
        training = self._config.training
        if training.layer_rate_decay == 1.0 and not training.gradual_unfreezing:
            return []
        return self._network.parts()

    def part_rates(self, epoch: int) -> list[float]:
        """Factors on the learning rate of each part (Howard & Ruder 2018, sections 3.2 and 3.3).

        Args:
            epoch: from 0.
        """
        training, count = self._config.training, self._config.model.num_layers + 2
        rates = [training.layer_rate_decay**-depth for depth in range(count)]
        trained = epoch + 1 if training.gradual_unfreezing else count
        return [rate if depth < trained else 0.0 for depth, rate in enumerate(rates)]

    def loss(self, model: nn.Module, batch: TextBatch) -> Loss:
        """The loss that is minimised, with label smoothing and weights of labels; reported without."""
        training = self._config.training
        frozen = training.gradual_unfreezing and batch.epoch == 0
        logits = model(batch.tokens, batch.lengths, frozen).float()
        kind, weights = self._labels.kind, self._weights
        if kind == "regression":
            squares = F.mse_loss(logits.squeeze(1), batch.target)
            return Loss(squares, squares.detach())
        if kind == "multi-label":
            # A weight is one of the label's presence, so that a rare label is not also easier to leave out.
            nats = F.binary_cross_entropy_with_logits(logits, batch.target, reduction="none", pos_weight=weights)
            plain = F.binary_cross_entropy_with_logits(logits.detach(), batch.target, reduction="none")
            return Loss(nats.sum(1).mean(), plain.sum(1).mean())
        if weights is None:
            return Loss(*smoothed_cross_entropy(logits, batch.target, training.label_smoothing, _IGNORED))
        plain = F.cross_entropy(logits.detach(), batch.target)
        smoothing = training.label_smoothing
        nats = F.cross_entropy(logits, batch.target, weights, label_smoothing=smoothing, reduction="none")
        # Not over the weights of the batch, by which a text that is alone in one would count as any other.
        return Loss(nats.mean(), plain)

    def evaluate(self) -> Evaluation:
        """The measures on the validation texts, of which each process reads a share; fits the temperature to them."""
        processes = self._processes
        found = processes.gather(self._logits(processes.rank, processes.world_size))
        order = np.argsort(np.concatenate([numbers for numbers, _ in found]))
        logits = np.concatenate([part for _, part in found])[order]
        _, targets = self._valid.take(range(len(self._valid)))
        empty = np.asarray(self._valid.lengths) == 0
        # What a text without tokens is answered says nothing about the network.
        told = targets.known & ~empty
        if told.any():
            self._calibrate(logits[told], targets.values[told])
        temperature, thresholds = self._calibration()
        logits[empty] = nothing_known(self._labels, self._network.prior.cpu().numpy(), temperature)
        verdict = judge(self._labels, logits, targets, temperature, thresholds)
        if verdict.reliability is not None and self._run_dir is not None and processes.is_main:
            draw_reliability(self._run_dir / RELIABILITY, verdict.reliability)
        return Evaluation(verdict.loss, verdict.measures, self._samples(verdict.answers))

    def _batch(self, store: TextStore, chosen: Iterable[int]) -> TextBatch:
        rows, targets = store.take(chosen)
        return TextBatch(*padded(rows, self._first), torch.from_numpy(targets.values))

    def _logits(self, rank: int, world_size: int) -> tuple[Any, Any]:
        """Numbers and logits of this process's share of the validation texts."""
        lengths = self._valid.lengths + 1
        groups = group_by_length(np.argsort(lengths, kind="stable"), lengths, self._config.training.batch_tokens)
        mine = groups[rank::world_size]
        logits = [np.empty((0, self._labels.outputs), np.float32)]
        for chosen in mine:
            tokens, counts = padded(self._valid.take(chosen)[0], self._first)
            logits.append(self._network(tokens.to(self._processes.device), counts).float().cpu().numpy())
        return np.concatenate([np.empty(0, np.int64), *mine]), np.concatenate(logits)

    def _calibrate(self, logits: npt.NDArray[Any], target: npt.NDArray[Any]) -> None:
        """Fit temperature and thresholds, which are kept with the weights."""
        if self._labels.kind == "regression":
            return
        self._network.temperature.fill_(fit_temperature(logits, target))
        if self._labels.kind == "multi-label":
            chances = probabilities(logits, self._calibration()[0], several=True)
            self._network.thresholds.copy_(torch.from_numpy(fit_thresholds(chances, target)))

    def _calibration(self) -> tuple[float, npt.NDArray[Any]]:
        return float(self._network.temperature), self._network.thresholds.cpu().numpy()

    def _samples(self, answers: Sequence[str]) -> list[Mapping[str, Any]]:
        count = min(self._config.training.samples, len(self._valid))
        samples: list[Mapping[str, Any]] = []
        for (text, labels, number), answer in zip(self._valid.examples(range(count)), answers, strict=False):
            right = f"{number:g}" if self._labels.kind == "regression" else ", ".join(labels)
            shown = f"  {text}\n  {'right':<6} {right}\n  {'answer':<6} {answer}"
            samples.append({"input": text, "right": right, "answer": answer, "text": shown})
        return samples


def prepare_task(run: Run, processes: Processes) -> ClassificationTask:
    """Everything that training needs: labels, tokenizer and texts in the run, made if they are missing, and a model.

    Raises:
        RunError: if something cannot be written.
        ConfigError: if the configuration cannot be used.
        DataError: if a text is missing, not UTF-8, or has no label.
    """
    config: ClassificationConfig = run.config
    settings = model_settings(run)
    # A small model without memory: what is wrong with its configuration is said before the long work begins.
    with torch.device("meta"):
        TextClassifier(2, 2, settings)
    if processes.is_main:
        prepare_texts(run)
    processes.wait()
    labels, tokenizer = Labels.load(run.path), load_tokenizer(run.path)
    train, valid = (TextStore(run.data / name, tokenizer.vocab_size, labels) for name in (TRAIN, VALID))
    # Every process starts from the same weights; the trainer then seeds each on its own.
    seed_everything(config.training.seed)
    model = TextClassifier(tokenizer.vocab_size, labels.outputs, settings).to(processes.device)
    model.prior.copy_(torch.tensor(train.shares))
    if config.data.vectors and processes.is_main and not has_checkpoint(run.checkpoints):
        start_from_vectors(model.embedding, tokenizer.tokenizer, config.data.vectors, "data.vectors")
    return ClassificationTask(
        model,
        config,
        train,
        valid,
        labels,
        tokenizer.eos_id,
        processes=processes,
        run_dir=run.path if config.logging.picture else None,
    )
