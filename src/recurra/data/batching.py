"""Batches of a token stream for training with carried state."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from ..errors import DataError, RunError
from .moving import moved

__all__ = ["StreamBatch", "StreamBatches"]

_SHORTEST = 5
_DEVIATION = 5
_MOST_DEVIATIONS = 4


class StreamBatch(NamedTuple):
    """A window of the streams, side by side.

    Attributes:
        input, target: (T, B) int64, where target is input one token later.
        starts_epoch: whether the rows do not continue the batch before, so that the state is to be reset.
        rate_scale: the length of the window over the usual one, by which AWD-LSTM scales the learning rate.
    """

    input: torch.Tensor
    target: torch.Tensor
    starts_epoch: bool
    rate_scale: float = 1.0

    @property
    def units(self) -> int:
        """Tokens that are predicted."""
        return self.target.numel()

    @property
    def weight(self) -> int:
        """Tokens that are predicted."""
        return self.target.numel()

    def to(self, device: torch.device) -> StreamBatch:
        """The window on a device."""
        return self._replace(input=moved(self.input, device), target=moved(self.target, device))


class StreamBatches:
    """A token array as contiguous streams read side by side, for truncated backpropagation with carried state.

    With S = `batch_size` * `world_size` streams, stream s holds the tokens from s * L to (s + 1) * L, with
    L = (tokens - 1) // S, and this rank reads streams rank * batch_size onwards. The target of a stream's last token is
    the first of the next stream, so every token but the first and the remainder of fewer than S is a target once an
    epoch. The last batch of an epoch is shorter where L is not a multiple of the length.

    With `vary` each batch's length is drawn as AWD-LSTM does (Merity, Keskar & Socher 2018, "Variable length
    backpropagation sequences"): the base is `sequence_length` with probability 0.95, else half of it, and the length is
    drawn from N(base, 5), at least 5. Here it is also at most `sequence_length` + 20, which bounds memory. Draws depend
    on seed, epoch and step alone, so all ranks agree and a run resumes exactly.

    Args:
        tokens: ids, any integer dtype, shape (tokens,); a memory map is read as it is used.
        batch_size: streams of this rank.
        sequence_length: tokens a stream gives to one batch.
        vary: draw the length of each batch.
        seed: of those draws.
        rank, world_size: this process and how many share the text.

    Raises:
        DataError: if the text is shorter than one batch.
    """

    def __init__(
        self,
        tokens: np.ndarray,
        batch_size: int,
        sequence_length: int,
        *,
        vary: bool = False,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        if batch_size < 1 or sequence_length < 1 or not 0 <= rank < world_size:
            raise ValueError("batch_size and sequence_length must be at least 1, and rank from 0 to world_size - 1")
        streams = batch_size * world_size
        available = len(tokens)
        if available - 1 < streams * sequence_length:
            raise DataError(
                f"The training text has {available} tokens, but one batch of {streams} streams of {sequence_length} "
                f"needs {streams * sequence_length + 1}; {_advice(available, sequence_length, world_size)}."
            )
        self.sequence_length = sequence_length
        self.batch_size = batch_size
        self.length_ratio = 1.0
        """Length of the batch given out last over `sequence_length`, by which AWD-LSTM scales the learning rate."""
        self._vary = vary
        self._seed = seed
        self._streams = streams
        self._length = (available - 1) // streams
        plain = np.asarray(tokens)
        used = streams * self._length
        rows = slice(rank * batch_size, (rank + 1) * batch_size)
        self._input = plain[:used].reshape(streams, self._length)[rows]
        self._target = plain[1 : used + 1].reshape(streams, self._length)[rows]
        self._epoch = 0
        self._step = 0
        self._position = 0
        self._drawn_epoch = -1
        self._lengths: npt.NDArray[np.int64] = np.empty(0, np.int64)

    @property
    def epoch_number(self) -> int:
        """The epoch, from 0, that the next batch belongs to."""
        return self._epoch

    @property
    def tokens_per_epoch(self) -> int:
        """Targets in one epoch, over all ranks."""
        return self._streams * self._length

    @property
    def steps_per_epoch(self) -> int:
        """Batches in an epoch; with `vary` those of the epoch that the next batch belongs to."""
        return self.steps_in_epoch(self._epoch)

    def steps_in_epoch(self, epoch: int) -> int:
        """Batches in the given epoch, exactly."""
        if not self._vary:
            return -(-self._length // self.sequence_length)
        return int(np.searchsorted(np.cumsum(self._drawn(epoch)), self._length)) + 1

    def next_batch(self) -> StreamBatch:
        """The next batch; after the last of an epoch comes the first of the next."""
        start = self._position
        starts_epoch = start == 0
        length = int(self._drawn(self._epoch)[self._step]) if self._vary else self.sequence_length
        stop = min(start + length, self._length)
        self.length_ratio = (stop - start) / self.sequence_length if self._vary else 1.0
        self._position, self._step = stop, self._step + 1
        if stop == self._length:
            self._epoch, self._step, self._position = self._epoch + 1, 0, 0
        source, target = (_columns(rows[:, start:stop]) for rows in (self._input, self._target))
        return StreamBatch(source, target, starts_epoch, self.length_ratio)

    def __iter__(self) -> Iterator[StreamBatch]:
        """Batches from the current position on, epoch after epoch, without end."""
        while True:
            yield self.next_batch()

    def epoch(self, number: int) -> Iterator[StreamBatch]:
        """The batches of one epoch; of the current one, those that are left."""
        if number != self._epoch:
            self._epoch, self._step, self._position = number, 0, 0
        while self._epoch == number:
            yield self.next_batch()

    def state_dict(self) -> dict[str, int]:
        """The place of the next batch, and of what text and settings it is the place."""
        return {
            "epoch": self._epoch,
            "step": self._step,
            "position": self._position,
            "streams": self._streams,
            "stream_length": self._length,
            "sequence_length": self.sequence_length,
            "vary": int(self._vary),
            "seed": self._seed,
        }

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Go to the place of a state.

        Raises:
            RunError: if the state belongs to another text, batch size, sequence length or seed, so that going on from
                it would not be the same run.
        """
        own = self.state_dict()
        places = ("epoch", "step", "position")
        for name, value in own.items():
            if name not in state:
                raise RunError(f"The saved place in the text lacks {name}; the checkpoint is damaged, use another.")
            if name not in places and state[name] != value:
                raise RunError(
                    f"The saved place in the text belongs to a run with {name} {state[name]}, but it is now {value}; "
                    "resume with the data and settings that the run began with."
                )
        self._epoch, self._step, self._position = (state[name] for name in places)

    def _drawn(self, epoch: int) -> npt.NDArray[np.int64]:
        """The lengths of an epoch's batches, step by step; more than it has, as no length is below the shortest."""
        if self._drawn_epoch != epoch:
            random = np.random.default_rng((self._seed, epoch))
            count = self._length // _SHORTEST + 1
            base = np.where(random.random(count) < 0.95, self.sequence_length, self.sequence_length / 2)
            drawn = random.normal(base, _DEVIATION).astype(np.int64)
            self._lengths = drawn.clip(_SHORTEST, self.sequence_length + _MOST_DEVIATIONS * _DEVIATION)
            self._drawn_epoch = epoch
        return self._lengths


def _advice(tokens: int, sequence_length: int, world_size: int) -> str:
    """What to set so that a short text makes a batch."""
    batch_size = (tokens - 1) // (sequence_length * world_size)
    if batch_size > 0:
        return f"give more text or set training.batch_size to at most {batch_size}"
    length = (tokens - 1) // world_size
    if length > 0:
        return f"give more text or set training.batch_size to 1 and training.sequence_length to at most {length}"
    return "give more text"


def _columns(rows: npt.NDArray[np.integer]) -> torch.Tensor:
    """Rows (B, T) as a contiguous int64 tensor (T, B)."""
    return torch.from_numpy(rows.T.astype(np.int64, order="C"))
