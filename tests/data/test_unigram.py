"""The unigram model against a count over all ways to cut a word, written out."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from recurra.data.unigram import _best_parts, _scores, _seeds, fit_unigram

WORDS = [(b"abab", 5), (b"ab", 7), (b"babc", 2), ("각나각".encode(), 3), (b"c", 1)]


def ways(word: bytes, pieces: set[bytes]) -> list[list[bytes]]:
    found = []
    for cuts in itertools.product([False, True], repeat=len(word) - 1):
        bounds = [0, *(i + 1 for i, cut in enumerate(cuts) if cut), len(word)]
        parts = [word[a:b] for a, b in itertools.pairwise(bounds)]
        if all(part in pieces for part in parts):
            found.append(parts)
    return found


def test_expected_counts_are_those_over_all_ways_to_cut():
    pieces, counts, lattice = _seeds(WORDS, 300)
    scores = dict(zip(pieces, _scores(counts).tolist(), strict=True))
    expected = dict.fromkeys(pieces, 0.0)
    for word, count in WORDS:
        cuts = ways(word, set(pieces))
        shares = [math.exp(sum(scores[part] for part in parts)) for parts in cuts]
        for parts, share in zip(cuts, shares, strict=True):
            for part in parts:
                expected[part] += count * share / sum(shares)
    got = lattice.expected_counts(_scores(counts))
    np.testing.assert_allclose(got, [expected[piece] for piece in pieces], rtol=1e-10, atol=1e-12)


def test_seeds_are_the_runs_of_whole_characters_that_occur_twice():
    pieces, counts, _ = _seeds(WORDS, 300)
    expected: dict[bytes, int] = {}
    for word, count in WORDS:
        text = word.decode()
        for start, stop in itertools.combinations(range(len(text) + 1), 2):
            part = text[start:stop].encode()
            if len(part) > 1:
                expected[part] = expected.get(part, 0) + count
    found = dict(zip(pieces[256:], counts[256:].tolist(), strict=True))
    assert found == {part: count for part, count in expected.items() if count >= 2}


def test_the_best_parts_are_those_of_a_search_over_all():
    known = {b"a": -2.0, b"b": -3.0, b"ab": -1.5, b"ba": -4.0, b"aba": -0.5, b"abab": -0.1}
    cuts = [parts for parts in ways(b"abab", set(known)) if len(parts) > 1]
    assert _best_parts(b"abab", known) == pytest.approx(max(sum(known[part] for part in parts) for parts in cuts))


def test_planted_words_are_found_and_the_model_is_a_distribution():
    random = np.random.default_rng(0)
    planted = [b"recurrent", b"memory", b"gate", b"cell", "세포".encode()]
    words: dict[bytes, int] = {}
    for _ in range(3000):
        word = b"".join(planted[i] for i in random.integers(0, len(planted), random.integers(1, 4)))
        words[word] = words.get(word, 0) + 1
    fitted = fit_unigram(words.items(), 256 + len(planted))
    assert {piece for piece, _ in fitted[: len(planted)]} == set(planted)
    assert len(fitted) == 256 + len(planted)
    assert sum(math.exp(score) for _, score in fitted) == pytest.approx(1, abs=1e-4)
    assert fitted == fit_unigram(words.items(), 256 + len(planted))


def test_there_are_no_more_pieces_than_asked_and_every_byte():
    for size in (256, 257, 262):
        fitted = fit_unigram(WORDS, size)
        assert len(fitted) <= size and {bytes([byte]) for byte in range(256)} <= {piece for piece, _ in fitted}
