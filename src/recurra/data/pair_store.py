"""Training pairs in a store of examples: made from files in bounded memory, and read by their numbers.

The pairs are read from their files once, into a store of texts that is kept aside. The sources that validation takes
are drawn, the tokenizers learn, and the training pairs are tokenised, each in a pass over that store.
"""

from __future__ import annotations

import random
from array import array
from collections.abc import Iterable, Iterator
from hashlib import blake2b
from itertools import compress
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..bounds import LARGEST
from ..errors import RunError
from .pair_corpus import all_dropped, fingerprint, fitting
from .parallel import Pair
from .sentences import SentenceTokenizer
from .source_files import SourceFile
from .store import ExampleStore
from .store_writer import StoreWriter

__all__ = ["PairStore", "held_sources", "keep_texts", "sentences", "tokenise"]

_SIDES = ("source", "target")


class PairStore:
    """Tokenised pairs that lie in a file; as `ParallelCorpus`, but for the tokens in one row.

    Attributes:
        characters: of all targets, a line end each included.
        target_tokens: of all targets, without their ends.
        fingerprint: of the tokenizers that made it.
        files: that the pairs were read from.

    Raises:
        RunError: here and from `pair`, if the store is damaged or holds something else.
    """

    def __init__(self, path: Path) -> None:
        store = ExampleStore.open(path)
        kinds, about = store.columns, store.about
        made_by, characters, target_tokens = (about.get(key) for key in ("fingerprint", "characters", "target_tokens"))
        if (
            tuple(kinds) != _SIDES
            or not set(kinds.values()) <= {"uint16[]", "uint32[]"}
            or not isinstance(made_by, str)
            or not all(type(count) is int and 0 <= count <= LARGEST for count in (characters, target_tokens))
            or not len(store)
        ):
            raise RunError(f"{path}.json: this is not the header of tokenised pairs; prepare them again.")
        self.characters: int = characters  # type: ignore[assignment]
        self.target_tokens: int = target_tokens  # type: ignore[assignment]
        self.fingerprint = made_by
        self.files = store.sources
        self._store = store

    def __len__(self) -> int:
        return len(self._store)

    @property
    def source_lengths(self) -> npt.NDArray[np.int64]:
        """Tokens of each source, without its end."""
        return self._store.lengths("source")

    @property
    def target_lengths(self) -> npt.NDArray[np.int64]:
        """Tokens of each target, without its end."""
        return self._store.lengths("target")

    def require_below(self, source_size: int, target_size: int) -> None:
        """Have `pair` check that ids lie in vocabularies of these sizes."""
        for side, size in zip(_SIDES, (source_size, target_size), strict=True):
            self._store.require_below(side, size)

    def pair(self, index: int) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
        """The ids of one pair, which lie in the file."""
        found = self._store[index]
        return found["source"], found["target"]


def keep_texts(path: Path, pairs: Iterable[Pair]) -> npt.NDArray[np.uint64]:
    """Write pairs of texts to a store of two columns, in bounded memory.

    Returns:
        A hash of each source, (pairs,): two sources with the same one are taken for the same by `held_sources`, which
        of 5 million different ones happens with a probability of 1e-6 and does no harm.

    Raises:
        RunError: if they cannot be written.
        DataError: if they cannot be read, as `PairReader` says.
    """
    hashes = array("Q")
    with StoreWriter(path, dict.fromkeys(_SIDES, "text")) as writer:
        for pair in pairs:
            hashes.append(int.from_bytes(blake2b(pair.source.encode(), digest_size=8).digest(), "little"))
            writer.add(pair._asdict())
        writer.finish({})
    return np.frombuffer(hashes, np.uint64)


def held_sources(hashes: npt.NDArray[np.uint64], fraction: float, seed: int) -> npt.NDArray[np.bool_]:
    """Which pairs validation takes: those of a random share of the different sources, drawn from all over the text.

    Args:
        hashes: of each pair's source.
        fraction: of the different sources; at least one is taken, and one is left.
        seed: the same seed takes the same sources of the same pairs.

    Returns:
        (pairs,); none where there is but one source.
    """
    _, first, which = np.unique(hashes, return_index=True, return_inverse=True)
    count = len(first)
    if count < 2:
        return np.zeros(len(hashes), bool)
    # The pair in which each different source comes first, in the order of the text.
    ordered = np.sort(first)
    drawn = random.Random(seed).sample(range(count), min(max(1, round(fraction * count)), count - 1))
    taken = np.zeros(len(hashes), bool)
    taken[ordered[drawn]] = True
    return taken[first[which]]


def sentences(texts: ExampleStore, chosen: npt.NDArray[np.bool_], side: str) -> Iterator[str]:
    """One side, source or target, of the chosen pairs of a store that `keep_texts` wrote."""
    for part, keep in texts.chosen_parts(chosen):
        yield from compress(part[side], keep)


def tokenise(
    path: Path,
    texts: ExampleStore,
    chosen: npt.NDArray[np.bool_],
    tokenizers: tuple[SentenceTokenizer, SentenceTokenizer],
    max_length: int,
    max_ratio: float | None,
    files: Iterable[SourceFile],
) -> dict[str, int]:
    """Write the chosen pairs as ids to a store that `PairStore` opens, without those that `fitting` drops.

    Args:
        path: of the store, without an ending.
        texts: what `keep_texts` wrote.
        chosen: which of its pairs.
        tokenizers: of source and target.
        max_length, max_ratio: as for `fitting`.
        files: that the pairs were read from.

    Returns:
        How many were dropped for each reason.

    Raises:
        DataError: if no pair is left.
        RunError: if the store cannot be written.
    """
    kinds = ["uint16[]" if each.vocab_size <= 1 << 16 else "uint32[]" for each in tokenizers]
    dropped: dict[str, int] = {}
    kept = characters = target_tokens = 0
    with StoreWriter(path, dict(zip(_SIDES, kinds, strict=True))) as writer:
        for part, keep in texts.chosen_parts(chosen):
            texts_of = {side: list(compress(part[side], keep)) for side in _SIDES}
            rows = {
                side: tokenizer.encode_all(texts_of[side]) for side, tokenizer in zip(_SIDES, tokenizers, strict=True)
            }
            fits, counts = fitting(
                np.diff(rows["source"].starts), np.diff(rows["target"].starts), max_length, max_ratio
            )
            dropped = {reason: dropped.get(reason, 0) + count for reason, count in counts.items()}
            if not fits.all():
                rows = {side: each.chosen(fits) for side, each in rows.items()}
            writer.extend(rows)
            kept += int(fits.sum())
            target_tokens += len(rows["target"].values)
            text = "".join(f"{target}\n" for target in compress(texts_of["target"], fits))
            characters += len(tokenizers[1].tokenizer.normalize(text))
        if not kept:
            raise all_dropped(dropped, int(chosen.sum()))
        about = {"fingerprint": fingerprint(*tokenizers), "characters": characters, "target_tokens": target_tokens}
        writer.finish({**about, "pairs": kept, "dropped": dropped}, list(files))
    return dropped
