"""Translation: from pairs of sentences to a trained run directory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...data.pair_corpus import ParallelCorpus
from ...data.parallel import Pair
from ...data.sentences import SentenceTokenizer
from ...data.token_batches import IGNORED, PairBatch, TokenBatches, collate, group_by_length
from ...measures.likelihood import likelihood
from ...measures.translation import exact, measure, require_sacrebleu
from ...pictures.attention import draw_attention
from ...run.checkpoint import has_checkpoint
from ...run.directory import Run
from ...run.own_cell import model_settings
from ...training.processes import Processes
from ...training.randomness import seed_everything
from ...training.task import Evaluation, ExampleTask, Loss
from ...training.vectors import start_from_vectors
from .answers import Translation
from .config import TranslationConfig
from .data import load_tokenizers, open_pairs, prepare_pairs
from .loading import build_model
from .network import EncoderDecoder
from .predict import Translator

__all__ = ["TranslationTask", "prepare_task"]

ATTENTION = "attention.png"


class TranslationTask(ExampleTask):
    """Teacher forcing over batches of pairs.

    Args:
        model: on `processes.device` already.
        train: this process's batches.
        valid: the validation pairs.
        tokenizers: of source and target.
        run_dir: where the attention of the first validation sentence is drawn; None: nowhere.
        characters_per_token: of the training targets.
    """

    def __init__(
        self,
        model: EncoderDecoder,
        config: TranslationConfig,
        train: TokenBatches,
        valid: Sequence[Pair],
        tokenizers: tuple[SentenceTokenizer, SentenceTokenizer],
        *,
        processes: Processes,
        characters_per_token: float,
        run_dir: Path | None = None,
    ) -> None:
        self.model: nn.Module = model
        self.config = config
        self.batches = train
        self._characters_per_token = characters_per_token
        self._network = model
        self._valid = list(valid)
        self._source, self._target = tokenizers
        self._corpus = ParallelCorpus.of(self._valid, *tokenizers)
        self._processes = processes
        self._run_dir = run_dir
        ids = self._corpus.target
        unknown = 0 if self._target.unk_id is None else int((ids == self._target.unk_id).sum())
        # Of the tokens that the loss is of, ends included.
        self._unknown = (
            {} if self._target.unk_id is None else {"unknown_rate": unknown / max(len(ids) + len(self._corpus), 1)}
        )

    @property
    def header(self) -> Mapping[str, str]:
        """The sizes of both vocabularies."""
        sizes = {"source": self._network.source_size, "target": self._network.target_size}
        return {f"{side}_vocab_size": str(size) for side, size in sizes.items()}

    def loss(self, model: nn.Module, batch: PairBatch) -> Loss:
        """Cross entropy with label smoothing, and what coverage adds to it; reported without either."""
        training = self.config.training
        before = self._scheduled(batch)
        objective, nats, weights = model(batch.source, batch.lengths, before, batch.target, training.label_smoothing)
        if training.coverage_loss and weights is not None:
            objective = objective + training.coverage_loss * coverage_loss(weights.float(), batch.target != IGNORED)
        return Loss(objective, nats.detach())

    def evaluate(self) -> Evaluation:
        """The loss, of which each process works out a share, and on the main process translations and their worth."""
        processes, training = self._processes, self.config.training
        nats, tokens = processes.total(self._nats())
        loss = nats / tokens
        measures = likelihood(loss, tokens, self._corpus.characters) | self._unknown
        count = len(self._valid) if training.translate_valid is None else training.translate_valid
        pairs = self._valid[:count]
        if not pairs:
            return Evaluation(loss, measures)
        translations = self._translate(pairs) if processes.is_main else []
        found = self._measure(translations, pairs) if processes.is_main else {}
        return Evaluation(loss, measures | processes.gather(found)[0], self._samples(translations, pairs))

    def measures(self, loss: float) -> Mapping[str, float]:
        """Perplexity, and bits per character as if every token had as many characters as the mean one."""
        return likelihood(loss, 1.0, self._characters_per_token)

    def _scheduled(self, batch: PairBatch) -> Tensor:
        """What stands before each target token, some of it drawn from the model itself (Bengio et al. 2015).

        The draws are those of a first pass with the right words, so that the second runs over all steps at once too
        (Mihaylova & Martins 2019; Duckworth et al. 2019). Their share rises evenly over the first ten epochs.
        """
        rate = self.config.training.scheduled_sampling * min(1.0, (batch.epoch + 1) / 10)
        if rate == 0.0:
            return batch.before
        with torch.no_grad():
            logits = self._network(batch.source, batch.lengths, batch.before).logits[:-1]
            drawn = torch.distributions.Categorical(logits=logits.float()).sample()
        own = batch.before.clone()
        taken = torch.rand(drawn.shape, device=drawn.device) < rate
        own[1:] = torch.where(taken, drawn, own[1:])
        return own

    def _nats(self) -> tuple[float, int]:
        processes, corpus = self._processes, self._corpus
        lengths = np.maximum(corpus.source_lengths, corpus.target_lengths) + 1
        batches = group_by_length(np.argsort(lengths, kind="stable"), lengths, self.config.training.batch_tokens)
        total, tokens = 0.0, 0
        for chosen in batches[processes.rank :: processes.world_size]:
            batch = collate([corpus.pair(int(index)) for index in chosen], self._source.eos_id, self._target.eos_id)
            device = processes.device
            target, first = batch.target.to(device), 0
            for output in self._network.chunks(batch.source.to(device), batch.lengths, batch.before.to(device)):
                logits = output.logits.float()
                wanted = target[first : first + len(logits)].flatten()
                nats = F.cross_entropy(logits.flatten(0, 1), wanted, ignore_index=IGNORED, reduction="none")
                total += nats.cpu().double().sum().item()
                first += len(logits)
            tokens += batch.tokens
        return total, tokens

    def _translate(self, pairs: Sequence[Pair]) -> list[Translation]:
        translator = Translator([self._network], (self._source, self._target), self.config)
        # Greedily: a search costs several times as much and ranks the epochs alike.
        return translator.translate([pair.source for pair in pairs], beam=1, batch_size=128)

    def _measure(self, translations: Sequence[Translation], pairs: Sequence[Pair]) -> dict[str, float]:
        texts = [each.best for each in translations]
        references = [pair.target for pair in pairs]
        toy = self.config.data.toy
        if toy != "none":
            shares = {"exact": exact(texts, references)}
            return shares if self.config.model.attention == "none" else shares | {"aligned": aligned(translations, toy)}
        training = self.config.training
        form = self._target if training.references == "normalized" else None
        found = measure(texts, references, training.bleu_tokenizer, form)
        return {name: getattr(found, name) for name in ("bleu", "bleu_tokenized", "chrf", "exact", "length_ratio")}

    def _samples(self, translations: Sequence[Translation], pairs: Sequence[Pair]) -> list[Mapping[str, Any]]:
        samples: list[Mapping[str, Any]] = []
        for translation, pair in zip(translations[: self.config.training.samples], pairs, strict=False):
            lines = {"source": pair.source, "reference": pair.target, "translation": translation.best}
            best = translation.alternatives[0] if translation.alternatives else None
            if best is not None and best.weights is not None:
                lines["alignment"] = best.pharaoh
                if not samples and self._run_dir is not None and self.config.logging.picture:
                    draw_attention(self._run_dir / ATTENTION, best.weights, best.source_pieces, best.target_pieces)
            shown = "\n".join(f"  {name:<12} {value}" for name, value in lines.items())
            samples.append({**lines, "text": shown})
        return samples


def aligned(translations: Sequence[Translation], toy: str) -> float:
    """Share of the words of toy translations that attend most to the place where the right word stands.

    Args:
        translations: of rows of letters.
        toy: reverse or copy, which tells these places.
    """
    right = words = 0
    for translation in translations:
        length = len(translation.source.split())
        for source, target in translation.alternatives[0].alignment:
            right += source == (length - 1 - target if toy == "reverse" else target)
            words += 1
    return right / max(words, 1)


def coverage_loss(weights: Tensor, counted: Tensor) -> Tensor:
    """Mean over target tokens of sum_i min(a_i, c_i), c being the sum of the earlier a (See et al. 2017, equation 12).

    Args:
        weights: (T, B, S).
        counted: (T, B) bool, which target tokens are no padding.
    """
    before = weights.cumsum(0) - weights
    repeated = torch.minimum(weights, before).sum(-1)
    return (repeated * counted).sum() / counted.sum()


def prepare_task(run: Run, processes: Processes) -> TranslationTask:
    """Everything that training needs: tokenizers and pairs in the run, made if they are missing, and a model.

    Raises:
        RunError: if something cannot be written.
        ConfigError: if the configuration cannot be used.
        DataError: if a text is missing, not UTF-8, misaligned, or has an empty line.
    """
    config: TranslationConfig = run.config
    settings = model_settings(run)
    # A small model without memory: what is wrong with its configuration is said before the long work begins.
    with torch.device("meta"):
        EncoderDecoder(2, 2, settings)
    if config.training.translate_valid != 0 and config.data.toy == "none":
        require_sacrebleu(config.training.bleu_tokenizer)
    if processes.is_main:
        prepare_pairs(run)
    processes.wait()
    source, target = load_tokenizers(run.path)
    corpus, valid = open_pairs(run)
    corpus.require_below(source.vocab_size, target.vocab_size)
    # Every process starts from the same weights; the trainer then seeds each on its own.
    seed_everything(config.training.seed)
    model = build_model(source, target, settings).to(processes.device)
    if processes.is_main and not has_checkpoint(run.checkpoints):
        for embedding, tokenizer, name in (
            (model.source_embedding or model.target_embedding, source, "source_vectors"),
            (model.target_embedding, target, "target_vectors"),
        ):
            if path := getattr(config.data, name):
                start_from_vectors(embedding, tokenizer.tokenizer, path, f"data.{name}")
    batches = TokenBatches(
        corpus,
        config.training.batch_tokens,
        source.eos_id,
        target.eos_id,
        seed=config.training.seed,
        rank=processes.rank,
        world_size=processes.world_size,
    )
    return TranslationTask(
        model,
        config,
        batches,
        valid,
        (source, target),
        processes=processes,
        characters_per_token=corpus.characters / (corpus.target_tokens + len(corpus)),
        run_dir=run.path,
    )
