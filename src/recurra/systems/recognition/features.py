"""What a run knows of its features: how they are made, and by which mean and deviation they are normalised."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ...data.feature_statistics import FeatureStatistics, normalised
from ...errors import RunError
from ...files import regular, unwritten, written_whole
from ...run.checkpoint import has_checkpoint
from ...run.directory import Run
from ...strict_json import read_json

__all__ = ["FEATURES", "Features"]

FEATURES = "features.json"

Frames = npt.NDArray[np.float32]


class Features:
    """Features as a network reads them.

    Args:
        settings: what they are made with, as JSON.
        statistics: of the training data.
        normalization: "training" or "utterance".
    """

    def __init__(self, settings: dict[str, Any], statistics: FeatureStatistics, normalization: str) -> None:
        self.settings, self.statistics, self.normalization = settings, statistics, normalization

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Features) and self._value() == other._value()

    def __hash__(self) -> int:
        return hash(self.normalization)

    def normalised(self, frames: npt.ArrayLike) -> Frames:
        """Frames (frames, features) as the network reads them."""
        return normalised(frames, self.statistics if self.normalization == "training" else None)

    def _value(self) -> dict[str, Any]:
        return {
            "settings": self.settings,
            "normalization": self.normalization,
            "statistics": self.statistics.state(),
        }

    def save(self, path: Path) -> None:
        """Write them as JSON, aside and then renamed.

        Raises:
            RunError: if the file cannot be written.
        """
        try:
            with written_whole(path) as aside:
                aside.write_text(json.dumps(self._value(), indent=1) + "\n", encoding="utf-8")
        except OSError as error:
            raise RunError(f"{path}: cannot be written {unwritten(error)}.") from error

    def keep(self, run: Run, count: int) -> None:
        """Write them into a run; those that a training has begun with must be the same.

        Args:
            run: that they are of.
            count: examples that they were made of.

        Raises:
            RunError: if they are others, or cannot be written.
        """
        path = run.path / FEATURES
        if not has_checkpoint(run.checkpoints):
            self.save(path)
        elif not path.is_file() or read_json(path.read_text(encoding="utf-8")) != self._value():
            raise RunError(
                f"{path}: the {count:,} examples are others now, and the model has learnt from features that were "
                "normalised otherwise; restore them to resume, or train in a new folder."
            )

    @classmethod
    def load(cls, folder: Path, settings: dict[str, Any], size: int, normalization: str) -> Features:
        """Those of a run.

        Args:
            folder: the run directory.
            settings, normalization: of its configuration.
            size: features of a frame.

        Raises:
            RunError: if the file is missing or damaged, or was made with other settings.
        """
        path = folder / FEATURES
        try:
            tree = read_json(regular(path).read_text(encoding="utf-8"))
        except OSError as error:
            raise RunError(f"{path}: cannot be read ({error.strerror}); restore it.") from error
        except ValueError as error:
            raise RunError(f"{path}: is not whole ({error}); restore it.") from error
        made = {"settings": settings, "normalization": normalization}
        if not isinstance(tree, dict) or {name: tree.get(name) for name in made} != made:
            raise RunError(
                f"{path}: was made with other settings than the configuration has now; set them back, or train in a "
                "new folder."
            )
        statistics = FeatureStatistics.from_state(tree.get("statistics"), size, str(path))
        return cls(settings, statistics, normalization)
