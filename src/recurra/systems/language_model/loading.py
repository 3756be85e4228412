"""From a run directory of a language model to its model."""

from __future__ import annotations

from pathlib import Path

from ...data.tokenizer import Tokenizer
from ...run.directory import Run, read_run
from ...run.own_cell import model_settings
from ...run.weights import load_weights
from .config import LanguageModelConfig, ModelConfig
from .network import LanguageModel

__all__ = ["build", "load_model", "network"]


def build(settings: ModelConfig, vocabulary: int) -> LanguageModel:
    """A network with new weights.

    Args:
        settings: the `model` section.
        vocabulary: the number of tokens.
    """
    return LanguageModel(vocabulary, settings)


def network(run: Run) -> LanguageModel:
    """The network of a run, with weights as they come.

    Raises:
        RunError: if its tokenizer is missing or damaged.
    """
    return LanguageModel(_tokenizer(run).vocab_size, model_settings(run))


def load_model(run: str | Path | Run, average: int = 0) -> tuple[LanguageModelConfig, Tokenizer, LanguageModel]:
    """The configuration, tokeniser and trained model of a run; the model on the CPU, in evaluation mode.

    A run that is still training, was cut off, or whose model.safetensors is damaged gives the best checkpoint, or else
    the last; it is said on stderr.

    Args:
        run: open, or its directory.
        average: the mean of the weights of so many latest evaluations; 0: the best weights.

    Raises:
        RunError: if it is no run of a language model, or has no weights that can be read.
        ConfigError: if it was written by a newer version.
    """
    opened = (run if isinstance(run, Run) else read_run(run)).of("language-model")
    tokenizer = _tokenizer(opened)
    model = load_weights(lambda: LanguageModel(tokenizer.vocab_size, model_settings(opened)), opened, average)
    return opened.config, tokenizer, model


def _tokenizer(run: Run) -> Tokenizer:
    return Tokenizer.load(run.path / run.files[0])
