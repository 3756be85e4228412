"""From a run directory of a translation system to its model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..config_translation import TranslationConfig
from ..data.sentences import SentenceTokenizer
from ..errors import ConfigError, RunError
from ..models.encoder_decoder import EncoderDecoder
from ..training.averaging import average_weights
from ..training.run_directory import CONFIG, read_run
from ..training.run_weights import read_weights
from .own_cell import model_settings
from .translation_files import load_tokenizers

__all__ = ["build_model", "load_model"]


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
    try:
        return EncoderDecoder(source.vocab_size, target.vocab_size, settings)
    except ValueError as error:
        raise ConfigError(f"model.tied: {error}; set it to decoder.") from error
