"""Fitting a unigram subword model (Kudo 2018, "Subword Regularization", section 3.2) over bytes.

It stands here because the trainer of the tokenizers library gives another vocabulary each time it is run, and takes
minutes for a few megabytes of Korean, whose words are many.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

__all__ = ["fit_unigram"]

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

_BYTES = 256
_LONGEST = 24
"""Bytes of the longest piece."""
_LONGEST_WORD = 48
_SEEDS = 10
"""Pieces to begin with for each that is wanted."""
_SHRINK = 0.75
_STEPS = 2
"""Steps of expectation and maximisation between prunings, as in the paper's SentencePiece."""
_LEAST = 0.5
"""A piece that is expected less often than this is dropped."""


@dataclass
class _Lattice:
    """Every place of every piece in the words: piece `piece[i]` leads from node `start[i]` to node `end[i]`.

    The words lie one after another, a word of n bytes with n + 1 nodes. `depth` of a node is its offset in its word.
    """

    start: Ints
    end: Ints
    piece: Ints
    depth: Ints
    first: Ints
    last: Ints
    weight: Floats
    owner: Ints

    def keep(self, pieces: npt.NDArray[np.bool_]) -> None:
        """Drop the places of all pieces that are not kept, and number the others anew."""
        number = np.cumsum(pieces) - 1
        places = pieces[self.piece]
        self.start, self.end = self.start[places], self.end[places]
        self.piece = number[self.piece[places]]

    def expected_counts(self, scores: Floats) -> Floats:
        """How often each piece is used, over all ways to cut each word, by the forward-backward algorithm."""
        forward = self._pass(scores, self.start, self.end, self.depth[self.end], self.first)
        backward = self._pass(scores, self.end, self.start, -self.depth[self.start], self.last)
        words = self.owner[self.start]
        log_share = forward[self.start] + scores[self.piece] + backward[self.end] - forward[self.last[words]]
        return _weighted_count(self.piece, self.weight[words] * np.exp(log_share), len(scores))

    def _pass(self, scores: Floats, source: Ints, target: Ints, rank: Ints, roots: Ints) -> Floats:
        """Log-sum of the scores of all paths from the roots to each node, all words at once, one depth at a time."""
        total = np.full(len(self.depth), -np.inf)
        total[roots] = 0.0
        order = np.lexsort((target, rank))
        ranks = rank[order]
        bounds = np.flatnonzero(np.diff(ranks, prepend=ranks[0] - 1, append=ranks[-1] + 1))
        for low, high in pairwise(bounds):
            places = order[low:high]
            values = total[source[places]] + scores[self.piece[places]]
            nodes = target[places]
            groups = np.flatnonzero(np.diff(nodes, prepend=-1))
            most = np.maximum.reduceat(values, groups)
            sizes = np.diff(groups, append=len(nodes))
            total[nodes[groups]] = most + np.log(np.add.reduceat(np.exp(values - np.repeat(most, sizes)), groups))
        return total


def fit_unigram(words: Iterable[tuple[bytes, int]], size: int) -> list[tuple[bytes, float]]:
    """The pieces of a unigram model with their log-probabilities, the likeliest first.

    All 256 bytes are pieces, so `size` is at least 256; the others are whole characters and runs of them inside a word,
    of at most 24 bytes. There may be fewer than `size` if the words do not have so many. The result depends on nothing
    but the arguments.

    Args:
        words: the words, which no piece crosses, and how often each occurs; only 48 bytes of a word are looked at.
        size: the most pieces.
    """
    counted = [(word[:_LONGEST_WORD], count) for word, count in words if word]
    pieces, counts, lattice = _seeds(counted, size)
    wanted = max(0, size - _BYTES)
    while True:
        for _ in range(_STEPS):
            counts = lattice.expected_counts(_scores(counts))
            kept = counts >= _LEAST
            kept[:_BYTES] = True
            pieces, counts = [piece for piece, keep in zip(pieces, kept, strict=True) if keep], counts[kept]
            lattice.keep(kept)
        if len(pieces) - _BYTES <= wanted:
            break
        target = max(wanted, int(_SHRINK * (len(pieces) - _BYTES)))
        kept = _worth_most(pieces, counts, target)
        pieces, counts = [piece for piece, keep in zip(pieces, kept, strict=True) if keep], counts[kept]
        lattice.keep(kept)
    # Digits beyond these hang on how a machine sums.
    scored = zip(pieces, np.round(_scores(counts), 6).tolist(), strict=True)
    return sorted(scored, key=lambda entry: (-entry[1], entry[0]))


def _scores(counts: Floats) -> Floats:
    # A byte that no word needs stays possible, as a last resort.
    used = np.maximum(counts, 1e-2)
    return np.log(used / used.sum())


def _worth_most(pieces: Sequence[bytes], counts: Floats, target: int) -> npt.NDArray[np.bool_]:
    """Which pieces to keep: the bytes, and the `target` others whose loss would lower the likelihood most.

    Without a piece each of its uses is cut in the next best way, so the loss is its count times the fall in score.
    """
    scores = _scores(counts)
    known = dict(zip(pieces, scores.tolist(), strict=True))
    alternatives = np.array([_best_parts(piece, known) for piece in pieces[_BYTES:]])
    losses = counts[_BYTES:] * (scores[_BYTES:] - alternatives)
    kept = np.zeros(len(pieces), np.bool_)
    kept[:_BYTES] = True
    kept[_BYTES + np.argsort(-np.round(losses, 6), kind="stable")[:target]] = True
    return kept


def _best_parts(piece: bytes, known: dict[bytes, float]) -> float:
    """The score of the best way to make a piece of two or more others."""
    length = len(piece)
    best = [0.0] + [-np.inf] * length
    for end in range(1, length + 1):
        for start in range(end):
            if end - start < length:
                score = known.get(piece[start:end])
                if score is not None and best[start] + score > best[end]:
                    best[end] = best[start] + score
    return best[length]


def _seeds(words: Sequence[tuple[bytes, int]], size: int) -> tuple[list[bytes], Floats, _Lattice]:
    """The pieces to begin with, their counts as substrings, and their places: runs of characters that occur twice."""
    text = np.frombuffer(b"".join(word for word, _ in words), np.uint8).astype(np.int64)
    lengths = np.array([len(word) for word, _ in words], np.int64)
    weight = np.array([count for _, count in words], np.float64)
    owner = np.repeat(np.arange(len(words)), lengths)
    stop = np.cumsum(lengths)[owner]
    starts_character = np.append((text & 0xC0) != 0x80, True)

    # Grams of n bytes are numbered from those of n - 1 bytes, so no string is made until one is chosen.
    place = np.flatnonzero(starts_character[:-1])
    number = text[place]
    found: list[tuple[int, Ints, Ints, Floats]] = []
    for length in range(2, _LONGEST + 1):
        fits = place + length <= stop[place]
        place, number = place[fits], number[fits] * _BYTES + text[place[fits] + length - 1]
        if not len(place):
            break
        _, number = np.unique(number, return_inverse=True)
        frequency = _weighted_count(number, weight[owner[place]])
        often = frequency[number] >= 2
        place, number = place[often], number[often]
        whole = starts_character[place + length]
        found.append((length, place[whole], number[whole], frequency))

    values = np.concatenate([np.empty(0), *(frequency * length for length, _, _, frequency in found)])
    shown = np.concatenate([np.zeros(0, np.bool_), *(_shown(number, len(f)) for _, _, number, f in found)])
    chosen = np.zeros(len(values), np.bool_)
    chosen[np.argsort(-np.where(shown, values, 0), kind="stable")[: _SEEDS * size]] = True
    chosen &= shown

    pieces = [bytes([byte]) for byte in range(_BYTES)]
    counts = [_weighted_count(text, weight[owner], _BYTES)]
    node = np.arange(len(text)) + owner
    starts, ends, numbers = [node], [node + 1], [text]
    offset = 0
    for length, place, number, frequency in found:
        selected = chosen[offset : offset + len(frequency)]
        offset += len(frequency)
        here = selected[number]
        place, number = place[here], number[here]
        new, first, index = np.unique(number, return_index=True, return_inverse=True)
        starts.append(node[place])
        ends.append(node[place] + length)
        numbers.append(index + len(pieces))
        counts.append(frequency[new])
        pieces += [text[at : at + length].astype(np.uint8).tobytes() for at in place[first]]

    last = np.cumsum(lengths + 1) - 1
    first_node = last - lengths
    node_owner = np.repeat(np.arange(len(words)), lengths + 1)
    lattice = _Lattice(
        start=np.concatenate(starts),
        end=np.concatenate(ends),
        piece=np.concatenate(numbers),
        depth=np.arange(len(node_owner)) - first_node[node_owner],
        first=first_node,
        last=last,
        weight=weight,
        owner=node_owner,
    )
    return pieces, np.concatenate(counts), lattice


def _weighted_count(number: Ints, weight: Floats, count: int = 0) -> Floats:
    return np.bincount(number, weight, minlength=count).astype(np.float64, copy=False)


def _shown(number: Ints, count: int) -> npt.NDArray[np.bool_]:
    """Which of `count` numbers occur."""
    return np.bincount(number, minlength=count) > 0
