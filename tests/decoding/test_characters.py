"""Outputs of byte tokens: Python's own UTF-8 decoder says what is one."""

from __future__ import annotations

import codecs
import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from recurra.decoding.beam_search import BeamOptions, beam_search
from recurra.decoding.characters import WholeCharacters
from recurra.decoding.constraints import Constraints
from recurra.decoding.greedy import write_outputs
from recurra.decoding.hypothesis import StepOutput
from recurra.decoding.sampling import SamplingOptions, sample_generators
from recurra.decoding.writing import write

END = 256
SINGLE = [bytes([value]) for value in range(256)] + [b"\n"]
EDGES = [
    0x00,
    0x7F,
    0x80,
    0x8F,
    0x90,
    0x9F,
    0xA0,
    0xBF,
    0xC1,
    0xC2,
    0xDF,
    0xE0,
    0xE1,
    0xEC,
    0xED,
    0xEF,
    0xF0,
    0xF4,
    0xF5,
]


def pending(text: bytes) -> bytes | None:
    """The bytes of a character that has not ended yet; None if this can never become UTF-8."""
    decoder = codecs.getincrementaldecoder("utf-8")("strict")
    try:
        decoder.decode(text)
    except UnicodeDecodeError:
        return None
    return decoder.getstate()[0]


@given(st.lists(st.lists(st.sampled_from(EDGES) | st.integers(0, 255), min_size=1, max_size=5).map(bytes), max_size=4))
def test_tokens_follow_where_python_can_go_on_decoding(pieces: list[bytes]) -> None:
    table = WholeCharacters([*pieces, b"\n"], len(pieces))
    state, text = 0, b""
    for token, piece in enumerate(pieces):
        state, text = int(table.following[state, token]), text + piece
        assert (state == -1) == (pending(text) is None)
        if state == -1:
            return
        assert (state == 0) == (pending(text) == b"") == (table.following[state, len(pieces)] != -1)


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=20))
def test_every_text_may_be_written_byte_by_byte(text: str) -> None:
    table = WholeCharacters(SINGLE, END)
    state = 0
    for byte in text.encode():
        state = int(table.following[state, byte])
        assert state != -1
    assert state == 0


def step_of(table: WholeCharacters, logits: Tensor, longest: int) -> Any:
    """A model that has its own mind at each step, held to whole characters."""

    def step(tokens: Tensor, state: Tensor) -> StepOutput:
        place, taken, search = state[0].unbind(-1)
        place = table.following[place, tokens].long()
        logs = logits[search, taken].log_softmax(-1)
        table.apply(logs, place, taken == longest)
        return StepOutput(logs, torch.stack([place, taken + 1, search], -1).unsqueeze(0))

    return step


@pytest.mark.parametrize("way", ["search", "greedy", "sampling"])
def test_outputs_are_whole_characters(way: str) -> None:
    longest, searches = 12, 6
    table = WholeCharacters(SINGLE, END)
    logits = 2 * torch.randn((searches, longest + 1, 257), generator=torch.Generator().manual_seed(3))
    # Parts of characters are what it likes best.
    logits[:, :, 128:256] += 4
    step = step_of(table, logits, longest)
    start = torch.tensor([[[0, 0, search] for search in range(searches)]])
    limits = [Constraints(longest, min_length=2)] * searches
    if way == "search":
        found = [one for each in beam_search(step, start, END, BeamOptions(4, 4), limits) for one in each]
    else:
        drawing = None if way == "greedy" else SamplingOptions()
        written = write_outputs(
            step, start, END, limits, sampling=drawing, generators=sample_generators(0, searches) if drawing else None
        )
        found = [one for one in written if one is not None]
        assert len(found) == searches
    assert len(found) >= searches and any(max(one.tokens) > 127 for one in found)
    for one in found:
        text = bytes(one.tokens)
        assert pending(text) == b"" or (len(text) == longest and pending(text) is not None)
        assert one.log_probability > -math.inf


class Bytes:
    """A decoder that keeps all bytes to the end."""

    def __init__(self) -> None:
        self.text = b""

    def push(self, token: int) -> str:
        self.text += SINGLE[token]
        return ""

    def flush(self) -> str:
        return ""


def test_text_is_written_in_whole_characters() -> None:
    length, rows = 40, 8
    table = WholeCharacters(SINGLE, END)
    logits = 2 * torch.randn((length, 257), generator=torch.Generator().manual_seed(5))
    logits[:, 128:256] += 4

    def step(tokens: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        return logits[state[0, :, 0]].clone(), state + 1

    decoders = [Bytes() for _ in range(rows)]
    none = torch.zeros(257, dtype=torch.bool)
    for characters in (None, table):
        decoders = [Bytes() for _ in range(rows)]
        pieces = write(
            step, logits[0].clone(), torch.ones((1, 1, 1), dtype=torch.int64), decoders, sample_generators(0, rows),
            SamplingOptions(), length=length, seen=none, banned=none, characters=characters,
        )  # fmt: skip
        assert list(pieces) == []
        whole = [pending(decoder.text) is not None for decoder in decoders]
        assert all(whole) if characters else not any(whole)
        assert all(len(decoder.text) == length for decoder in decoders)


def test_what_has_only_whole_characters_needs_nothing() -> None:
    assert not WholeCharacters([b"a", "é가".encode(), b"\n"], 2).needed
    assert WholeCharacters(SINGLE, END).needed
