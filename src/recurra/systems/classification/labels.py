"""What a classifier predicts: the names of its labels, or numbers of some mean and deviation."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from ...data.labelled import Labelled
from ...errors import DataError
from ...run.kept import damaged, read_kept, write_kept

__all__ = ["LABELS", "Labels", "Targets"]

LABELS = "labels.json"

_SMALLEST = 1e-290


class Targets(NamedTuple):
    """What is to be predicted of some texts, as the loss takes it.

    Attributes:
        values: (texts,) int64 places of labels; (texts, K) float32 of 0 and 1 for several labels; or (texts,) float32
            numbers in deviations from the mean.
        strange: (texts, labels) of 0 and 1, labels of the texts that no training text had, which no answer can be.
    """

    values: npt.NDArray[np.int64] | npt.NDArray[np.float32]
    strange: npt.NDArray[np.float64]

    @property
    def known(self) -> npt.NDArray[np.bool_]:
        """Whether all labels of a text are known: (texts,). In `values` an unknown one is none, or the first."""
        return self.strange.sum(axis=1) == 0


@dataclass(frozen=True, config=ConfigDict(extra="forbid", strict=True))
class Labels:
    """What a classifier predicts.

    Attributes:
        kind: as `data.kind` of the configuration.
        names: of the labels, in the order of the network's outputs.
        mean, deviation: of the training texts' numbers.
    """

    kind: Literal["single-label", "multi-label", "regression"]
    names: tuple[Annotated[str, Field(min_length=1)], ...]
    mean: Annotated[float, Field(allow_inf_nan=False)] = 0.0
    deviation: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0

    @classmethod
    def of(cls, kind: str, examples: Iterable[Labelled]) -> tuple[Labels, list[float]]:
        """The labels of training texts, and the share of the texts that has each.

        Raises:
            DataError: if there is nothing to tell apart: one label alone, or one number.
        """
        counted: Counter[str] = Counter()
        texts, mean, squares = 0, 0.0, 0.0
        least, most = math.inf, -math.inf
        for example in examples:
            texts += 1
            counted.update(example.labels)
            if example.number is not None:
                # Welford's recurrence, which large numbers of like size do not spoil.
                least, most = min(least, example.number), max(most, example.number)
                before = example.number - mean
                mean += before / texts
                squares += before * (example.number - mean)
        if kind == "regression":
            if least < most and not _SMALLEST < squares < math.inf:
                raise DataError(
                    f"The training texts have numbers from {least:g} to {most:g}, which are too far from 1 to be "
                    "computed with; write them in another unit."
                )
            if least == most:
                raise DataError(f"All {texts:,} training texts have the number {mean:g}; there is nothing to learn.")
            return cls("regression", (), mean, (squares / texts) ** 0.5), [0.0]
        names = sorted(counted)
        if len(names) < (2 if kind == "single-label" else 1):
            said = (
                f"All {texts:,} training texts have the label {names[0]!r}" if names else "No training text has labels"
            )
            raise DataError(f"{said}; there is nothing to tell apart, so give texts of at least two labels.")
        return cls(kind, tuple(names)), [counted[name] / texts for name in names]  # type: ignore[arg-type]

    @classmethod
    def load(cls, folder: Path) -> Labels:
        """Read what `save` wrote into a run.

        Raises:
            RunError: if it is missing or damaged.
        """
        path = folder / LABELS
        found = read_kept(Labels, path)
        labelled = found.kind != "regression"
        if len(set(found.names)) < len(found.names) or labelled != bool(found.names):
            raise damaged(path, "its labels do not fit its kind")
        return found

    def save(self, path: Path) -> None:
        """Write it as one JSON file."""
        write_kept(self, path)

    @property
    def outputs(self) -> int:
        """Outputs that a network needs."""
        return len(self.names) or 1

    def targets(self, examples: Sequence[tuple[Sequence[str], float | None]]) -> Targets:
        """What is to be predicted of texts, of which the labels and the number are given."""
        if self.kind == "regression":
            numbers = np.array([number for _, number in examples], np.float64)
            return Targets(((numbers - self.mean) / self.deviation).astype(np.float32), np.zeros((len(examples), 0)))
        places = {name: place for place, name in enumerate(self.names)}
        others = sorted({label for labels, _ in examples for label in labels if label not in places})
        strange = np.array([[label in labels for label in others] for labels, _ in examples], np.float64)
        strange = strange.reshape(len(examples), len(others))
        if self.kind == "single-label":
            first = [places.get(labels[0], 0) if labels else 0 for labels, _ in examples]
            return Targets(np.array(first, np.int64), strange)
        table = np.zeros((len(examples), len(self.names)), np.float32)
        for row, (labels, _) in zip(table, examples, strict=True):
            row[[places[label] for label in labels if label in places]] = 1.0
        return Targets(table, strange)
