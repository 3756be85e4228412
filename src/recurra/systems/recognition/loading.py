"""From a run directory of a recogniser to its network."""

from __future__ import annotations

from ...run.directory import Run
from ...run.own_cell import model_settings
from .config import RecognitionModelConfig
from .network import Recogniser
from .transcripts import load_transcripts

__all__ = ["build", "speech_network"]


def build(settings: RecognitionModelConfig, labels: int, input_size: int = 80, blank: int = 0) -> Recogniser:
    """A network with new weights.

    Args:
        settings: the `model` section.
        labels: the number of labels, the blank included.
        input_size: features of a frame.
        blank: the label that stands for none.
    """
    return Recogniser(input_size, labels, blank, settings)


def speech_network(run: Run) -> Recogniser:
    """The network of a run of speech, with weights as they come.

    Raises:
        RunError: if its tokenizer is missing or damaged.
    """
    transcripts = load_transcripts(run.path)
    return Recogniser(run.config.features.bins, transcripts.labels, transcripts.blank, model_settings(run))
