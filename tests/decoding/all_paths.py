"""Oracles of the recognisers' searches: all paths one by one in Python, and small models to fuse."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

Labels = tuple[int, ...]


class Spelt(NamedTuple):
    """All paths that spell the same labels: log of their sum, the best of them, and where its labels are."""

    log_probability: float
    best: float
    frames: list[tuple[int, int]]


def log_sum(values: Sequence[float]) -> float:
    top = max(values, default=-math.inf)
    return top if top == -math.inf else top + math.log(math.fsum(math.exp(value - top) for value in values))


def random_frames(seed: int, frames: int, labels: int, impossible: float = 0.0, peak: float = 2.0) -> Tensor:
    """Log-probabilities (T, V), a share of them minus infinity."""
    random = np.random.default_rng(seed)
    logits = peak * random.standard_normal((frames, labels))
    logits[random.random((frames, labels)) < impossible] = -np.inf
    with np.errstate(all="ignore"):
        values = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    return torch.from_numpy(np.nan_to_num(values, nan=-np.inf, neginf=-np.inf))


def all_paths(frames: Tensor, blank: int = 0) -> dict[Labels, Spelt]:
    """Every label sequence that some path of a probability above zero spells."""
    rows = frames.tolist()
    found: dict[Labels, list[tuple[float, tuple[int, ...]]]] = {}
    for path in itertools.product(range(frames.shape[1]), repeat=len(rows)):
        total = math.fsum(row[label] for row, label in zip(rows, path, strict=True))
        if total > -math.inf:
            found.setdefault(collapsed(path, blank)[0], []).append((total, path))
    spelt = {}
    for labels, paths in found.items():
        best, path = max(paths)
        spelt[labels] = Spelt(log_sum([total for total, _ in paths]), best, collapsed(path, blank)[1])
    return spelt


def collapsed(path: Sequence[int], blank: int) -> tuple[Labels, list[tuple[int, int]]]:
    """The labels of a path, and the frames of each."""
    runs = [(label, len(list(run))) for label, run in itertools.groupby(path)]
    ends = list(itertools.accumulate(size for _, size in runs))
    kept = [(label, end - size, end) for (label, size), end in zip(runs, ends, strict=True) if label != blank]
    return tuple(label for label, _, _ in kept), [(start, end) for _, start, end in kept]


class Bigrams:
    """A language model: P(next | previous token) out of a table; the state is the previous token. It begins with 0."""

    def __init__(self, seed: int, tokens: int) -> None:
        random = np.random.default_rng(seed)
        self.table = torch.from_numpy(np.log(random.dirichlet(np.full(tokens, 0.7), size=tokens)))
        self.read: list[list[int]] = []

    def begin(self, tokens: Sequence[int] = ()) -> tuple[Tensor, Tensor]:
        last = [0, *tokens][-1]
        return self.table[last], torch.full((1, 1, 1), last)

    def advance(self, tokens: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        assert state.shape == (1, len(tokens), 1)
        # What was read before stands in the state, so that a state of a wrong row shows.
        self.read.append((state[0, :, 0] * 1000 + tokens).tolist())
        return self.table[tokens], tokens.view(1, -1, 1)

    def score(self, tokens: Sequence[int], end: int | None = None) -> float:
        whole = [0, *tokens] if end is None else [0, *tokens, end]
        return math.fsum(float(self.table[one, other]) for one, other in itertools.pairwise(whole))
