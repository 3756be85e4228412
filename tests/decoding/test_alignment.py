"""Weights of tokens as alignments of words."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from recurra.decoding.alignment import align_words, pharaoh, word_places, word_weights
from recurra.pictures.attention import draw_attention


def test_tokens_find_their_words() -> None:
    assert word_places("two dogs.", ["two", "dogs", "."]) == [0, 1, 1]
    assert word_places("two dogs", [" t", "wo", " dogs"]) == [0, 0, 1]
    assert word_places("a b", list("a b")) == [0, None, 1]
    # Loose bytes of a character belong to the word that they stand in.
    assert word_places("é b", [" ", "\ufffd", "\ufffd", " b"]) == [None, 0, 0, 1]
    assert word_places("xé b", [" x", "\ufffd", "\ufffd", " b"]) == [0, 0, 0, 1]
    assert word_places("a a a", ["a", "a", "a"]) == [0, 1, 2]
    # A token that the text does not hold stops none after it.
    assert word_places("the zebra is red", ["the", "X", "is", "red"]) == [0, 0, 2, 3]
    assert word_places("", []) == []


def test_weights_add_up_over_source_tokens_and_are_averaged_over_target_tokens() -> None:
    weights = np.array([[0.1, 0.2, 0.6, 0.1], [0.5, 0.3, 0.2, 0.0], [0.0, 0.0, 0.1, 0.9]])
    words = word_weights(weights, [0, 0, 1, None], [0, 0, 1])
    np.testing.assert_allclose(words, [[0.55, 0.4], [0.0, 0.1]])
    assert pharaoh(words) == [(0, 0), (1, 1)]
    assert pharaoh(np.zeros((2, 2))) == [] == pharaoh(np.zeros((0, 0)))


def test_subwords_are_aligned_as_words() -> None:
    weights = np.array([[0.1, 0.1, 0.8], [0.2, 0.7, 0.1], [0.4, 0.4, 0.2]])
    aligned = align_words(weights, "ab  c", [" a", "b", " c"], " x yz", [" x", " y", "z"])
    assert aligned == [(1, 0), (0, 1)]


def test_pictures_take_any_label(tmp_path: Path) -> None:
    draw_attention(tmp_path / "a.png", np.eye(3), ["$x", "한국", "<eos>"], ["_^", " ", "\\frac"])
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG") and len(list(tmp_path.iterdir())) == 1
