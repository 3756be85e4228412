"""Writing: stop strings, rows that leave the batch, tokens that are banned, one model step a token."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from recurra.decoding.sampling import SamplingOptions, sample_generators
from recurra.decoding.writing import StopString, write


@given(st.text("ab", max_size=12), st.text("ab", min_size=1, max_size=4), st.lists(st.integers(1, 4), max_size=12))
def test_a_stop_string_cuts_wherever_the_pieces_end(text: str, stop: str, sizes: list[int]) -> None:
    pieces, rest = [], text
    for size in sizes:
        pieces.append(rest[:size])
        rest = rest[size:]
    watcher = StopString(stop)
    shown = ""
    for piece in [*pieces, rest]:
        shown += watcher.push(piece)
        assert stop not in shown
        assert text.startswith(shown)
    shown += watcher.flush()
    assert shown == text.split(stop)[0]
    assert watcher.found == (stop in text)


def test_no_stop_string_passes_everything_at_once() -> None:
    watcher = StopString(None)
    assert watcher.push("abc") == "abc"
    assert not watcher.found


class Letters:
    """A decoder of one letter a token that keeps its last letter back until the next one."""

    def __init__(self) -> None:
        self.held = ""

    def push(self, token: int) -> str:
        text, self.held = self.held, chr(ord("a") + token)
        return text

    def flush(self) -> str:
        text, self.held = self.held, ""
        return text


class Counter:
    """P(next | row's own history) from a table; the state counts a row's steps, and every batch is recorded."""

    def __init__(self, vocabulary: int) -> None:
        self.table = torch.from_numpy(np.random.default_rng(0).normal(size=(100, vocabulary)))
        self.batches: list[int] = []

    def step(self, tokens: torch.Tensor, state: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        self.batches.append(len(tokens))
        state = state * 7 % 97 + tokens.view(1, -1, 1).to(state)
        return self.table[state[0, :, 0].long()], state


def run(count: int, length: int, *, stop: str | None = None, banned: int | None = None) -> tuple[list[str], Counter]:
    vocabulary = 5
    model = Counter(vocabulary)
    mask = torch.zeros(vocabulary, dtype=torch.bool)
    if banned is not None:
        mask[banned] = True
    texts = [""] * count
    for row, text in write(
        model.step,
        torch.zeros(vocabulary, dtype=torch.float64),
        torch.zeros(1, 1, 1, dtype=torch.float64),
        [Letters() for _ in range(count)],
        sample_generators(5, count),
        SamplingOptions(),
        length=length,
        seen=torch.zeros(vocabulary, dtype=torch.bool),
        banned=mask,
        stop=stop,
    ):
        texts[row] += text
    return texts, model


def test_every_token_is_written_with_one_step_each() -> None:
    texts, model = run(3, 20)
    assert [len(text) for text in texts] == [20, 20, 20]
    assert model.batches == [3] * 19


def test_sample_i_of_n_does_not_depend_on_n() -> None:
    assert run(6, 15)[0][:2] == run(2, 15)[0]


def test_rows_that_stop_leave_the_batch_and_do_not_disturb_the_others() -> None:
    free, _ = run(5, 30)
    stopped, model = run(5, 30, stop="ab")
    assert stopped == [text.split("ab")[0] for text in free]
    assert any("ab" in text for text in free)
    assert model.batches == sorted(model.batches, reverse=True)
    assert model.batches[-1] < 5


def test_banned_tokens_and_the_first_token() -> None:
    assert all("c" not in text for text in run(4, 40, banned=2)[0])
    model = Counter(5)
    only_d = torch.tensor([False, False, False, True, False])
    nothing = torch.zeros(5, dtype=torch.bool)
    pieces = write(
        model.step, torch.zeros(5), torch.zeros(1, 1, 1), [Letters()], sample_generators(0, 1), SamplingOptions(),
        length=6, seen=nothing, banned=nothing, first_allowed=only_d,
    )  # fmt: skip
    text = "".join(piece for _, piece in pieces)
    assert text[0] == "d"
    assert set(text) != {"d"}


@pytest.mark.parametrize("penalty", [1.0, 1e9])
def test_the_repetition_penalty_sees_the_prompt_and_what_was_written(penalty: float) -> None:
    model = Counter(5)
    prompt = torch.tensor([True, False, False, False, False])
    pieces = write(
        lambda tokens, state: (torch.full((len(tokens), 5), 1.0), state),
        torch.ones(5), torch.zeros(1, 1, 1), [Letters()], sample_generators(2, 1),
        SamplingOptions(temperature=0.01, repetition_penalty=penalty),
        length=4, seen=prompt, banned=torch.zeros(5, dtype=torch.bool),
    )  # fmt: skip
    text = "".join(piece for _, piece in pieces)
    assert model.batches == []
    assert (sorted(text) == ["b", "c", "d", "e"]) == (penalty > 1.0)
