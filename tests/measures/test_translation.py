"""BLEU of sums of sentences' counts, against sacreBLEU."""

from __future__ import annotations

import random

import numpy as np
import pytest

from recurra.measures.translation import bleu_counts, bleu_of_sums

sacrebleu = pytest.importorskip("sacrebleu")


def sentences(seed: int, count: int, longest: int) -> tuple[list[str], list[str]]:
    """References, and copies of them with some words replaced, left out or added."""
    choose = random.Random(seed)
    words = ["pear", "plum", "fig,", "salad.", "the", "a"]
    references = [" ".join(choose.choices(words, k=choose.randint(1, longest))) for _ in range(count)]
    changed = [
        " ".join(choose.choice([word, word, word, choose.choice(words), ""]) for word in each.split())
        for each in references
    ]
    return changed, references


# Few short sentences have lengths without a match, which are smoothed, or lengths without any n-gram.
@pytest.mark.parametrize(("count", "longest"), [(40, 12), (3, 4), (2, 3), (1, 2), (1, 5)])
@pytest.mark.parametrize("seed", range(8))
def test_the_sums_of_all_sentences_give_the_bleu_of_the_corpus(seed: int, count: int, longest: int) -> None:
    texts, references = sentences(seed, count, longest)
    expected = sacrebleu.corpus_bleu(texts, [references], force=True).score
    counts = bleu_counts(texts, references)
    assert counts.shape == (count, 10)
    assert bleu_of_sums(counts.sum(axis=0)) == pytest.approx(expected, abs=1e-9)


def test_many_sums_at_once_are_those_one_by_one() -> None:
    counts = bleu_counts(*sentences(3, 30, 9))
    draws = np.random.default_rng(1).integers(0, 30, (5, 2, 30))
    sums = counts[draws].sum(axis=2)
    assert bleu_of_sums(sums).shape == (5, 2)
    assert bleu_of_sums(sums)[3, 1] == bleu_of_sums(sums[3, 1]) > 0


def test_nothing_in_common_and_everything_in_common() -> None:
    assert bleu_of_sums(bleu_counts(["a b c d e"], ["v w x y z"]).sum(axis=0)) == 0.0
    assert bleu_of_sums(bleu_counts(["", "a"], ["x", "y"]).sum(axis=0)) == 0.0
    assert bleu_of_sums(bleu_counts(["a b c d e"], ["a b c d e"]).sum(axis=0)) == pytest.approx(100.0)
