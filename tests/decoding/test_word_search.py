"""The word search against enumeration of every word of a small random model."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch

from recurra.decoding.word_search import TokenKinds, likeliest_words

# Letters, a piece that gives some words two spellings, a space, a letter with its own space, a mark, a line end.
TOKENS = ["a", "b", "ab", " ", " a", ",", "\n"]
BOUNDARY = [False, False, False, True, True, True, True]
SPACE = [False, False, False, True, False, False, False]
MARK = [False, False, False, False, False, True, True]
KINDS = TokenKinds(torch.tensor(BOUNDARY), torch.tensor(SPACE), torch.tensor(MARK))
LONGEST = 4


class RandomModel:
    """P(next | previous token, position), where a word must end after LONGEST tokens; the state is both numbers."""

    def __init__(self, seed: int) -> None:
        random = np.random.default_rng(seed)
        table = random.dirichlet(np.full(len(TOKENS), 0.6), size=(LONGEST + 2, len(TOKENS)))
        table[LONGEST:, :, : BOUNDARY.index(True)] = 0.0
        # A second space in a row would make the enumeration endless.
        table[:, TOKENS.index(" "), TOKENS.index(" ")] = 0.0
        self.table = table / table.sum(-1, keepdims=True)
        self.rows_read = 0

    def step(self, tokens: torch.Tensor, state: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        self.rows_read += len(tokens)
        position = state[0, :, 0].long() + 1
        assert state.shape == (1, len(tokens), 1)
        rows = self.table[position.numpy(), tokens.numpy()]
        with np.errstate(divide="ignore"):
            return torch.from_numpy(np.log(rows)), position.to(state).view(1, -1, 1)

    def first(self) -> torch.Tensor:
        return torch.from_numpy(np.log(self.table[0, 0]))


def spell(tokens: Sequence[int]) -> str:
    return "".join(TOKENS[token] for token in tokens).strip(" ") or "?"


def enumerate_words(model: RandomModel, complete: bool) -> dict[str, float]:
    """Every word's probability by the definition, with no search: spaces, then letters, then what ends a word."""
    words: dict[str, float] = {}
    first = model.table[0, 0] * (np.array(BOUNDARY) if complete else 1.0)
    first = first / first.sum()
    for leading in ([], [TOKENS.index(" ")]):
        for length in range(1, LONGEST + 2):
            for run in itertools.product(range(len(TOKENS)), repeat=length):
                if SPACE[run[0]] or any(BOUNDARY[token] for token in run[1:]):
                    continue
                if MARK[run[0]] and length > 1:
                    continue
                sequence = [*leading, *run]
                probability = first[sequence[0]]
                for position, (previous, token) in enumerate(itertools.pairwise(sequence), start=1):
                    probability *= model.table[min(position, LONGEST + 1), previous, token]
                if not MARK[run[0]]:
                    row = model.table[min(len(sequence), LONGEST + 1), sequence[-1]]
                    probability *= row[np.array(BOUNDARY)].sum()
                word = spell(sequence)
                words[word] = words.get(word, 0.0) + probability
    return words


class CappedModel(RandomModel):
    def step(self, tokens: torch.Tensor, state: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return super().step(tokens, state.clamp(max=LONGEST))


@pytest.mark.parametrize("complete", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_an_exhaustive_search_is_the_enumeration(seed: int, complete: bool) -> None:
    model = CappedModel(seed)
    expected = enumerate_words(model, complete)
    assert math.fsum(expected.values()) == pytest.approx(1.0, abs=1e-9), "the enumeration must be whole"
    found = likeliest_words(
        model.step, model.first(), torch.zeros(1, 1, 1), KINDS, spell, complete=complete, top=10_000, budget=100_000
    )
    assert found.unseen == pytest.approx(0.0, abs=1e-9)
    got = dict(found.words)
    assert {word for word, p in expected.items() if p > 0} == set(got)
    for word, probability in got.items():
        assert probability == pytest.approx(expected[word], rel=1e-9)


@pytest.mark.parametrize("width", [1, 3, 64])
@pytest.mark.parametrize("seed", range(4))
def test_the_top_words_are_found_without_reading_everything(seed: int, width: int) -> None:
    model = CappedModel(seed)
    expected = enumerate_words(model, complete=True)
    options: dict[str, Any] = {"complete": True, "top": 3}
    found = likeliest_words(
        model.step, model.first(), torch.zeros(1, 1, 1), KINDS, spell, width=max(width, 4), **options
    )
    read = model.rows_read
    likeliest_words(
        model.step, model.first(), torch.zeros(1, 1, 1), KINDS, spell, complete=True, top=10_000, budget=100_000
    )
    assert read < (model.rows_read - read) / 4
    # Words have several spellings here: what was found never exceeds the truth, and lacks at most what was not seen.
    for word, probability in found.words:
        assert probability <= expected[word] * (1 + 1e-9)
        assert expected[word] - probability <= found.unseen + 1e-9
    assert found.words[0][0] == max(expected, key=lambda word: expected[word])
    assert [p for _, p in found.words] == sorted((p for _, p in found.words), reverse=True)


def test_the_budget_bounds_the_work() -> None:
    model = CappedModel(0)
    found = likeliest_words(
        model.step, model.first(), torch.zeros(1, 1, 1), KINDS, spell, complete=False, top=10_000, budget=5
    )
    assert model.rows_read <= 5
    assert 0.0 < found.unseen < 1.0
    assert math.fsum(p for _, p in found.words) + found.unseen == pytest.approx(1.0)
