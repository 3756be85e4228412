"""How much say a language model should have beside a recogniser: tried out on data whose texts are known."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import NamedTuple

from ...measures.error_rates import error_rates
from ..lines import Progress
from .fusing import LanguageModel
from .predict import SpeechRecogniser, told_reader
from .searching import Search

__all__ = ["BONUSES", "WEIGHTS", "Tried", "try_weights"]

WEIGHTS = (0.0, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0, 1.5)
BONUSES = (0.0, 0.5, 1.0, 2.0)


class Tried(NamedTuple):
    """A weight of a language model's log-probabilities with a bonus of labels, and the errors with them."""

    weight: float
    label_bonus: float
    word_error_rate: float
    character_error_rate: float


def try_weights(
    predictor: SpeechRecogniser,
    data: Sequence[str],
    model: LanguageModel,
    search: Search,
    progress: Progress | None = None,
) -> list[Tried]:
    """The errors with each of some weights and bonuses, those with the fewest errors first.

    Of equally good ones the lower weight is first. The network reads each recording once.

    Args:
        predictor: the recogniser.
        data: recordings with their texts, which must not be those that results are reported on.
        model: the language model.
        search: the beam, and what else is fused.
        progress: called with the utterances done and 0, as it is not known how many there are.

    Raises:
        DataError: if a recording cannot be read, or has no text.
    """
    chosen = [*itertools.product(WEIGHTS, BONUSES)]
    searches = [
        Search(
            search.settings.model_copy(update={"search": "beam", "label_bonus": bonus}),
            scorers=[*([model.scorer(weight)] if weight else []), *search.scorers],
        )
        for weight, bonus in chosen
    ]
    references: list[str] = []
    texts: list[list[str]] = [[] for _ in searches]
    transcripts = predictor.transcripts
    for utterance, _, values in predictor.outputs(told_reader(data, predictor.config)):
        references.append(transcripts.reference(utterance.text or ""))
        for found, each in zip(texts, searches, strict=True):
            found.append(transcripts.decode(each(values, predictor.model.output)[0].labels))
        if progress is not None:
            progress(len(references), 0)
    rates = [error_rates(references, found) for found in texts]
    tried = [
        Tried(weight, bonus, rate.words, rate.characters) for (weight, bonus), rate in zip(chosen, rates, strict=True)
    ]
    return sorted(tried, key=lambda each: (each.word_error_rate, each.character_error_rate, each.weight))
