"""The sequences of 1997 are those that the paper describes."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from recurra.classics.sequences import (
    REBER_SYMBOLS,
    adding,
    embedded_reber,
    following_symbols,
    long_lag,
    multiplication,
    noise_free,
    random_middle,
    temporal_order,
    two_classes,
)

# Strings of the Reber grammar that have been printed, and strings that are none.
VALID = ["BTXSE", "BPVVE", "BPVPXVPXVPXVVE", "BTSXXVPSE", "BTSSSXSE", "BTSSXXTVVE", "BPTVPSE"]
INVALID = ["BTSSPXSE", "BPTVVB", "BTXXVVSE", "BTPSE", "BPTXE"]
GRAMMAR = {("B", 0): 1, ("T", 1): 2, ("P", 1): 3, ("S", 2): 2, ("X", 2): 4, ("T", 3): 3, ("V", 3): 5, ("X", 4): 3}
GRAMMAR |= {("S", 4): 6, ("P", 5): 4, ("V", 5): 6, ("E", 6): 7}


def is_reber(string: str) -> bool:
    state: int | None = 0
    for symbol in string:
        state = None if state is None else GRAMMAR.get((symbol, state))
    return state == 7


def test_the_oracle_knows_the_printed_strings() -> None:
    assert all(map(is_reber, VALID)) and not any(map(is_reber, INVALID))


def test_embedded_reber_strings() -> None:
    data = embedded_reber(np.random.default_rng(0), 400)
    assert data.symbols is not None and data.next is not None
    legal = following_symbols(data)
    seen = set()
    for start, end in itertools.pairwise(data.starts):
        whole = [*data.symbols[start:end], data.next[end - 1]]
        assert (data.next[start : end - 1] == data.symbols[start + 1 : end]).all()
        string = "".join(REBER_SYMBOLS[symbol] for symbol in whole)
        assert string[0] == "B" and string[-1] == "E" and string[1] == string[-2] in "TP"
        assert is_reber(string[2:-2])
        for t in range(2, len(string) - 3):
            inner = string[2 : t + 1]
            may = {symbol for symbol in REBER_SYMBOLS if any(_reaches(inner + symbol))}
            assert {REBER_SYMBOLS[k] for k in np.flatnonzero(legal[start + t])} == may
        assert legal[end - 2].sum() == 1 and legal[end - 2, REBER_SYMBOLS.index(string[1])]
        assert legal[end - 1].sum() == 1 and legal[end - 1, REBER_SYMBOLS.index("E")]
        assert legal[start].sum() == 2 and legal[start + 1].sum() == 1
        seen.add(string)
    assert len(seen) > 100 and legal[np.arange(data.steps), data.next].all()


def _reaches(prefix: str) -> list[int]:
    state: int | None = 0
    for symbol in prefix:
        state = None if state is None else GRAMMAR.get((symbol, state))
    return [] if state is None else [state]


@pytest.mark.parametrize("draw", [noise_free, random_middle])
def test_sequences_between_equal_symbols(draw: object) -> None:
    data = draw(np.random.default_rng(0), 50, 10)  # type: ignore[operator]
    symbols, following = data.symbols.reshape(50, 10), data.next.reshape(50, 10)
    assert (symbols[:, 1:] == following[:, :-1]).all()
    assert (symbols[:, 0] == following[:, -1]).all() and set(symbols[:, 0]) == {9, 10}
    middle = symbols[:, 1:]
    if draw is noise_free:
        assert (middle == np.arange(9)).all()
    else:
        assert middle.min() == 0 and middle.max() == 8 and len({tuple(row) for row in middle.tolist()}) == 50


def test_long_lags() -> None:
    data = long_lag(np.random.default_rng(0), 4000, q=20, p=7)
    assert data.symbols is not None and data.ends is not None
    lengths = np.diff(data.starts)
    assert lengths.min() == 23 and abs(lengths.mean() - (3 + 20 + 9)) < 0.5
    last = data.starts[1:] - 1
    assert (data.symbols[data.starts[:-1]] == 8).all() and (data.symbols[last] == 7).all()
    second = data.symbols[data.starts[:-1] + 1]
    assert (data.ends[:, 0] == (second == 9)).all() and (data.ends[:, 1] == (second == 10)).all()
    middle = [data.symbols[a + 2 : b - 1] for a, b in itertools.pairwise(data.starts)]
    assert all(set(part) <= set(range(7)) for part in middle)


@pytest.mark.parametrize("variant", "abc")
@pytest.mark.parametrize("N", [1, 3])
def test_two_classes(variant: str, N: int) -> None:
    data = two_classes(np.random.default_rng(0), 3000, 40, N, variant)
    assert data.values is not None and data.ends is not None
    assert np.diff(data.starts).min() == 40 and np.diff(data.starts).max() == 44
    first = data.values[data.starts[:-1, None] + np.arange(N), 0]
    rest = np.ones(data.steps, bool)
    rest[(data.starts[:-1, None] + np.arange(N)).reshape(-1)] = False
    assert abs(data.values[rest].var() - 0.2) < 0.01 and abs(data.values[rest].mean()) < 0.01
    ends = two_classes(np.random.default_rng(0), 3000, 40, N, variant, noisy=False).ends
    assert ends is not None
    telling = np.where(ends[:, :1] == (1.0 if variant != "c" else 0.2), 1.0, -1.0)
    away = first - telling
    assert abs(away.var() - 0.2) < 0.02 if variant == "b" else (away == 0).all()
    assert set(ends[:, 0]) == ({0.2, 0.8} if variant == "c" else {0.0, 1.0})
    noise = data.ends - ends
    assert abs(noise.var() - 0.1) < 0.01 if variant == "c" else (noise == 0).all()


@pytest.mark.parametrize("draw", [adding, multiplication])
def test_marked_numbers(draw: object) -> None:
    data = draw(np.random.default_rng(0), 3000, 60)  # type: ignore[operator]
    least, of_first = (-1.0, 0.0) if draw is adding else (0.0, 1.0)
    assert least <= data.values[:, 0].min() < least + 0.01 and 0.99 < data.values[:, 0].max() <= 1
    assert np.diff(data.starts).min() == 60 and np.diff(data.starts).max() == 66
    firsts = []
    for n, (start, end) in enumerate(itertools.pairwise(data.starts)):
        values, markers = data.values[start:end].T
        assert markers[0] == markers[-1] == -1
        places = np.flatnonzero(markers == 1)
        assert set(markers[1:-1]) <= {0.0, 1.0} and len(places) in (1, 2) and places.max() < 30
        assert len(places) == 1 or places.min() < 10
        marked = [*values[places], *([of_first] if len(places) == 1 else [])]
        assert data.ends[n, 0] == pytest.approx(0.5 + sum(marked) / 4 if draw is adding else marked[0] * marked[1])
        firsts.append(len(places) == 1)
    # One in ten first marks is the first pair's, and one in thirty of the others.
    assert 0.09 < np.mean(firsts) < 0.16


@pytest.mark.parametrize("symbols", [2, 3])
def test_temporal_order(symbols: int) -> None:
    data = temporal_order(np.random.default_rng(0), 2000, symbols)
    assert data.symbols is not None and data.ends is not None
    bounds = [(10, 20), (50, 60)] if symbols == 2 else [(10, 20), (33, 43), (66, 76)]
    classes = set()
    for n, (start, end) in enumerate(itertools.pairwise(data.starts)):
        string = data.symbols[start:end]
        assert string[0] == 6 and string[-1] == 7 and 100 <= len(string) <= 110
        places = np.flatnonzero((string == 4) | (string == 5))
        assert len(places) == symbols and set(np.delete(string[1:-1], places - 1)) <= {0, 1, 2, 3}
        assert all(least <= place <= most for place, (least, most) in zip(places, bounds, strict=True))
        order = int("".join(str(int(string[place]) - 4) for place in places), 2)
        assert data.ends[n].tolist() == np.eye(2**symbols)[order].tolist()
        classes.add(order)
    assert len(classes) == 2**symbols
