"""What a recogniser's search adds to the recogniser's own log-probability: a language model, a lexicon, hotwords.

Each of them is a `LabelScorer`: it gives a gain for each label that could follow a hypothesis. A gain is counted once,
when a hypothesis becomes longer by a label. Frames that repeat a label, blanks, and paths that meet in one hypothesis
count no gain.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

__all__ = ["Floats", "Fusion", "LabelScorer", "Scored", "highest"]

Floats = npt.NDArray[np.float64]


class LabelScorer(Protocol):
    """The gain of each label after the labels so far. V is the number of labels, the blank included."""

    def begin(self) -> tuple[Floats, Any]:
        """The gains (V,) of the first label, and the state there. Minus infinity forbids a label."""
        ...

    def advance(self, labels: Sequence[int], states: Sequence[Any]) -> tuple[list[Floats], list[Any]]:
        """Read one label in each of N hypotheses: the gains (V,) of what follows, and the states there."""
        ...

    def ending(self, state: Any) -> float:
        """The gain of an end; minus infinity where a hypothesis must not end."""
        ...


class Scored(NamedTuple):
    """What is known of a hypothesis besides its probability.

    Attributes:
        total: the gains of its labels.
        ending: the gain if it ended there.
        gains: (V,), of each label that could follow.
        states: of each scorer.
    """

    total: float
    ending: float
    gains: Floats
    states: tuple[Any, ...]


class Fusion:
    """The sum of several scorers and of a gain for every label.

    Args:
        scorers: may be none.
        size: V.
        label_bonus: what each label gains.
    """

    def __init__(self, scorers: Sequence[LabelScorer], size: int, label_bonus: float) -> None:
        self.scorers = tuple(scorers)
        self._bonus = np.full(size, label_bonus)

    def begin(self) -> Scored:
        """Of the hypothesis without labels."""
        begun = [scorer.begin() for scorer in self.scorers]
        return self._scored(0.0, [gains for gains, _ in begun], tuple(state for _, state in begun))

    def advance(self, before: Sequence[Scored], labels: Sequence[int]) -> list[Scored]:
        """Of hypotheses that are each one label longer than those before."""
        advanced = [
            scorer.advance(labels, [scored.states[place] for scored in before])
            for place, scorer in enumerate(self.scorers)
        ]
        return [
            self._scored(
                scored.total + float(scored.gains[label]),
                [gains[row] for gains, _ in advanced],
                tuple(states[row] for _, states in advanced),
            )
            for row, (scored, label) in enumerate(zip(before, labels, strict=True))
        ]

    def _scored(self, total: float, gains: Sequence[Floats], states: tuple[Any, ...]) -> Scored:
        ending = math.fsum(scorer.ending(state) for scorer, state in zip(self.scorers, states, strict=True))
        summed = self._bonus
        for each in gains:
            if each.shape != summed.shape:
                raise ValueError(f"a scorer gives gains for {len(each)} labels, and the recogniser has {len(summed)}")
            summed = summed + each
        return Scored(total, ending, summed, states)


def highest(scores: Floats, count: int, behind: float) -> npt.NDArray[np.int64]:
    """The places of the highest scores, the highest first; of equal ones the first; none that is minus infinity.

    Args:
        scores: (N,).
        count: how many, at most.
        behind: those that are further behind the highest one are left out.
    """
    top = scores.max(initial=-np.inf)
    possible = np.flatnonzero((scores > -np.inf) & (scores >= top - behind))
    values = scores[possible]
    if len(values) > count:
        bar = np.partition(values, len(values) - count)[len(values) - count]
        above = values >= bar
        possible, values = possible[above], values[above]
    return possible[np.argsort(-values, kind="stable")[:count]]
