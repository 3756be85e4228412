"""From a recogniser's log-probabilities to texts, as its configuration and whoever asks want it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from ...decoding.ctc import CTCOptions, ctc_beam_search, ctc_greedy
from ...decoding.ctc_alignment import ctc_log_likelihood
from ...decoding.label_scoring import Fusion, LabelScorer
from ...decoding.recognized import Recognized
from .config import DecodingConfig

__all__ = ["Search", "score_labels"]


@dataclass(frozen=True)
class Search:
    """How labels are searched.

    Attributes:
        settings: the section `decoding`.
        n_best: how many texts are given out; more than one need a beam.
        scorers: what is fused at each step; any needs a beam.
    """

    settings: DecodingConfig
    n_best: int = 1
    scorers: Sequence[LabelScorer] = field(default=())

    @property
    def is_greedy(self) -> bool:
        """Whether the likeliest path is taken."""
        return self.settings.search == "greedy" and self.n_best == 1 and not self.scorers

    def options(self, blank: int) -> CTCOptions:
        """Of a beam.

        Args:
            blank: the label that stands for none.
        """
        chosen = self.settings
        return CTCOptions(
            beam=max(chosen.beam, self.n_best),
            # Labels that differ in spaces alone are one text, so that some of them are no use.
            n_best=1 if self.n_best == 1 else max(chosen.beam, self.n_best),
            least_probability=chosen.least_probability,
            most_behind=chosen.most_behind,
            label_bonus=chosen.label_bonus,
            settle_after=chosen.settle_after,
            blank=blank,
        )

    def __call__(self, log_probabilities: npt.NDArray[np.floating], blank: int) -> list[Recognized]:
        """The hypotheses of one example, the best first; at least one.

        Args:
            log_probabilities: (T, V).
            blank: the label that stands for none.
        """
        if self.is_greedy:
            return [ctc_greedy(log_probabilities, blank)]
        (found,) = ctc_beam_search([log_probabilities], self.options(blank), self.scorers)
        # Nothing may end where a lexicon has no word for what was heard.
        return found or [Recognized([], -np.inf, -np.inf)]


def score_labels(
    log_probabilities: npt.NDArray[np.floating], labels: Sequence[int], search: Search, blank: int
) -> float:
    """What a search that kept all alignments would rank labels by, in nats; minus infinity if they cannot be.

    Args:
        log_probabilities: (T, V).
        labels: without blanks.
        search: whose scorers and bonus count.
        blank: the label that stands for none.
    """
    known = Fusion(search.scorers, log_probabilities.shape[1], search.settings.label_bonus)
    scored = known.begin()
    for label in labels:
        if scored.gains[label] == -np.inf:
            return -np.inf
        (scored,) = known.advance([scored], [label])
    return ctc_log_likelihood(log_probabilities, labels, blank) + scored.total + scored.ending
