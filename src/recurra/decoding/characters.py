"""Whole characters from tokens that may hold a part of one: at no step can the bytes of an output cease to be UTF-8."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["WholeCharacters"]

_REFUSED = -1
# Bytes that may follow in each state, and the state after them (The Unicode Standard 15.0, table 3-7). 0 is between
# characters; in 1, 2 and 3 so many bytes are missing; 4 to 7 are after the leads E0, ED, F0 and F4, whose second byte
# would otherwise spell a character that has a shorter form, is a surrogate, or does not exist.
_TRANSITIONS: tuple[tuple[tuple[int, int, int], ...], ...] = (
    (
        *((0x00, 0x7F, 0), (0xC2, 0xDF, 1), (0xE0, 0xE0, 4), (0xE1, 0xEC, 2), (0xED, 0xED, 5), (0xEE, 0xEF, 2)),
        *((0xF0, 0xF0, 6), (0xF1, 0xF3, 3), (0xF4, 0xF4, 7)),
    ),
    ((0x80, 0xBF, 0),),
    ((0x80, 0xBF, 1),),
    ((0x80, 0xBF, 2),),
    ((0xA0, 0xBF, 1),),
    ((0x80, 0x9F, 1),),
    ((0x90, 0xBF, 2),),
    ((0x80, 0x8F, 2),),
)


class WholeCharacters:
    """Which tokens may follow where.

    Args:
        token_bytes: what each token adds to the text.
        end: the token that ends an output.

    Attributes:
        following: (states, V) int8, the state after a token in a state, -1 where it may not follow.
    """

    def __init__(self, token_bytes: Sequence[bytes], end: int) -> None:
        states = len(_TRANSITIONS)
        self.following = torch.full((states, len(token_bytes)), _REFUSED, dtype=torch.int8, device="cpu")
        for token, text in enumerate(token_bytes):
            if _is_whole(text):
                self.following[0, token] = 0
            else:
                self.following[:, token] = torch.tensor([_after(text, state) for state in range(states)], device="cpu")
        self.following[:, end] = _REFUSED
        self.following[0, end] = 0
        self._end = end
        self._never_first = (self.following[0] == _REFUSED).nonzero().squeeze(1)
        self._inside = [(self.following[state] != _REFUSED).nonzero().squeeze(1) for state in range(states)]

    @property
    def needed(self) -> bool:
        """Whether there are tokens that are no whole characters."""
        return bool(len(self._never_first))

    def apply(self, log_probabilities: Tensor, states: Tensor, last: Tensor) -> None:
        """Set what may not follow to minus infinity, in place.

        Args:
            log_probabilities: (N, V) on the CPU.
            states: (N,) int64, where each output stands.
            last: (N,) bool, outputs that must end now, be it inside a character.
        """
        inside = states.nonzero().squeeze(1).tolist()
        kept = []
        for row in inside:
            allowed = self._inside[int(states[row])]
            if last[row]:
                allowed = torch.cat([allowed, allowed.new_tensor([self._end])])
            kept.append((allowed, log_probabilities[row, allowed]))
        log_probabilities[:, self._never_first] = -math.inf
        for row, (allowed, values) in zip(inside, kept, strict=True):
            log_probabilities[row] = -math.inf
            log_probabilities[row, allowed] = values


def _is_whole(text: bytes) -> bool:
    try:
        text.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _after(text: bytes, state: int) -> int:
    for byte in text:
        state = next((new for low, high, new in _TRANSITIONS[state] if low <= byte <= high), _REFUSED)
        if state == _REFUSED:
            break
    return state
