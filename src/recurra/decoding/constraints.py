"""What an output must or must not hold: lengths, forced beginnings, banned and required token sequences, n-grams."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from ..errors import ConfigError

__all__ = ["Constraints", "Progress"]

Tokens = tuple[int, ...]


@dataclass(frozen=True)
class Constraints:
    """For one output.

    Attributes:
        max_length: most tokens without the end; the output then ends, whatever its probability.
        min_length: fewest tokens without the end.
        prefix: what it begins with.
        banned: sequences that do not occur in it.
        required: sequences that occur in it, in any order, perhaps sharing tokens.
        no_repeat: no run of so many tokens occurs twice; 0: any may.

    Raises:
        ConfigError: if these cannot all be had.
    """

    max_length: int
    min_length: int = 0
    prefix: Tokens = ()
    banned: tuple[Tokens, ...] = ()
    required: tuple[Tokens, ...] = ()
    no_repeat: int = 0

    def __post_init__(self) -> None:
        if self.max_length < 0 or self.min_length < 0 or self.no_repeat < 0:
            raise ConfigError("lengths and no_repeat must not be negative.")
        if self.min_length > self.max_length:
            raise ConfigError(f"the least length {self.min_length} is above the greatest, {self.max_length} tokens.")
        needed = len(self.prefix) + sum(map(len, self.required))
        if needed > self.max_length:
            raise ConfigError(
                f"the prefix and required words have {needed} tokens, but at most {self.max_length} may be."
            )
        if any(not tokens for tokens in (*self.banned, *self.required)):
            raise ConfigError("a banned or required word has no tokens.")

    @property
    def only_lengths(self) -> bool:
        """Whether nothing needs to look at an output's tokens."""
        return not (self.prefix or self.banned or self.required or self.no_repeat)

    def apply(self, log_probabilities: Tensor, tokens: Sequence[int], eos: int) -> None:
        """Set what may not follow `tokens` to minus infinity, in place.

        Args:
            log_probabilities: (V,).
            tokens: of the output so far.
            eos: the end.
        """
        length = len(tokens)
        if length < len(self.prefix):
            _only(log_probabilities, [self.prefix[length]])
            return
        if self.required and Progress.of(tokens, self.required).missing:
            log_probabilities[eos] = -math.inf
            self._leave_room(log_probabilities, tokens)
        elif length >= self.max_length:
            _only(log_probabilities, [eos])
            return
        if length < self.min_length:
            log_probabilities[eos] = -math.inf
        for banned in self.banned:
            if length >= len(banned) - 1 and tuple(tokens[length - len(banned) + 1 :]) == banned[:-1]:
                log_probabilities[banned[-1]] = -math.inf
        if self.no_repeat and length >= self.no_repeat - 1:
            size = self.no_repeat - 1
            end = list(tokens[length - size :]) if size else []
            for start in range(length - size):
                if list(tokens[start : start + size]) == end:
                    log_probabilities[tokens[start + size]] = -math.inf

    def _leave_room(self, log_probabilities: Tensor, tokens: Sequence[int]) -> None:
        """Leave only tokens after which there is room for what is still missing."""
        room = self.max_length - len(tokens) - 1
        # A token of none of the sequences also gives up the one that is under way.
        if Progress.of([*tokens, -1], self.required).missing <= room:
            return
        useful = sorted({token for sequence in self.required for token in sequence})
        _only(log_probabilities, [t for t in useful if Progress.of([*tokens, t], self.required).missing <= room])


@dataclass(frozen=True)
class Progress:
    """How far an output has come with what is required of it.

    Attributes:
        met: tokens of required sequences that are there, those of one that is under way included.
        missing: tokens that are still needed.
        following: the tokens that would bring it on, first the one that goes on with a sequence under way.
    """

    met: int
    missing: int
    following: tuple[int, ...]

    @classmethod
    def of(cls, tokens: Sequence[int], required: Sequence[Tokens]) -> Progress:
        """The progress of `tokens`."""
        row = tuple(tokens)
        open_ones = [one for one in required if not _holds(row, one)]
        met = sum(map(len, required)) - sum(map(len, open_ones))
        begun = max(((_begun(row, one), one) for one in open_ones), key=lambda pair: pair[0], default=(0, ()))
        following = [begun[1][begun[0]]] if begun[0] else []
        following += [one[0] for one in open_ones if one[0] not in following]
        missing = sum(map(len, open_ones)) - begun[0]
        return cls(met + begun[0], missing, tuple(following))


def _holds(row: Tokens, sequence: Tokens) -> bool:
    size = len(sequence)
    return any(row[start : start + size] == sequence for start in range(len(row) - size + 1))


def _begun(row: Tokens, sequence: Tokens) -> int:
    """How many tokens of a sequence's beginning are the end of the row."""
    return next((size for size in range(min(len(sequence) - 1, len(row)), 0, -1) if row[-size:] == sequence[:size]), 0)


def _only(log_probabilities: Tensor, allowed: Sequence[int]) -> None:
    if not allowed:
        log_probabilities.fill_(-math.inf)
        return
    kept = log_probabilities[list(allowed)].clone()
    log_probabilities.fill_(-math.inf)
    log_probabilities[list(allowed)] = kept
