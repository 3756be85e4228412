"""From a run directory of a translation system to its model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..config_translation import TranslationConfig
from ..data.sentences import SentenceTokenizer
from ..errors import ConfigError, RunError
from ..models.encoder_decoder import EncoderDecoder
from ..training.averaging import average_weights
from ..training.run_directory import CONFIG, read_run
from ..training.run_weights import read_weights
from .own_cell import model_settings
from .translation_files import load_tokenizers

__all__ = ["build_model", "copied_as", "load_model"]


def load_model(
    run_dir: str | Path, *, average: int = 0
) -> tuple[TranslationConfig, tuple[SentenceTokenizer, SentenceTokenizer], EncoderDecoder]:
    """The configuration, tokenizers and trained model of a run directory; the model on the CPU, in evaluation mode.

    A run whose model.safetensors is missing or damaged gives a checkpoint; see `recurra.training.run_weights`.

    Args:
        run_dir: a run.
        average: take the mean of the weights of so many latest evaluations; 0: the best weights.

    Raises:
        RunError: if the folder is no run of a translation system, or has no weights that can be read.
        ConfigError: if it was written by a newer version.
    """
    run_dir = Path(run_dir)
    config = read_run(run_dir)
    if config.task != "translation":
        raise RunError(f"{run_dir}: is a run of the task {config.task}, not of translation.")
    tokenizers = load_tokenizers(run_dir)
    model = build_model(*tokenizers, model_settings(config, run_dir))
    try:
        model.load_state_dict(average_weights(run_dir, average) if average else read_weights(run_dir))
    except RuntimeError as error:
        raise RunError(f"{run_dir}: the weights do not fit {CONFIG} and the tokenizers; one was changed.") from error
    return config, tokenizers, model.eval()


def build_model(source: SentenceTokenizer, target: SentenceTokenizer, settings: Any) -> EncoderDecoder:
    """A model with new weights for these vocabularies and this `model` section.

    Raises:
        ConfigError: if the vocabularies do not fit it.
    """
    copies = copied_as(source, target) if settings.copy_source and source is not target else None
    try:
        return EncoderDecoder(source.vocab_size, target.vocab_size, settings, copies)
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
