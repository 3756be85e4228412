"""From a run directory of a recogniser to its network."""

from __future__ import annotations

from ...run.directory import Run
from ...run.own_cell import model_settings
from .config import RecognitionModelConfig
from .network import Recogniser
from .transcripts import load_transcripts

__all__ = ["build", "speech_network"]


def build(settings: RecognitionModelConfig, labels: int, input_size: int = 80) -> Recogniser:
    """A network with new weights.

    Args:
        settings: the `model` section.
        labels: the number of labels, the blank included.
        input_size: features of a frame.
    """
    return Recogniser(input_size, labels, settings)


def speech_network(run: Run) -> Recogniser:
    """The network of a run of speech, with weights as they come.

    Raises:
        RunError: if its tokenizer is missing or damaged.
    """
    return Recogniser(run.config.features.bins, load_transcripts(run.path).labels, model_settings(run))
