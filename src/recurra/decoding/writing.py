"""Writing text token by token: several samples in one batch, given out as text that will not change any more."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

import torch
from torch import Tensor

from .characters import WholeCharacters
from .sampling import SamplingOptions, sample
from .state import State, select_rows

__all__ = ["StopString", "TextDecoder", "write"]

Step = Callable[[Tensor, State], tuple[Tensor, State]]
"""Read one token a row, (N,) int64, from a state of N rows: logits (N, V) and the new state."""


class TextDecoder(Protocol):
    """Turns tokens into text as they come; what `push` gives is certain, what is left over `flush` gives."""

    def push(self, token: int, /) -> str: ...

    def flush(self) -> str: ...


class StopString:
    """Passes text on until a string occurs in it; holds back what may be the string's beginning.

    Attributes:
        found: True once the string has occurred; it and all that follows is not passed on.
    """

    def __init__(self, stop: str | None) -> None:
        self.found = False
        self._stop = stop or ""
        self._held = ""

    def push(self, text: str) -> str:
        """Add text; returns what can be shown now."""
        if self.found or not self._stop:
            return "" if self.found else text
        held = self._held + text
        position = held.find(self._stop)
        if position >= 0:
            self.found = True
            self._held = ""
            return held[:position]
        keep = next(
            (size for size in range(min(len(held), len(self._stop) - 1), 0, -1) if self._stop.startswith(held[-size:])),
            0,
        )
        self._held = held[len(held) - keep :]
        return held[: len(held) - keep]

    def flush(self) -> str:
        """What was held back, once no more text follows."""
        held, self._held = self._held, ""
        return held


def write(
    step: Step,
    logits: Tensor,
    state: State,
    decoders: Sequence[TextDecoder],
    generators: Sequence[torch.Generator],
    options: SamplingOptions,
    *,
    length: int,
    seen: Tensor,
    banned: Tensor,
    first_allowed: Tensor | None = None,
    characters: WholeCharacters | None = None,
    stop: str | None = None,
) -> Iterator[tuple[int, str]]:
    """Write up to `length` tokens in each of N rows, one step of the model a token; rows that stop leave the batch.

    Args:
        step: reads one token a row.
        logits: (V,), of the first token of every row.
        state: one row, after the prompt.
        decoders: N, which have seen the prompt.
        generators: N, one a row; a row's draws depend on its own alone.
        options: how tokens are drawn.
        length: most tokens a row.
        seen: (V,) bool, tokens of the prompt, for the repetition penalty.
        banned: (V,) bool, tokens that are never written.
        first_allowed: (V,) bool, the only tokens that the text may begin with; None: any.
        characters: keeps what is written to whole characters, but for a last one that `length` cuts; None: nothing
            need be kept. Logits are then on the CPU.
        stop: a string that ends a row and is not written, also when several tokens make it up.

    Yields:
        (row, text) for each row and step at which there is text to show.
    """
    rows = list(range(len(decoders)))
    stops = [StopString(stop) for _ in rows]
    device = logits.device
    current = logits.expand(len(rows), -1)
    state = select_rows(state, torch.zeros(len(rows), dtype=torch.int64, device="cpu"))
    seen = seen.to(device).expand(len(rows), -1).clone()
    forbidden = banned.to(device)
    places = torch.zeros(len(rows), dtype=torch.int64, device="cpu")
    for position in range(length):
        blocked = forbidden if position or first_allowed is None else forbidden | ~first_allowed.to(device)
        allowed = current.masked_fill(blocked, -math.inf)
        if characters is not None:
            characters.apply(allowed, places, torch.zeros(len(rows), dtype=torch.bool, device="cpu"))
        drawn = sample(allowed, [generators[row] for row in rows], options, seen)
        if characters is not None:
            places = characters.following[places, drawn].long()
        seen.scatter_(1, drawn.unsqueeze(1), True)
        going = []
        for index, (row, token) in enumerate(zip(rows, drawn.tolist(), strict=True)):
            text = stops[row].push(decoders[row].push(token))
            if text:
                yield row, text
            if not stops[row].found:
                going.append(index)
        if not going or position == length - 1:
            rows = [rows[index] for index in going]
            break
        if len(going) < len(rows):
            keep = torch.tensor(going, device="cpu")
            rows = [rows[index] for index in going]
            drawn, seen, state = drawn[keep.to(device)], seen[keep.to(device)], select_rows(state, keep)
            places = places[keep]
        current, state = step(drawn, state)
    for row in rows:
        text = stops[row].push(decoders[row].flush())
        text += stops[row].flush()
        if text:
            yield row, text
