"""The likeliest next words of a model whose tokens are smaller than words: best-first search over their spellings.

A word is a run of tokens that ends where a token follows that shows the word to be complete (a space, a line end, a
punctuation mark, a token that starts with a space), so its probability is that of its tokens followed by any of those.
A punctuation mark or other symbol is a word of its own, and so is the line end; white space before a word is skipped.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from .state import State, gather_rows

__all__ = ["FoundWords", "TokenKinds", "likeliest_words"]

Step = Callable[[Tensor, State], tuple[Tensor, State]]
"""Read one token a row, (N,) int64, from a state of N rows: log-probabilities (N, V) float64 and the new state."""


class TokenKinds(NamedTuple):
    """What each token of the vocabulary does to a word: bool tensors (V,) on the CPU.

    Attributes:
        boundary: a word before this token is complete.
        space: white space only, other than the line end.
        mark: the line end, or one without a letter or digit: a word of its own.
    """

    boundary: Tensor
    space: Tensor
    mark: Tensor


class FoundWords(NamedTuple):
    """Words with their probabilities, the likeliest first, and the probability of all that was not followed up."""

    words: list[tuple[str, float]]
    unseen: float


class _Prefix(NamedTuple):
    """The beginning of a word; the state is the one *before* its last token, in this row."""

    cost: float
    order: int
    tokens: tuple[int, ...]
    started: bool
    state: State
    row: int


def likeliest_words(
    step: Step,
    log_probabilities: Tensor,
    state: State,
    kinds: TokenKinds,
    spell: Callable[[Sequence[int]], str],
    *,
    complete: bool,
    top: int,
    width: int = 64,
    budget: int = 4096,
) -> FoundWords:
    """Search the likeliest words, best prefix first, until no open prefix can still become one of the `top` likeliest.

    The probability of a word is exact for every spelling of it that was followed; spellings of the same word add up,
    and one that was not followed makes it a lower bound, by at most `unseen`.

    Args:
        step: reads one token a row.
        log_probabilities: (V,) float64, of the first token.
        state: one row, after the text.
        kinds: of the tokenizer's vocabulary.
        spell: the text of a word's tokens.
        complete: condition on the text's last word being complete, so that it is not continued.
        top: how many words are wanted.
        width: most prefixes that are read in one step.
        budget: most prefixes that are read at all; what is still open then counts as unseen.
    """
    boundary = kinds.boundary.to(log_probabilities.device)
    if complete:
        allowed = log_probabilities.masked_fill(~boundary, -math.inf)
        log_probabilities = allowed - allowed.logsumexp(-1)
    found: dict[str, float] = {}
    heap: list[_Prefix] = []
    root = _Prefix(0.0, 0, (), False, state, 0)
    order = _open(heap, found, root, log_probabilities, state, 0, kinds, spell, -math.inf, width, 0)
    while heap and budget > 0:
        bar = _bar(found, top)
        batch: list[_Prefix] = []
        while heap and len(batch) < min(width, budget) and -heap[0].cost > bar:
            batch.append(heapq.heappop(heap))
        if not batch:
            break
        budget -= len(batch)
        tokens = torch.tensor([prefix.tokens[-1] for prefix in batch], device=log_probabilities.device)
        after, states = step(tokens, gather_rows([(prefix.state, prefix.row) for prefix in batch]))
        ended = torch.where(boundary, after, -math.inf).logsumexp(-1).tolist()
        for row, prefix in enumerate(batch):
            if prefix.started:
                word = spell(prefix.tokens)
                found[word] = found.get(word, 0.0) + math.exp(ended[row] - prefix.cost)
        bar = _bar(found, top)
        for row, prefix in enumerate(batch):
            following = after[row].masked_fill(boundary, -math.inf) if prefix.started else after[row]
            order = _open(heap, found, prefix, following, states, row, kinds, spell, bar, width, order)
    words = sorted(found.items(), key=lambda item: (-item[1], item[0]))
    return FoundWords(words[:top], max(0.0, 1.0 - math.fsum(found.values())))


def _bar(found: dict[str, float], top: int) -> float:
    """The log-probability that a prefix must exceed to matter: that of the last word which would be shown now."""
    best = heapq.nlargest(top, found.values())
    return math.log(best[-1]) if len(best) == top and best[-1] > 0 else -math.inf


def _open(
    heap: list[_Prefix],
    found: dict[str, float],
    prefix: _Prefix,
    following: Tensor,
    state: State,
    row: int,
    kinds: TokenKinds,
    spell: Callable[[Sequence[int]], str],
    bar: float,
    width: int,
    order: int,
) -> int:
    """Put the likeliest continuations of a prefix on the heap; those that are words already are found at once."""
    # Four times the width bounds the heap on large vocabularies; what is cut off is part of `unseen`.
    values, tokens = following.topk(min(4 * width, following.shape[0]))
    for value, token in zip(values.tolist(), tokens.tolist(), strict=True):
        log_probability = value - prefix.cost
        if log_probability == -math.inf or log_probability <= bar:
            break
        sequence = (*prefix.tokens, token)
        if not prefix.started and kinds.mark[token]:
            word = spell(sequence)
            found[word] = found.get(word, 0.0) + math.exp(log_probability)
            continue
        order += 1
        started = prefix.started or not bool(kinds.space[token])
        heapq.heappush(heap, _Prefix(-log_probability, order, sequence, started, state, row))
    return order
