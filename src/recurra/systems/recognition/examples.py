"""Prepared examples of a recogniser, whatever they are of: rows of numbers with their texts in one store."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from ...data.frame_store import FrameExample, FrameStore
from ...errors import DataError, RunError
from ...models.subsampling import subsampled
from ...shown import tell
from .config import RecognitionConfig
from .outputs import frames_needed
from .transcripts import Transcripts

__all__ = ["Examples", "RecognitionStore", "fitting", "tell_unknown"]

Rows = list[npt.NDArray[np.float32]]

_SHOWN = 10
"""Examples that a sentence names."""
_TOGETHER = 1024


class RecognitionStore:
    """Prepared examples of a run.

    Args:
        path: of the store, without an ending.
        made: what the examples must have been prepared with.

    Attributes:
        examples: all of them.
        valid: which of them validation takes, (examples,).
        files: that the examples were named in.

    Raises:
        RunError: if the store is damaged, holds something else, or was prepared with other settings.
    """

    def __init__(self, path: Path, made: dict[str, Any]) -> None:
        self.examples = FrameStore(path)
        about, count = self.examples.about, len(self.examples)
        places = about.get("valid")
        if about.get("made") != made:
            raise RunError(f"{path}.json: the examples were prepared with other settings; prepare them again.")
        if (
            not isinstance(places, list)
            or not 0 < len(places) < count
            or not all(type(place) is int and 0 <= place < count for place in places)
        ):
            raise RunError(f"{path}.json: this is not the header of prepared examples; prepare them again.")
        self.valid = np.zeros(count, np.bool_)
        self.valid[places] = True
        self.files = self.examples.files

    def __len__(self) -> int:
        return len(self.examples)

    @property
    def frames(self) -> npt.NDArray[np.int64]:
        """Frames that the network reads of each example, (examples,)."""
        return self.examples.lengths

    def all(self) -> Iterator[FrameExample]:
        """One example after another, some at a time in memory."""
        for first in range(0, len(self), _TOGETHER):
            yield from self.examples.take(range(first, min(first + _TOGETHER, len(self))))


class Examples(Protocol):
    """Makes of what a store holds of an example the frames that the network reads."""

    def plain(self, kept: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """The normalised features (frames, I) of what was kept."""
        ...

    def changed(self, kept: npt.NDArray[np.float32], epoch: int, example: int) -> npt.NDArray[np.float32]:
        """The same after the changes that are drawn for this example in this epoch."""
        ...


def fitting(
    store: RecognitionStore, transcripts: Transcripts, config: RecognitionConfig, fastest: float = 1.0
) -> npt.NDArray[np.bool_]:
    """Which examples have frames enough for their labels, (examples,); the loss of any other would be infinite.

    Args:
        store: of the examples.
        transcripts: the labels.
        config: of the run.
        fastest: by what a training example has fewer frames at most, because its speed is changed.

    Raises:
        DataError: if an example has too few frames, and `data.skip_bad` is false; the first ones are named.
    """
    factor = config.model.subsampling_factor
    frames = store.frames
    fits = np.ones(len(store), np.bool_)
    problems = []
    for place, example in enumerate(store.all()):
        needed = frames_needed(transcripts.encode(example.text).tolist(), config.model, config.decoding)
        speed = 1.0 if store.valid[place] else fastest
        # A frame may be lost by rounding where the speed is changed.
        given = subsampled(int(frames[place] / speed) - (speed != 1.0), factor)
        if needed > given:
            fits[place] = False
            problems.append(
                f"{example.file}:{example.line}: {example.id!r} has {given} frames after subsampling, and the text "
                f"{example.text!r} needs {needed}"
            )
    if problems:
        first = "\n".join(f"  {problem}" for problem in problems[:_SHOWN])
        more = f"\n  and {len(problems) - _SHOWN:,} more" if len(problems) > _SHOWN else ""
        what = f"{len(problems):,} of {len(store):,} texts do not fit into their examples"
        if not config.data.skip_bad:
            raise DataError(
                f"{what}; mend them, lower model.subsampling_factor, or set data.skip_bad=true:\n{first}{more}"
            )
        tell(f"recurra: {what} and are left out:\n{first}{more}")
    return fits


def tell_unknown(store: RecognitionStore, transcripts: Transcripts) -> None:
    """Say which characters or words of the texts the vocabulary lacks, and in how many texts."""
    missing: dict[str, str] = {}
    count = 0
    for example in store.all():
        strange: Sequence[str] = transcripts.unknown(example.text)
        count += bool(strange)
        for each in strange:
            missing.setdefault(each, f"{example.file}:{example.line}")
    if missing:
        first, where = next(iter(missing.items()))
        tell(
            f"recurra: {count:,} texts have something that the vocabulary lacks, and that no answer can have: "
            f"{first!r} ({where})" + (f" and {len(missing) - 1:,} more." if len(missing) > 1 else ".")
        )
