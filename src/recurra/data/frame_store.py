"""Rows of numbers, such as frames of features, raw samples or points of ink, of many examples in one store."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ..bounds import MOST_UNITS
from ..errors import DataError, RunError
from .source_files import SourceFile
from .store import ExampleStore
from .store_writer import StoreWriter

__all__ = ["FrameExample", "FrameStore", "write_frames"]

_KINDS = ("float32", "int16")
_TEXTS = {"id": "text", "text": "text", "author": "text", "file": "text", "line": "int64"}


class FrameExample(NamedTuple):
    """An example: its rows, and what is known of it.

    Attributes:
        id: its name.
        frames: (frames, width).
        text: what is said or written.
        author: who speaks or writes; "" if that is not known.
        file, line: where the example is named.
    """

    id: str
    frames: npt.NDArray[Any]
    text: str
    author: str
    file: str
    line: int


def write_frames(
    path: Path,
    examples: Iterable[FrameExample],
    width: int,
    about: Mapping[str, Any],
    sources: Sequence[SourceFile] = (),
    kind: str = "float32",
) -> int:
    """Write examples to a store that `FrameStore` opens, in bounded memory.

    Args:
        path: of the store, without an ending.
        examples: one after another.
        width: of every row; 1 for raw samples.
        about: whatever its reader must know, as JSON.
        sources: the files that the examples come from; the list may be filled while the examples are read.
        kind: of the numbers, "float32" or "int16".

    Returns:
        How many examples were written.

    Raises:
        ValueError: if an example has rows of another width, or a number that is not finite.
        DataError: if there is no example.
        RunError: if the store cannot be written.
    """
    if kind not in _KINDS:
        raise ValueError(f"{kind!r} is no kind of number for frames")
    count = 0
    with StoreWriter(path, {"frames": f"{kind}[]", **_TEXTS}) as writer:
        for example in examples:
            rows = np.asarray(example.frames)
            if rows.ndim != 2 or rows.shape[1] != width:
                raise ValueError(f"{example.id} has rows of the shape {rows.shape} instead of (frames, {width})")
            if rows.dtype.kind == "f" and not np.isfinite(rows).all():
                raise ValueError(f"{example.id} has a number that is not finite")
            writer.add(example._asdict() | {"frames": rows.reshape(-1)})
            count += 1
        if not count:
            raise DataError(f"{path}: there is no example to keep; give more recordings or drawings.")
        writer.finish({"about": dict(about), "width": width}, list(sources))
    return count


class FrameStore:
    """Examples that `write_frames` wrote, by their numbers; only what is asked for is read.

    Args:
        path: of the store, without an ending.

    Attributes:
        about: as given to `write_frames`.
        width: of every row.
        files: that the examples come from.

    Raises:
        RunError: here and from its methods, if the store is damaged or holds something else.
    """

    def __init__(self, path: Path) -> None:
        store = ExampleStore.open(path)
        width, about = store.about.get("width"), store.about.get("about")
        kinds = [{"frames": f"{kind}[]", **_TEXTS} for kind in _KINDS]
        if (
            store.columns not in kinds
            or type(width) is not int
            or not 1 <= width <= MOST_UNITS
            or not isinstance(about, dict)
            or not len(store)
            or (store.lengths("frames") % width).any()
        ):
            raise RunError(f"{path}.json: this is not the header of prepared frames; prepare them again.")
        self.about: dict[str, Any] = about
        self.width = width
        self.files = store.sources
        self._store = store

    def __len__(self) -> int:
        return len(self._store)

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        """Frames of each example: (examples,)."""
        return self._store.lengths("frames") // self.width

    def __getitem__(self, index: int) -> FrameExample:
        """One example; its frames, (frames, width), lie in the file and are read-only.

        Raises:
            IndexError: if there is no such example.
        """
        return self.take([index])[0]

    def take(self, chosen: Iterable[int]) -> list[FrameExample]:
        """Some examples, in the order in which they are asked for."""
        found = self._store.take(chosen)
        return [
            FrameExample(id, frames.reshape(-1, self.width), text, author, file, int(line))
            for frames, id, text, author, file, line in zip(*(found[name] for name in ("frames", *_TEXTS)), strict=True)
        ]
