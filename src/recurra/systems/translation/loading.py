"""From a run directory of a translation system to its model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...data.sentences import SentenceTokenizer
from ...errors import ConfigError
from ...run.directory import Run, read_run
from ...run.own_cell import model_settings
from ...run.weights import load_weights
from .config import TranslationConfig, TranslationModelConfig
from .data import load_tokenizers
from .network import EncoderDecoder

__all__ = ["build", "build_model", "copied_as", "load_model", "network"]


def build(settings: TranslationModelConfig, source: int, target: int | None = None) -> EncoderDecoder:
    """A network with new weights.

    Args:
        settings: the `model` section.
        source, target: the numbers of tokens; None: one vocabulary for both.

    Raises:
        ConfigError: if the vocabularies do not fit the section.
    """
    return _fitting(source, source if target is None else target, settings, None)


def network(run: Run) -> EncoderDecoder:
    """The network of a run, with weights as they come.

    Raises:
        RunError: if its tokenizers are missing or damaged.
    """
    return build_model(*load_tokenizers(run.path), model_settings(run))


def load_model(
    run: str | Path | Run, *, average: int = 0
) -> tuple[TranslationConfig, tuple[SentenceTokenizer, SentenceTokenizer], EncoderDecoder]:
    """The configuration, tokenizers and trained model of a run; the model on the CPU, in evaluation mode.

    A run whose model.safetensors is missing or damaged gives a checkpoint; see `recurra.run.weights`.

    Args:
        run: open, or its directory.
        average: take the mean of the weights of so many latest evaluations; 0: the best weights.

    Raises:
        RunError: if it is no run of a translation system, or has no weights that can be read.
        ConfigError: if it was written by a newer version.
    """
    opened = (run if isinstance(run, Run) else read_run(run)).of("translation")
    tokenizers = load_tokenizers(opened.path)
    model = load_weights(lambda: build_model(*tokenizers, model_settings(opened)), opened, average)
    return opened.config, tokenizers, model


def build_model(source: SentenceTokenizer, target: SentenceTokenizer, settings: Any) -> EncoderDecoder:
    """A model with new weights for these vocabularies and this `model` section.

    Raises:
        ConfigError: if the vocabularies do not fit it.
    """
    copies = copied_as(source, target) if settings.copy_source and source is not target else None
    return _fitting(source.vocab_size, target.vocab_size, settings, copies)


def _fitting(source: int, target: int, settings: Any, copies: Tensor | None) -> EncoderDecoder:
    try:
        return EncoderDecoder(source, target, settings, copies)
    except ValueError as error:
        raise ConfigError(f"model.tied: {error}; set it to decoder.") from error


def copied_as(source: SentenceTokenizer, target: SentenceTokenizer) -> Tensor:
    """For each source token the target token of the same text, (source vocabulary,) int64.

    <unk> is copied as <unk>, for which the source's word is written. Other words that the target's vocabulary lacks are
    -1: if they were <unk> too, its probability would not tell which of them is meant.
    """
    special = {target.eos_id, target.unk_id}
    known = {text: token for token, text in enumerate(target.tokenizer.vocabulary_bytes) if token not in special}
    copies = [known.get(text, -1) for text in source.tokenizer.vocabulary_bytes]
    copies[source.eos_id] = target.eos_id
    if source.unk_id is not None and target.unk_id is not None:
        copies[source.unk_id] = target.unk_id
    return torch.tensor(copies, device="cpu")
