"""From a recogniser's frames to labels, as its configuration and whoever asks want it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from torch import Tensor

from ...decoding.beam_stream import search_whole
from ...decoding.label_scoring import Fusion, LabelScorer
from ...decoding.recognized import Recognized
from .config import DecodingConfig
from .outputs import LabelStream, Output

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

    def stream(self, output: Output) -> LabelStream:
        """The same search over frames that come piece by piece."""
        if self.is_greedy:
            return output.greedy_stream(self.settings)
        return output.stream(self.settings, self.n_best, self.scorers)

    def __call__(self, frames: Tensor, output: Output) -> list[Recognized]:
        """The hypotheses of one example, the best first; at least one.

        Args:
            frames: (T, ...) from `Output.frames`.
            output: the end of the recogniser.
        """
        if not len(frames):
            return [Recognized([], 0.0, 0.0)]
        if self.is_greedy:
            return [output.greedy(frames, self.settings)]
        # Nothing may end where a lexicon has no word for what was heard.
        return search_whole(self.stream(output), frames) or [Recognized([], -np.inf, -np.inf)]


def score_labels(frames: Tensor, labels: Sequence[int], search: Search, output: Output) -> float:
    """What a search that kept all alignments would rank labels by, in nats; minus infinity if they cannot be.

    Args:
        frames: (T, ...) from `Output.frames`.
        labels: without blanks.
        search: whose scorers and bonus count.
        output: the end of the recogniser.
    """
    known = Fusion(search.scorers, output.labels, search.settings.label_bonus)
    scored = known.begin()
    for label in labels:
        if scored.gains[label] == -np.inf:
            return -np.inf
        (scored,) = known.advance([scored], [label])
    return output.log_likelihood(frames, labels) + scored.total + scored.ending
