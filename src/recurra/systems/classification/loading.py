"""From a run directory of a classifier to its network."""

from __future__ import annotations

from ...run.directory import Run
from ...run.own_cell import model_settings
from .config import ClassificationModelConfig
from .data import load_tokenizer
from .labels import Labels
from .network import TextClassifier

__all__ = ["build", "network"]


def build(settings: ClassificationModelConfig, vocabulary: int, labels: int = 2) -> TextClassifier:
    """A network with new weights.

    Args:
        settings: the `model` section.
        vocabulary: the number of tokens.
        labels: the number of labels; 1 for a number.
    """
    return TextClassifier(vocabulary, labels, settings)


def network(run: Run) -> TextClassifier:
    """The network of a run, with weights as they come.

    Raises:
        RunError: if its tokenizer or its labels are missing or damaged.
    """
    return TextClassifier(load_tokenizer(run.path).vocab_size, Labels.load(run.path).outputs, model_settings(run))
