"""What a classifier answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

__all__ = ["Classification", "Explanation", "Piece"]


class Piece(NamedTuple):
    """A token as the tokenizer reads it in the text (normalised, in lower case if so configured), and what it adds."""

    text: str
    contribution: float


@dataclass(frozen=True)
class Explanation:
    """Why a text was answered as it was, by integrated gradients (Sundararajan, Taly & Yan 2017).

    Attributes:
        text: as it was given.
        target: the label that is explained; None for a number.
        pieces: the tokens. Their contributions sum to `logit` less `baseline`, but for `gap`.
        logit: of the label, or the number.
        baseline: the same of a text of as many tokens that say nothing.
    """

    text: str
    target: str | None
    pieces: Sequence[Piece]
    logit: float
    baseline: float

    @property
    def gap(self) -> float:
        """By how much the integral misses what the contributions should sum to; a large one makes them doubtful."""
        return sum(piece.contribution for piece in self.pieces) - (self.logit - self.baseline)


@dataclass(frozen=True)
class Classification:
    """The answer to one text.

    Attributes:
        text: as it was given.
        label: the likeliest label; None where numbers are predicted, or no label of several is likely enough.
        labels: all labels that the text is given: one, where each text has one.
        probabilities: of every label, calibrated; empty where numbers are predicted.
        number: what is predicted, where that is a number.
        cut_at: the number of tokens up to which the text was read; None: to its end.
        explanation: if it was asked for.
    """

    text: str
    label: str | None
    labels: tuple[str, ...]
    probabilities: Mapping[str, float]
    number: float | None = None
    cut_at: int | None = None
    explanation: Explanation | None = None

    @property
    def probability(self) -> float | None:
        """Of `label`; None if there is none."""
        return None if self.label is None else self.probabilities[self.label]

    def json(self, abstain: float = 0.0) -> dict[str, Any]:
        """The answer as JSON holds it.

        Args:
            abstain: the probability below which no label is given.
        """
        value: dict[str, Any] = {"text": self.text}
        if self.number is not None:
            value["number"] = self.number
        else:
            kept = self.sure(abstain)
            value |= {"label": kept[0] if kept else None, "labels": list(kept)}
            value |= {"probability": self.probability, "probabilities": dict(self.probabilities)}
        value["cut_at"] = self.cut_at
        if self.explanation is not None:
            value["explanation"] = {
                "label": self.explanation.target,
                "tokens": [list(piece) for piece in self.explanation.pieces],
                "logit": self.explanation.logit,
                "baseline": self.explanation.baseline,
                "gap": self.explanation.gap if self.explanation.pieces else 0.0,
            }
        return value

    def line(self, abstain: float = 0.0) -> str:
        """The answer as one line: a label, a tab and its probability, again for each further label; or a number."""
        if self.number is not None:
            return f"{self.number:.6g}"
        kept = self.sure(abstain)
        if not kept:
            # No label of several is an answer too; ? says that there is none.
            return f"?\t{self.probability:.4f}" if self.labels and self.probability is not None else ""
        return "\t".join(f"{label}\t{self.probabilities[label]:.4f}" for label in kept)

    def sure(self, abstain: float) -> tuple[str, ...]:
        """Those of `labels` whose probability is at least this, the likeliest first."""
        return tuple(label for label in self.labels if self.probabilities[label] >= abstain)
