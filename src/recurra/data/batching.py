"""Batches of a token stream: for training with carried state, and for scoring every token once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from ..errors import DataError, RunError

__all__ = ["IGNORE_INDEX", "Batch", "StreamBatches", "evaluation_batches", "evaluation_steps"]

IGNORE_INDEX = -100
"""The target of padding, as torch's cross-entropy has it."""

_SHORTEST = 5
_DEVIATION = 5
_MOST_DEVIATIONS = 4


class Batch(NamedTuple):
    """Side by side: `input` and `target` (T, B), int64, where target is input one token later.

    `starts_epoch` says that the rows do not continue the batch before, so the state is to be reset.
    """

    input: torch.Tensor
    target: torch.Tensor
    starts_epoch: bool


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
        position = step = 0
        while position < self._length:
            position += self._draw(epoch, step)
            step += 1
        return step

    def next_batch(self) -> Batch:
        """The next batch; after the last of an epoch comes the first of the next."""
        start = self._position
        starts_epoch = start == 0
        length = self._draw(self._epoch, self._step) if self._vary else self.sequence_length
        stop = min(start + length, self._length)
        self.length_ratio = (stop - start) / self.sequence_length if self._vary else 1.0
        self._position, self._step = stop, self._step + 1
        if stop == self._length:
            self._epoch, self._step, self._position = self._epoch + 1, 0, 0
        return Batch(_columns(self._input[:, start:stop]), _columns(self._target[:, start:stop]), starts_epoch)

    def __iter__(self) -> Iterator[Batch]:
        """Batches from the current position on, epoch after epoch, without end."""
        while True:
            yield self.next_batch()

    def epoch(self, number: int) -> Iterator[Batch]:
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

    def _draw(self, epoch: int, step: int) -> int:
        random = np.random.default_rng((self._seed, epoch, step))
        base = self.sequence_length if random.random() < 0.95 else self.sequence_length / 2
        drawn = int(random.normal(base, _DEVIATION))
        return max(_SHORTEST, min(drawn, self.sequence_length + _MOST_DEVIATIONS * _DEVIATION))


def evaluation_batches(
    tokens: np.ndarray, batch_size: int, sequence_length: int, *, context: int | None = None
) -> Iterator[Batch]:
    """Batches in which every token is a target exactly once, for a loss summed with `ignore_index=IGNORE_INDEX`.

    The text is cut into `batch_size` contiguous streams, the last ones shorter, even empty, and padded with targets of
    IGNORE_INDEX at their ends; states carry on from batch to batch, and `starts_epoch` is True on the first. Each
    stream but the first begins with a blank state, though its first token does see the one before it: with
    `batch_size` 1 the result is that of reading the text from start to end, with more streams it is a little higher.

    Args:
        tokens: ids, shape (tokens,).
        batch_size: streams side by side; fewer are used where there are fewer targets.
        sequence_length: tokens a stream gives to one batch.
        context: a token put before the first, so that the first is scored too (the line end is the natural one); with
            None the first token is only context.

    Raises:
        DataError: if there is nothing to score.
    """
    targets = np.asarray(tokens) if context is not None else np.asarray(tokens)[1:]
    count = len(targets)
    if not count:
        raise DataError("The text to evaluate on has too few tokens to score any; give more text.")
    rows = min(batch_size, count)
    length = -(-count // rows)
    for start in range(0, length, sequence_length):
        stop = min(start + sequence_length, length)
        inputs = np.zeros((rows, stop - start), np.int64)
        wanted = np.full((rows, stop - start), IGNORE_INDEX, np.int64)
        for row in range(rows):
            first = row * length + start
            last = min(row * length + stop, count)
            if first >= last:
                continue
            wanted[row, : last - first] = targets[first:last]
            if context is None:
                inputs[row, : last - first] = tokens[first:last]
            elif first:
                inputs[row, : last - first] = tokens[first - 1 : last - 1]
            else:
                inputs[row, 0] = context
                inputs[row, 1:last] = tokens[: last - 1]
        yield Batch(_columns(inputs), _columns(wanted), start == 0)


def evaluation_steps(tokens: int, batch_size: int, sequence_length: int, *, context: int | None = None) -> int:
    """How many batches `evaluation_batches` gives for so many tokens."""
    count = tokens if context is not None else tokens - 1
    length = -(-count // min(batch_size, count)) if count > 0 else 0
    return -(-length // sequence_length)


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
