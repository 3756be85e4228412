"""From a run directory of a tagger to its network."""

from __future__ import annotations

from ...errors import RunError
from ...run.directory import Run
from ...run.own_cell import model_settings
from .config import TaggedDataConfig, TaggingModelConfig
from .network import Tagger
from .vocabulary import VOCABULARY, Vocabulary

__all__ = ["build", "network", "new_network"]


def build(settings: TaggingModelConfig, words: int, characters: int = 100, tags: int = 17) -> Tagger:
    """A network with new weights and one column of tags.

    Args:
        settings: the `model` section.
        words, characters, tags: how many there are of each.
    """
    return Tagger(words, characters, {"tags": [str(number) for number in range(tags)]}, settings)


def network(run: Run) -> Tagger:
    """The network of a run, with weights as they come.

    Raises:
        RunError: if its vocabulary is missing or damaged.
    """
    try:
        return new_network(Vocabulary.load(run.path), model_settings(run), run.config.data)
    except ValueError as error:
        raise RunError(f"{run.path / VOCABULARY}: does not fit data.scheme ({error}); restore the file.") from error


def new_network(vocabulary: Vocabulary, settings: TaggingModelConfig, data: TaggedDataConfig) -> Tagger:
    """A network with new weights for a vocabulary."""
    sizes = (vocabulary.word_count, vocabulary.character_count)
    schemes = [data.learnt(name) for name in vocabulary.tags]
    return Tagger(*sizes, vocabulary.tags, settings, schemes, vocabulary.readers)
