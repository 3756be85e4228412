"""An n-gram language model on tokens: the simple baseline of recurrent ones."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from ..errors import DataError

__all__ = ["NGram", "best_order"]

Ids = npt.NDArray[np.int64]


class NGram:
    """P(token | the n - 1 tokens before it in its line), with all shorter contexts mixed in.

    Smoothing is that of Witten & Bell (1991), which has nothing to be tuned: after a context h that was seen N times
    with T different tokens, P(w | h) = (count(h w) + T P(w | h')) / (N + T), where h' is h without its first token and
    the shortest context mixes in 1 / vocabulary. After a context never seen it is P(w | h').

    Lines are independent: each is read after n - 1 line ends, and its own line end is predicted too.

    Args:
        lines: the training text, each line's ids without its line end.
        vocab_size: tokens that there are.
        eos_id: the line end.
        order: n; 1 counts single tokens.

    Raises:
        DataError: if there is no line, or an order below 1.
    """

    def __init__(self, lines: Iterable[Sequence[int] | Ids], vocab_size: int, eos_id: int, order: int = 3) -> None:
        if order < 1:
            raise DataError(f"an n-gram model of order {order} there is not; give at least 1.")
        self.vocab_size, self.eos_id, self.order = vocab_size, eos_id, order
        tokens, predicted = self._stream(list(lines))
        # For n-grams of each length, which are numbered by the order of their codes: the codes, how often each was
        # seen, and of each context (the n-grams one shorter) how often and with how many different tokens.
        self._levels: list[tuple[Ids, Ids, Ids, Ids]] = []
        context, contexts = np.zeros(len(tokens), dtype=np.int64), 1
        for _ in range(order):
            # A context's number is less than the tokens of the text, so that codes fit 64 bits for every order.
            codes, number = np.unique(context * vocab_size + tokens, return_inverse=True)
            counts = np.bincount(number[predicted], minlength=len(codes))
            owner = codes // vocab_size
            totals = np.bincount(np.repeat(owner, counts), minlength=contexts)
            kinds = np.bincount(owner[counts > 0], minlength=contexts)
            self._levels.append((codes, counts, totals, kinds))
            context, contexts = np.roll(number, 1), len(codes)

    def nats(self, lines: Iterable[Sequence[int] | Ids]) -> list[npt.NDArray[np.float64]]:
        """Negative log-likelihood of each token of each line and of its line end, in nats."""
        lines = list(lines)
        tokens, predicted = self._stream(lines)
        probability = np.full(len(predicted), 1.0 / self.vocab_size)
        context = np.zeros(len(tokens), dtype=np.int64)
        for codes, counts, totals, kinds in self._levels:
            # A context not seen has the number -1, and so no code of its own either.
            code = context * self.vocab_size + tokens
            place = np.searchsorted(codes, code).clip(max=len(codes) - 1)
            seen = codes[place] == code
            count = np.where(seen, counts[place], 0)[predicted]
            before = context[predicted]
            total, kind = totals[before], kinds[before]
            mixed = (count + kind * probability) / np.maximum(total + kind, 1)
            probability = np.where((before >= 0) & (total > 0), mixed, probability)
            context = np.roll(np.where(seen, place, -1), 1)
        ends = np.cumsum([len(line) + 1 for line in lines])
        return np.split(-np.log(probability), ends[:-1])

    def _stream(self, lines: list[Sequence[int] | Ids]) -> tuple[Ids, Ids]:
        """All tokens, each line after its padding, and the places of those that are predicted."""
        if not lines:
            raise DataError("an n-gram model needs at least one line; check the text.")
        padding = np.full(self.order - 1, self.eos_id, dtype=np.int64)
        end = np.array([self.eos_id], dtype=np.int64)
        parts = [part for line in lines for part in (padding, np.asarray(line, dtype=np.int64), end)]
        lengths = np.array([len(line) + 1 for line in lines])
        starts = np.cumsum(lengths + self.order - 1) - lengths
        predicted = np.repeat(starts - (np.cumsum(lengths) - lengths), lengths) + np.arange(lengths.sum())
        return np.concatenate(parts), predicted


def best_order(
    train: Sequence[Sequence[int] | Ids],
    valid: Sequence[Sequence[int] | Ids],
    vocab_size: int,
    eos_id: int,
    orders: Iterable[int] = range(1, 8),
) -> NGram:
    """The model of the order that gives the validation text the highest likelihood; of equal ones the shortest.

    Args:
        train, valid: lines as `NGram` takes them.
        vocab_size, eos_id: as for `NGram`.
        orders: what is tried.
    """
    models = [NGram(train, vocab_size, eos_id, order) for order in orders]
    losses = [float(np.concatenate(model.nats(valid)).sum()) for model in models]
    return models[int(np.argmin(losses))]
