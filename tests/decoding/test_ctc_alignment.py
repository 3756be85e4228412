"""The likelihood and the best path of a given transcript against all paths and torch's loss, and its words."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from recurra.decoding.ctc import CTCOptions, ctc_beam_search
from recurra.decoding.ctc_alignment import ctc_align, ctc_log_likelihood
from recurra.decoding.recognized import LabelSpan, WordMarks, WordSpan, word_spans
from recurra.errors import ConfigError, DataError

from .all_paths import all_paths, random_frames


@given(
    seed=st.integers(0, 10_000),
    frames=st.integers(0, 5),
    impossible=st.sampled_from([0.0, 0.4]),
    blank=st.integers(0, 2),
)
@settings(max_examples=40)
def test_every_transcript_agrees_with_all_paths(seed: int, frames: int, impossible: float, blank: int) -> None:
    values = random_frames(seed, frames, 3, impossible)
    expected = all_paths(values, blank)
    letters = [label for label in range(3) if label != blank]
    for size in range(4):
        for labels in itertools.product(letters, repeat=size):
            if labels not in expected:
                assert ctc_log_likelihood(values, labels, blank) == -math.inf
                with pytest.raises(DataError, match=r"need at least \d frames|the probability 0"):
                    ctc_align(values, labels, blank)
                continue
            right, found = expected[labels], ctc_align(values, labels, blank)
            assert ctc_log_likelihood(values, labels, blank) == pytest.approx(right.log_probability, abs=1e-10)
            assert tuple(found.labels) == labels and found.score == found.log_probability
            assert found.score == pytest.approx(right.best, abs=1e-10)
            path = [blank] * frames
            for span in found.spans:
                path[span.start : span.end] = [span.label] * (span.end - span.start)
                share = values[span.start : span.end, span.label].exp().mean().item()
                assert span.confidence == pytest.approx(share)
            assert math.fsum(values[place, label].item() for place, label in enumerate(path)) == pytest.approx(
                right.best
            )


def test_the_likelihood_is_torchs_loss_over_a_long_input() -> None:
    frames = random_frames(1, 300, 12)
    torch.manual_seed(1)
    labels = torch.randint(1, 12, (80,))
    labels[10:13] = 5
    loss = F.ctc_loss(
        frames.unsqueeze(1), labels.unsqueeze(0), torch.tensor([300]), torch.tensor([80]), reduction="sum"
    )
    assert ctc_log_likelihood(frames, labels.tolist()) == pytest.approx(-loss.item(), rel=1e-12)
    assert ctc_align(frames, labels.tolist()).score < -loss.item()


def test_a_search_gives_a_transcript_the_likelihood_that_it_has() -> None:
    frames = random_frames(2, 8, 4)
    for each in ctc_beam_search([frames], CTCOptions(beam=5000, n_best=100, least_probability=0.0, most_behind=50.0))[
        0
    ]:
        assert each.log_probability == pytest.approx(ctc_log_likelihood(frames, each.labels), abs=1e-10)
        found = ctc_align(frames, each.labels).spans
        assert [span[:3] for span in each.spans] == [span[:3] for span in found]
        assert [span.confidence for span in each.spans] == pytest.approx([span.confidence for span in found])


def test_words_have_the_frames_of_their_labels() -> None:
    space = 1
    path = [1, 2, 2, 0, 3, 0, 1, 1, 0, 2, 0]
    frames = torch.full((len(path), 4), 0.1).scatter_(1, torch.tensor(path).view(-1, 1), 0.7).log()
    frames[4, 3] = math.log(0.4)
    spans = ctc_align(frames, [space, 2, 3, space, 2]).spans
    words = word_spans(spans, WordMarks(space))
    assert [word[:3] for word in words] == [([2, 3], 1, 5), ([2], 9, 10)]
    assert [word.confidence for word in words] == pytest.approx([0.4, 0.7])


def test_words_begin_at_separators_or_at_their_own_marks() -> None:
    def spans(*labels: int) -> list[LabelSpan]:
        return [LabelSpan(label, place, place + 1, 1.0 - place / 10) for place, label in enumerate(labels)]

    assert word_spans([], WordMarks(1)) == []
    assert word_spans(spans(1, 1), WordMarks(1)) == []
    assert word_spans(spans(2, 1, 1, 3), WordMarks(1)) == [WordSpan([2], 0, 1, 1.0), WordSpan([3], 3, 4, 0.7)]
    # A word need not begin with a mark where the input begins.
    assert word_spans(spans(2, 4, 3, 4), WordMarks(None, [4])) == [
        WordSpan([2], 0, 1, 1.0),
        WordSpan([4, 3], 1, 3, 0.8),
        WordSpan([4], 3, 4, 0.7),
    ]
    assert [word.labels for word in word_spans(spans(4, 2, 1, 4, 3, 1, 3), WordMarks(1, {4}))] == [[4, 2], [4, 3], [3]]
    for wrong in ({}, {"separator": 1, "beginning": [1]}):
        with pytest.raises(ConfigError):
            WordMarks(**wrong)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([1, 0],), "0 is no label"),
        (([3],), "3 is no label"),
        (([-1],), "-1 is no label"),
        (([1], 3), "blank must be one of the 3 labels"),
    ],
)
def test_labels_that_there_are_not_are_refused(arguments: Any, message: str) -> None:
    for function in (ctc_align, ctc_log_likelihood):
        with pytest.raises(ValueError, match=message):
            function(random_frames(1, 4, 3), *arguments)
