"""Tokenised pairs of sentences held in memory, and which pairs are left out for their lengths."""

from __future__ import annotations

import struct
import zipfile
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import DataError, RunError
from ..files import regular, unwritten
from .parallel import Pair
from .sentences import SentenceTokenizer
from .source_files import SourceFile

__all__ = ["ParallelCorpus", "all_dropped", "describe_dropped", "fingerprint", "fitting"]


class ParallelCorpus:
    """Tokenised pairs, each side one row of ids with the place where each sentence begins.

    Args:
        source, target: ids of all sentences one after another, without ends.
        source_starts, target_starts: (pairs + 1,), where each sentence begins; the last is the number of ids.
        characters: of all targets, a line end each included.
        fingerprint: of the tokenizers that made it.
    """

    files: tuple[SourceFile, ...] = ()
    """Which files the pairs come from is not known."""

    def __init__(
        self,
        source: npt.NDArray[np.uint32],
        source_starts: npt.NDArray[np.int64],
        target: npt.NDArray[np.uint32],
        target_starts: npt.NDArray[np.int64],
        characters: int = 0,
        fingerprint: str = "",
    ) -> None:
        self.source, self.source_starts = source, source_starts
        self.target, self.target_starts = target, target_starts
        self.characters = characters
        self.fingerprint = fingerprint

    @classmethod
    def of(cls, pairs: Sequence[Pair], source: SentenceTokenizer, target: SentenceTokenizer) -> ParallelCorpus:
        """Tokenise pairs."""
        sides = [
            _joined(tokenizer.encode(sentence) for sentence in side)
            for tokenizer, side in ((source, [p.source for p in pairs]), (target, [p.target for p in pairs]))
        ]
        characters = sum(len(target.tokenizer.normalize(pair.target)) + 1 for pair in pairs)
        return cls(*sides[0], *sides[1], characters, fingerprint(source, target))

    def __len__(self) -> int:
        return len(self.source_starts) - 1

    @property
    def source_lengths(self) -> npt.NDArray[np.int64]:
        """Tokens of each source, without its end."""
        return np.diff(self.source_starts)

    @property
    def target_lengths(self) -> npt.NDArray[np.int64]:
        """Tokens of each target, without its end."""
        return np.diff(self.target_starts)

    @property
    def target_tokens(self) -> int:
        """Tokens of all targets, without their ends."""
        return len(self.target)

    def require_below(self, source_size: int, target_size: int) -> None:
        """Raise RunError if an id lies beyond vocabularies of these sizes."""
        for ids, size in ((self.source, source_size), (self.target, target_size)):
            if len(ids) and int(ids.max()) >= size:
                raise RunError(
                    "The prepared pairs hold tokens beyond the vocabulary; remove the run's folder `data` to prepare "
                    "them again."
                )

    def pair(self, index: int) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.uint32]]:
        """The ids of one pair."""
        source = self.source[self.source_starts[index] : self.source_starts[index + 1]]
        return source, self.target[self.target_starts[index] : self.target_starts[index + 1]]

    def kept(self, max_length: int, max_ratio: float | None) -> tuple[ParallelCorpus, dict[str, int]]:
        """The pairs that are short enough and of like enough lengths, and how many were dropped for each reason.

        Args:
            max_length: most tokens on a side.
            max_ratio: most that the longer side may have over the shorter; None: any.
        """
        fits, dropped = fitting(self.source_lengths, self.target_lengths, max_length, max_ratio)
        keep = np.flatnonzero(fits)
        if len(keep) == len(self):
            return self, dropped
        if not len(keep):
            raise all_dropped(dropped, len(self))
        chosen = [self.pair(int(index)) for index in keep]
        sides = [_joined(pair[side] for pair in chosen) for side in (0, 1)]
        share = len(sides[1][0]) / max(len(self.target), 1)
        return ParallelCorpus(*sides[0], *sides[1], round(self.characters * share), self.fingerprint), dropped

    def save(self, path: Path) -> None:
        """Write the corpus, aside and renamed.

        Raises:
            RunError: if it cannot be written.
        """
        aside = path.with_name(f".{path.name}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with open(aside, "wb") as file:
                np.savez(
                    file,
                    source=self.source,
                    source_starts=self.source_starts,
                    target=self.target,
                    target_starts=self.target_starts,
                    characters=np.int64(self.characters),
                    fingerprint=np.array(self.fingerprint),
                )
            aside.replace(path)
        except OSError as error:
            aside.unlink(missing_ok=True)
            raise RunError(f"{path}: the tokenised pairs cannot be written {unwritten(error)}.") from error

    @classmethod
    def open(cls, path: Path) -> ParallelCorpus:
        """Read what `save` wrote.

        Raises:
            RunError: if it is missing or damaged.
        """
        try:
            with np.load(regular(path), allow_pickle=False) as file:
                parts = {name: file[name] for name in file.files}
            sides = [_side(parts[name], parts[f"{name}_starts"]) for name in ("source", "target")]
            if len(sides[0][1]) != len(sides[1][1]):
                raise ValueError("the two sides have different numbers of sentences")
            characters, made_by = parts["characters"], parts["fingerprint"]
            if characters.shape or characters.dtype.kind != "i" or made_by.shape or made_by.dtype.kind != "U":
                raise ValueError("the number of characters or the fingerprint is damaged")
            return cls(*sides[0], *sides[1], int(characters), str(made_by))
        except (OSError, ValueError, KeyError, EOFError, *_DAMAGE) as error:
            raise RunError(f"{path}: the tokenised pairs cannot be read ({error}); prepare them again.") from error


# Raised for damaged archives, besides OSError and ValueError.
_DAMAGE = (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, struct.error, SyntaxError)


def _side(ids: npt.NDArray[Any], starts: npt.NDArray[Any]) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.int64]]:
    if ids.ndim != 1 or ids.dtype != np.uint32 or starts.ndim != 1 or starts.dtype != np.int64:
        raise ValueError("its tokens are damaged")
    if len(starts) < 2 or starts[0] != 0 or starts[-1] != len(ids) or (starts[1:] < starts[:-1]).any():
        raise ValueError("the starts of its sentences are damaged")
    return ids, starts


def fingerprint(source: SentenceTokenizer, target: SentenceTokenizer) -> str:
    """Equal for tokenizers of both sides that do the same."""
    return f"{source.tokenizer.fingerprint} {target.tokenizer.fingerprint}"


def fitting(
    sources: npt.NDArray[np.int64], targets: npt.NDArray[np.int64], max_length: int, max_ratio: float | None
) -> tuple[npt.NDArray[np.bool_], dict[str, int]]:
    """Which pairs are short enough and of like enough lengths, and how many are not for each reason.

    Args:
        sources, targets: (pairs,), tokens of each side.
        max_length: most tokens on a side.
        max_ratio: most that the longer side may have over the shorter; None: any.
    """
    longer, shorter = np.maximum(sources, targets), np.minimum(sources, targets)
    long = longer > max_length
    blank = shorter == 0
    unlike = np.zeros_like(long)
    if max_ratio is not None:
        unlike = ~long & ~blank & (longer > max_ratio * shorter)
    dropped = {
        "too_long": int(long.sum()),
        "unlike_lengths": int(unlike.sum()),
        "no_tokens": int((blank & ~long).sum()),
    }
    return ~(long | unlike | blank), dropped


def all_dropped(dropped: dict[str, int], total: int) -> DataError:
    """What is raised where no training pair is left."""
    return DataError(
        f"All {total} training pairs were dropped for their lengths ({_reasons(dropped)}); raise data.max_length or "
        "data.max_length_ratio."
    )


def describe_dropped(dropped: dict[str, int], total: int) -> str:
    """One sentence on the pairs that were left out; empty where none was."""
    return (
        f"{sum(dropped.values()):,} of {total:,} training pairs are left out: {_reasons(dropped)}."
        if any(dropped.values())
        else ""
    )


_REASONS = {
    "empty": "with an empty side",
    "too_long": "longer than data.max_length",
    "unlike_lengths": "beyond data.max_length_ratio",
    "no_tokens": "without tokens on a side",
}


def _reasons(dropped: dict[str, int]) -> str:
    return ", ".join(f"{count:,} {_REASONS[name]}" for name, count in dropped.items() if count)


def _joined(rows: Iterable[Any]) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.int64]]:
    kept = [np.asarray(row, np.uint32) for row in rows]
    starts = np.zeros(len(kept) + 1, np.int64)
    np.cumsum([len(row) for row in kept], out=starts[1:])
    return (np.concatenate(kept) if kept else np.empty(0, np.uint32)), starts
