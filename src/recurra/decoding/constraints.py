"""What an output must or must not hold: lengths, forced beginnings, banned and required token sequences, n-grams."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from ..bounds import LARGEST
from ..errors import ConfigError

__all__ = ["Constraints", "Progress", "WordJoints"]

Tokens = tuple[int, ...]

# Stand for any token of no sequence: one that begins a word, and one that goes on with the word before it.
_NEW, _ON = -1, -2


@dataclass(frozen=True)
class WordJoints:
    """Where two tokens belong to one word, as a subword without a space does to the one before it.

    With them a token sequence stands for whole words: it counts only where it is not a part of longer ones, and a
    banned one is banned in whatever tokens it is spelt.

    Attributes:
        begins: the tokens that go on with a word that the token before them ends in.
        ends: the tokens that end in a word, and not in a space or a symbol.
        texts: what each token adds to the text.
    """

    begins: frozenset[int]
    ends: frozenset[int]
    texts: tuple[bytes, ...]

    @cached_property
    def begins_mask(self) -> Tensor:
        """Bool (V,), true for `begins`."""
        mask = torch.zeros(len(self.texts), dtype=torch.bool, device="cpu")
        mask[list(self.begins)] = True
        return mask

    def join(self, left: int, right: int) -> bool:
        """Whether `right` goes on with a word of `left`."""
        return left in self.ends and (right == _ON or right in self.begins)

    def last_of(self, words: Tokens) -> list[int]:
        """The tokens that the text of `words` can end in."""
        if words not in self._last:
            wanted = self._text(words)
            self._last[words] = [
                token
                for token, text in enumerate(self.texts)
                if text.strip(b" ") and (wanted.endswith(text) or wanted == text.lstrip(b" "))
            ]
        return self._last[words]

    @cached_property
    def _last(self) -> dict[Tokens, list[int]]:
        return {}

    def _text(self, words: Tokens) -> bytes:
        return b"".join(self.texts[token] for token in words).lstrip(b" ")

    def ends_with(self, row: Tokens, words: Tokens) -> bool:
        """Whether the text of `row` ends with that of `words`, the first of them being whole."""
        wanted = self._text(words)
        text = b""
        for place in range(len(row) - 1, -1, -1):
            text = self.texts[row[place]] + text
            bare = text.lstrip(b" ")
            if len(bare) > len(wanted):
                return False
            if bare == wanted and _begins_a_word(row, place, self):
                return True
        return False


@dataclass(frozen=True)
class Constraints:
    """For one output.

    Attributes:
        max_length: most tokens without the end; the output then ends, whatever its probability.
        min_length: fewest tokens without the end.
        prefix: what it begins with.
        banned: sequences that do not occur in it.
        required: sequences that occur in it, in any order, perhaps sharing tokens where there is room for them apart.
        no_repeat: no run of so many tokens occurs twice; 0: any may.
        joints: make banned and required sequences whole words; None: they may stand anywhere.

    Raises:
        ConfigError: if these cannot all be had.
    """

    max_length: int
    min_length: int = 0
    prefix: Tokens = ()
    banned: tuple[Tokens, ...] = ()
    required: tuple[Tokens, ...] = ()
    no_repeat: int = 0
    joints: WordJoints | None = None

    def __post_init__(self) -> None:
        if self.max_length < 0 or self.min_length < 0 or self.no_repeat < 0:
            raise ConfigError("lengths and no_repeat must not be negative.")
        if self.max_length > LARGEST:
            raise ConfigError(f"the greatest length must be at most {LARGEST:,} tokens.")
        if self.min_length > self.max_length:
            raise ConfigError(f"the least length {self.min_length} is above the greatest, {self.max_length} tokens.")
        if any(not tokens for tokens in (*self.banned, *self.required)):
            raise ConfigError("a banned or required word has no tokens.")
        needed = self.needed
        if needed > self.max_length:
            raise ConfigError(
                f"the prefix and required words have {needed} tokens, but at most {self.max_length} may be."
            )
        # What goes on with a prefix may still make another word of its last.
        closed = (*self.prefix, _ON) if self.joints is not None else self.prefix
        if any(_holds(closed, banned, self.joints) for banned in self.banned):
            raise ConfigError("the prefix holds a banned word.")
        runs = [self.prefix[at : at + self.no_repeat] for at in range(len(self.prefix) - self.no_repeat + 1)]
        if self.no_repeat and len(set(runs)) < len(runs):
            raise ConfigError(f"the prefix repeats a run of {self.no_repeat} tokens.")

    @property
    def needed(self) -> int:
        """Tokens of the prefix, and of what is required after it."""
        return len(self.prefix) + self.progress(self.prefix).missing

    @property
    def only_lengths(self) -> bool:
        """Whether nothing needs to look at an output's tokens."""
        return not (self.prefix or self.banned or self.required or self.no_repeat)

    def binds(self, length: int) -> bool:
        """Whether `apply` may do anything to an output of so many tokens."""
        return not self.only_lengths or not self.min_length <= length < self.max_length

    def progress(self, tokens: Sequence[int]) -> Progress:
        """How far an output has come with what is required."""
        return Progress.of(tokens, self.required, self.joints)

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
        missing = bool(self.required) and self.progress(tokens).missing > 0
        if missing:
            log_probabilities[eos] = -math.inf
        elif length >= self.max_length:
            _only(log_probabilities, [eos])
        if self.required and (missing or length < self.max_length):
            # With nothing missing, too: what goes on with a word that was required makes another one of it.
            self._leave_room(log_probabilities, tokens)
        if length < self.min_length:
            log_probabilities[eos] = -math.inf
        self._ban(log_probabilities, tokens)
        if self.no_repeat and length >= self.no_repeat - 1:
            size = self.no_repeat - 1
            end = list(tokens[length - size :]) if size else []
            for start in range(length - size):
                if list(tokens[start : start + size]) == end:
                    log_probabilities[tokens[start + size]] = -math.inf

    def _ban(self, log_probabilities: Tensor, tokens: Sequence[int]) -> None:
        row, joints = tuple(tokens), self.joints
        for banned in self.banned:
            if joints is not None and banned[-1] in joints.ends:
                if joints.ends_with(row, banned):
                    # Only what makes a longer word of it may follow.
                    log_probabilities.masked_fill_(~joints.begins_mask.to(log_probabilities.device), -math.inf)
                continue
            if joints is None:
                whole = (*row[len(row) - len(banned) + 1 :], banned[-1])
                completing = [banned[-1]] if len(row) >= len(banned) - 1 and whole == banned else []
            else:
                completing = [token for token in joints.last_of(banned) if joints.ends_with((*row, token), banned)]
            log_probabilities[completing] = -math.inf

    def _leave_room(self, log_probabilities: Tensor, tokens: Sequence[int]) -> None:
        """Leave only tokens after which there is room for what is still missing."""
        room = self.max_length - len(tokens) - 1

        def fits(token: int) -> bool:
            return self.progress([*tokens, token]).missing <= room

        # A token of none of the sequences gives up the one that is under way, and may make another word of the last.
        new, on = fits(_NEW), self.joints is None or fits(_ON)
        if new and on:
            return
        useful = [t for t in sorted({token for sequence in self.required for token in sequence}) if fits(t)]
        if not new or self.joints is None:
            _only(log_probabilities, useful)
            return
        kept = log_probabilities[useful].clone()
        log_probabilities.masked_fill_(self.joints.begins_mask.to(log_probabilities.device), -math.inf)
        log_probabilities[useful] = kept


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
    def of(cls, tokens: Sequence[int], required: Sequence[Tokens], joints: WordJoints | None = None) -> Progress:
        """The progress of `tokens`; a word at their end counts, as long as nothing makes another word of it."""
        row = tuple(tokens)
        open_ones = [one for one in required if not _holds(row, one, joints)]
        met = sum(map(len, required)) - sum(map(len, open_ones))
        begun = max(((_begun(row, one, joints), one) for one in open_ones), key=lambda pair: pair[0], default=(0, ()))
        following = [begun[1][begun[0]]] if begun[0] else []
        following += [one[0] for one in open_ones if one[0] not in following]
        missing = sum(map(len, open_ones)) - begun[0]
        return cls(met + begun[0], missing, tuple(following))


def _begins_a_word(row: Tokens, place: int, joints: WordJoints | None) -> bool:
    return joints is None or place == 0 or not joints.join(row[place - 1], row[place])


def _holds(row: Tokens, sequence: Tokens, joints: WordJoints | None) -> bool:
    size = len(sequence)
    return any(
        row[start : start + size] == sequence
        and _begins_a_word(row, start, joints)
        and (start + size == len(row) or _begins_a_word(row, start + size, joints))
        for start in range(len(row) - size + 1)
    )


def _begun(row: Tokens, sequence: Tokens, joints: WordJoints | None) -> int:
    """How many tokens of a sequence's beginning are the end of the row."""
    for size in range(min(len(sequence) - 1, len(row)), 0, -1):
        if row[-size:] == sequence[:size] and _begins_a_word(row, len(row) - size, joints):
            return size
    return 0


def _only(log_probabilities: Tensor, allowed: Sequence[int]) -> None:
    if not allowed:
        log_probabilities.fill_(-math.inf)
        return
    kept = log_probabilities[list(allowed)].clone()
    log_probabilities.fill_(-math.inf)
    log_probabilities[list(allowed)] = kept
