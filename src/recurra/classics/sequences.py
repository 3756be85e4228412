"""The sequences of Hochreiter & Schmidhuber (1997), drawn from a random generator.

Every function gives `count` sequences as `Sequences`. T, p and q are the paper's names of lengths.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from .blocks import Sequences

__all__ = [
    "REBER_SYMBOLS",
    "adding",
    "embedded_reber",
    "following_symbols",
    "long_lag",
    "multiplication",
    "noise_free",
    "random_middle",
    "temporal_order",
    "two_classes",
]

REBER_SYMBOLS = "BTSXPVE"
# From each state the symbols that may come and the states they lead to (Reber 1967; figure 3 of the paper).
_REBER = [
    {"B": 1},
    {"T": 2, "P": 3},
    {"S": 2, "X": 4},
    {"T": 3, "V": 5},
    {"X": 3, "S": 6},
    {"P": 4, "V": 6},
    {"E": 7},
]


def embedded_reber(generator: np.random.Generator, count: int) -> Sequences:
    """Strings of the embedded Reber grammar (experiment 1), in which each symbol is to be followed by the next one.

    After B comes T or P, then a whole string of the Reber grammar, then the same T or P once more, then E. Where two
    symbols may come, both are equally likely.
    """
    strings = [_embedded_string(generator) for _ in range(count)]
    starts = np.cumsum([0, *(len(string) - 1 for string in strings)])
    seen = [REBER_SYMBOLS.index(symbol) for string in strings for symbol in string[:-1]]
    following = [REBER_SYMBOLS.index(symbol) for string in strings for symbol in string[1:]]
    return Sequences(starts.astype(np.int64), np.array(seen, np.int32), next=np.array(following, np.int32))


def _embedded_string(generator: np.random.Generator) -> str:
    outer = "TP"[generator.integers(2)]
    inner, state = "", 0
    while state < len(_REBER):
        symbols = list(_REBER[state])
        symbol = symbols[generator.integers(len(symbols))]
        inner, state = inner + symbol, _REBER[state][symbol]
    return f"B{outer}{inner}{outer}E"


def following_symbols(data: Sequences) -> npt.NDArray[np.bool_]:
    """Which symbols may follow each step of embedded Reber strings: (steps, 7)."""
    assert data.symbols is not None
    legal = np.zeros((data.steps, len(REBER_SYMBOLS)), bool)
    for start, end in zip(data.starts[:-1], data.starts[1:], strict=True):
        string = [REBER_SYMBOLS[symbol] for symbol in data.symbols[start:end]]
        state = 0
        for t, symbol in enumerate(string):
            if t == 0:
                may = "TP"
            elif t == 1:
                may = "B"
            elif t == len(string) - 1:
                may = "E"
            else:
                state = _REBER[state][symbol]
                may = "".join(_REBER[state]) if state < len(_REBER) else string[1]
            legal[start + t, [REBER_SYMBOLS.index(each) for each in may]] = True
    return legal


def noise_free(generator: np.random.Generator, count: int, p: int = 100) -> Sequences:
    """Two sequences, (y, 1, 2, ..., p-1, y) and (x, 1, 2, ..., p-1, x), of which each step's next symbol is to be told.

    Only the last symbol cannot be told from the one before it (experiment 2a). Symbols p-1 and p are x and y.
    """
    return _between(generator, np.tile(np.arange(p - 1), (count, 1)), p)


def random_middle(generator: np.random.Generator, count: int, p: int = 100) -> Sequences:
    """As `noise_free`, with p-1 random symbols in the middle, which cannot be told in advance (experiment 2b)."""
    return _between(generator, generator.integers(p - 1, size=(count, p - 1)), p)


def _between(generator: np.random.Generator, middle: npt.NDArray[np.int64], p: int) -> Sequences:
    outer = generator.integers(p - 1, p + 1, size=(len(middle), 1))
    whole = np.concatenate([outer, middle, outer], axis=1).astype(np.int32)
    starts = np.arange(len(middle) + 1, dtype=np.int64) * p
    return Sequences(starts, whole[:, :-1].reshape(-1), next=whole[:, 1:].reshape(-1))


def long_lag(generator: np.random.Generator, count: int, q: int = 50, p: int = 50) -> Sequences:
    """b, then x or y, then at least q of p distractors, then e: which of x and y was it (experiment 2c)?

    After q distractors each further step is e with probability 1/10, so that the end comes at q + 9 on average. The
    targets are (1, 0) for x and (0, 1) for y. Symbols p to p+3 are e, b, x and y.
    """
    lengths = 3 + q + generator.geometric(0.1, count) - 1
    starts = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    symbols = generator.integers(p, size=int(starts[-1])).astype(np.int32)
    which = generator.integers(2, size=count)
    symbols[starts[:-1]] = p + 1
    symbols[starts[:-1] + 1] = p + 2 + which
    symbols[starts[1:] - 1] = p
    return Sequences(starts, symbols, ends=np.eye(2)[which])


def two_classes(
    generator: np.random.Generator, count: int, T: int = 100, N: int = 3, variant: str = "a", *, noisy: bool = True
) -> Sequences:
    """Bengio, Simard & Frasconi's (1994) problem of two classes that the first N numbers tell (experiments 3a to 3c).

    Sequences are T to T + T/10 long. The first N numbers are 1 for the first class and -1 for the second; all later
    ones are normal with mean 0 and variance .2. Variant b adds such noise to the first N numbers too. Targets are 1 and
    0; in variant c they are .2 and .8, with normal noise of variance .1.

    Args:
        noisy: whether the targets of variant c have their noise; without, for a test.
    """
    lengths = generator.integers(T, T + T // 10 + 1, size=count)
    starts = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    values = generator.normal(0, np.sqrt(0.2), int(starts[-1]))
    second = generator.integers(2, size=count)
    first = (starts[:-1, None] + np.arange(N)).reshape(-1)
    telling = np.repeat(1.0 - 2.0 * second, N)
    values[first] = telling + (values[first] if variant == "b" else 0)
    ends = np.where(second, 0.8, 0.2) if variant == "c" else 1.0 - second
    if variant == "c" and noisy:
        ends = ends + generator.normal(0, np.sqrt(0.1), count)
    return Sequences(starts, values=values[:, None], ends=ends[:, None].astype(np.float64))


def adding(generator: np.random.Generator, count: int, T: int = 100) -> Sequences:
    """Pairs of a number in [-1, 1] and a marker: the sum of the two marked numbers is wanted (experiment 4).

    The target is .5 + (X1 + X2)/4. Sequences are T to T + T/10 long. One of the first ten pairs is marked, and one of
    the first T/2 - 1 others, by 1; the first and the last pair have the marker -1. A marked first pair counts as 0.
    """
    return _marked(generator, count, T, -1.0, 0.0, lambda one, other: 0.5 + (one + other) / 4)


def multiplication(generator: np.random.Generator, count: int, T: int = 100) -> Sequences:
    """As `adding` with numbers in [0, 1]; the target is X1 X2, and a marked first pair counts as 1 (experiment 5)."""
    return _marked(generator, count, T, 0.0, 1.0, lambda one, other: one * other)


def _marked(
    generator: np.random.Generator,
    count: int,
    T: int,
    least: float,
    of_first: float,
    target: Callable[[npt.NDArray[np.float64], npt.NDArray[np.float64]], npt.NDArray[np.float64]],
) -> Sequences:
    lengths = generator.integers(T, T + T // 10 + 1, size=count)
    starts = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    values = np.zeros((int(starts[-1]), 2))
    values[:, 0] = generator.uniform(least, 1, len(values))
    one = generator.integers(min(10, T // 2), size=count)
    # The other place among the first T/2 without the one that is marked already.
    other = generator.integers(T // 2 - 1, size=count)
    other += other >= one
    marked = []
    for place in (one, other):
        values[starts[:-1] + place, 1] = 1
        marked.append(np.where(place == 0, of_first, values[starts[:-1] + place, 0]))
    values[starts[:-1], 1] = values[starts[1:] - 1, 1] = -1
    return Sequences(starts, values=values, ends=target(*marked)[:, None])


def temporal_order(generator: np.random.Generator, count: int, symbols: int = 2) -> Sequences:
    """Among distractors stand two or three X or Y: in which order (experiments 6a and 6b)?

    Sequences are 100 to 110 long and begin with E and end with B. Two are at steps 10 to 20 and 50 to 60, three at 10
    to 20, 33 to 43 and 66 to 76. Each order is a class of its own. Symbols are a, b, c, d, X, Y, E, B.
    """
    places = [(10, 20), (50, 60)] if symbols == 2 else [(10, 20), (33, 43), (66, 76)]
    lengths = generator.integers(100, 111, size=count)
    starts = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    drawn = generator.integers(4, size=int(starts[-1])).astype(np.int32)
    order = np.zeros(count, np.int64)
    for least, most in places:
        which = generator.integers(2, size=count)
        drawn[starts[:-1] + generator.integers(least, most + 1, size=count)] = 4 + which
        order = 2 * order + which
    drawn[starts[:-1]], drawn[starts[1:] - 1] = 6, 7
    return Sequences(starts, drawn, ends=np.eye(2**symbols)[order])
