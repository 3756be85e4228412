"""The unigram model over bytes: what it must hold, whatever fits it."""

import math
import random
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recurra.data.unigram import fit_unigram


def test_words_made_of_planted_pieces_give_those_pieces_back():
    draw = random.Random(0)
    planted = [b"kana", "사과".encode(), b"xyzzy", b"qoph"]
    words = {}
    for _ in range(400):
        word = b"".join(draw.choices(planted, k=draw.randint(1, 3)))
        words[word] = words.get(word, 0) + 1
    pieces = [piece for piece, _ in fit_unigram(words.items(), 256 + 40)]
    assert set(planted) <= set(pieces)


@settings(max_examples=25)
@given(st.dictionaries(st.binary(min_size=1, max_size=30), st.integers(1, 9), min_size=1), st.integers(256, 400))
def test_every_byte_is_a_piece_and_the_size_is_kept(words, size):
    fitted = fit_unigram(words.items(), size)
    pieces = [piece for piece, _ in fitted]
    assert len(set(pieces)) == len(pieces) <= size
    assert {bytes([byte]) for byte in range(256)} <= set(pieces)
    scores = [score for _, score in fitted]
    assert scores == sorted(scores, reverse=True) and all(math.isfinite(score) and score <= 0 for score in scores)
    assert all(any(piece in word for word in words) for piece in pieces if len(piece) > 1)


def test_the_same_words_give_the_same_model():
    draw = random.Random(1)
    words = {bytes(draw.choices(b"abcdef", k=draw.randint(1, 9))): draw.randint(1, 50) for _ in range(500)}
    assert fit_unigram(words.items(), 400) == fit_unigram(words.items(), 400)


def test_scores_are_logarithms_of_at_most_one_distribution():
    draw = random.Random(2)
    words = {bytes(draw.choices(b"abcdefgh", k=draw.randint(3, 12))): draw.randint(1, 50) for _ in range(2000)}
    total = sum(math.exp(score) for _, score in fit_unigram(words.items(), 600))
    # Less than one, since the trainer's prior takes something from each piece.
    assert 0.5 < total <= 1.0 + 1e-6


@pytest.mark.parametrize("size", [256, 257])
def test_no_room_for_more_than_bytes(size):
    assert len(fit_unigram([(b"abcabc", 5), (b"abcd", 7)], size)) <= size


def test_counts_of_a_large_text_take_no_more_memory_than_those_of_a_small_one():
    script = """
import sys
from pathlib import Path
from recurra.data.unigram import fit_unigram
words = [(f"word{n}".encode(), 1_000_000 + n) for n in range(2000)]
def peak():
    # Not ru_maxrss, in which Linux counts the parent's memory too.
    return next(int(line.split()[1]) for line in Path("/proc/self/status").open() if line.startswith("VmHWM"))
before = peak()
assert len(fit_unigram(words, 300)) > 256
print(peak() - before)
"""
    if not Path("/proc/self/status").exists():
        pytest.skip("this system does not tell the most memory of a process alone")
    grown = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True).stdout
    # In kilobytes; written out these counts would be 16 billion letters.
    assert int(grown) < 200_000
