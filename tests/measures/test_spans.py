"""Precision, recall and F1 of spans are those of seqeval's strict mode."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recurra.measures.spans import SpanCounts, span_scores


def parted(*sentences: str) -> list[list[str]]:
    return [sentence.split() for sentence in sentences]


GOLD = parted("B-PER I-PER O B-LOC O", "B-ORG I-ORG I-ORG O", "O O", "B-MISC O B-PER")
PREDICTED = parted("B-PER I-PER O B-ORG O", "B-ORG I-ORG O O", "B-LOC O", "B-MISC I-MISC B-PER")


def test_a_span_counts_with_its_type_and_both_borders() -> None:
    scores = span_scores(GOLD, PREDICTED, "bio")
    # The numbers are those of seqeval 1.2.2: precision_recall_fscore_support(..., scheme=IOB2) of seqeval.metrics.v1.
    assert (scores.all.precision, scores.all.recall, scores.all.f1) == pytest.approx((1 / 3, 0.4, 0.36363636363636365))
    assert {kind: (*counts, counts.f1) for kind, counts in scores.types.items()} == {
        "LOC": (0, 1, 1, 0.0),
        "MISC": (0, 1, 1, 0.0),
        "ORG": (0, 2, 1, 0.0),
        "PER": (2, 2, 2, 1.0),
    }
    assert scores.all == SpanCounts(2, 6, 5)


def test_strict_reading_finds_no_span_that_is_not_opened() -> None:
    # https://github.com/chakki-works/seqeval/issues/23
    scores = span_scores([["B-X", "I-X"]], [["I-X", "I-X"]], "iob2")
    assert scores.all == (0, 0, 1)
    assert (scores.all.precision, scores.all.recall, scores.all.f1) == (0.0, 0.0, 0.0)
    # https://github.com/spyysalo/conlleval.py/issues/1
    assert span_scores(parted("B-X E-X B-X E-X"), parted("B-X E-X B-X E-X"), "bioes").all == (2, 2, 2)


def test_no_spans_at_all_score_nothing() -> None:
    scores = span_scores([["O"]], [["O"]], "bio")
    assert scores == (SpanCounts(0, 0, 0), {})
    assert (scores.all.precision, scores.all.recall, scores.all.f1) == (0.0, 0.0, 0.0)


def test_sides_that_do_not_match_are_refused() -> None:
    with pytest.raises(ValueError, match="sentence 2 has 1 gold tags and 2 predicted ones"):
        span_scores([["O"], ["O"]], [["O"], ["O", "O"]], "bio")
    with pytest.raises(ValueError, match="shorter"):
        span_scores([["O"], ["O"]], [["O"]], "bio")


@given(st.data(), st.sampled_from(["bio", "bioes"]))
def test_random_tags_score_as_with_seqeval(data: st.DataObject, scheme: str) -> None:
    theirs = pytest.importorskip("seqeval.scheme")
    v1 = pytest.importorskip("seqeval.metrics.v1")
    tags = st.sampled_from(["O", *(f"{letter}-{kind}" for letter in scheme.upper().replace("O", "") for kind in "XY")])
    pairs = data.draw(st.lists(st.lists(st.tuples(tags, tags), min_size=1, max_size=6), min_size=1, max_size=3))
    # A span on both sides, so that there is something to count.
    pairs.append([("B-X", "B-X"), ("O", "O")] if scheme == "bio" else [("S-X", "S-X")])
    sides = [[[pair[side] for pair in sentence] for sentence in pairs] for side in (0, 1)]
    scores = span_scores(*sides, scheme)
    kind = {"bio": theirs.IOB2, "bioes": theirs.IOBES}[scheme]
    for average, counts in (("micro", [scores.all]), (None, [*scores.types.values()])):
        found = v1.precision_recall_fscore_support(*sides, average=average, scheme=kind, zero_division=0)
        for place, name in enumerate(("precision", "recall", "f1", "gold")):
            expected = [found[place]] if average else [*found[place]]
            assert [getattr(each, name) for each in counts] == pytest.approx(expected)
