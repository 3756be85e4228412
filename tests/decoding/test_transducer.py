"""The transducer's searches against all alignments one by one, and its stream against itself."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from recurra.decoding.hotwords import Hotwords
from recurra.decoding.label_tree import path_to
from recurra.decoding.language_model_scorer import LanguageModelScorer
from recurra.decoding.lexicon import Lexicon
from recurra.decoding.recognized import Recognized
from recurra.decoding.transducer import (
    TransducerOptions,
    TransducerStream,
    transducer_beam_search,
    transducer_greedy,
)
from recurra.decoding.transducer_beam import TransducerBeam
from recurra.decoding.transducer_greedy_stream import TransducerGreedyStream
from recurra.errors import ConfigError
from recurra.models.transducer_loss import transducer_loss

from .all_paths import Bigrams, Labels, log_sum

J = 4


class Random:
    """A random transducer whose predictor's row follows from all labels so far."""

    def __init__(self, seed: int, labels: int, blank: int = 0, peak: float = 2.0, impossible: float = 0.0) -> None:
        torch.manual_seed(seed)
        self.labels, self.blank = labels, blank
        self.embedding = torch.randn(labels, J, dtype=torch.float64)
        self.weight = peak * torch.randn(labels, J, dtype=torch.float64)
        self.bias = torch.randn(labels, dtype=torch.float64)
        self.bias[blank] += 1.0
        self.impossible = impossible
        self.rows = 0

    def begin(self) -> tuple[Tensor, Tensor]:
        state = torch.zeros(1, 1, J, dtype=torch.float64)
        return state[0], state

    def advance(self, labels: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        assert state.shape == (1, len(labels), J)
        self.rows += len(labels)
        state = torch.sin(2 * state + self.embedding[labels])
        return state[0], state

    def joint(self, frame: Tensor, rows: Tensor) -> Tensor:
        logits = torch.tanh(frame + rows) @ self.weight.t() + self.bias
        if self.impossible:
            drawn = (logits * 1000).frac().abs() < self.impossible
            drawn[:, self.blank] = False
            logits = logits.masked_fill(drawn, -math.inf)
        return logits.log_softmax(-1)

    def predicted(self, labels: Labels) -> Tensor:
        """The rows (U + 1, J) of a label sequence."""
        row, state = self.begin()
        rows = [row]
        for label in labels:
            row, state = self.advance(torch.tensor([label]), state)
            rows.append(row)
        return torch.cat(rows)

    def all_alignments(self, encoded: Tensor, bound: int) -> dict[Labels, list[tuple[float, list[int]]]]:
        """log P and the labels' frames of every alignment, by labels, with at most so many labels in a frame."""
        found: dict[Labels, list[tuple[float, list[int]]]] = {}
        letters = [label for label in range(self.labels) if label != self.blank]
        for counts in itertools.product(range(bound + 1), repeat=len(encoded)):
            frames = [place for place, count in enumerate(counts) for _ in range(count)]
            for labels in itertools.product(letters, repeat=len(frames)):
                rows = self.predicted(labels)
                values, written = [], 0
                for place, count in enumerate(counts):
                    for label in [*labels[written : written + count], self.blank]:
                        values.append(float(self.joint(encoded[place], rows[written : written + 1])[0, label]))
                        written += label != self.blank
                if (total := math.fsum(values)) > -math.inf:
                    found.setdefault(labels, []).append((total, frames))
        return found


def encoded(seed: int, frames: int) -> Tensor:
    return torch.randn(frames, J, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def wide(bound: int, **changes: Any) -> TransducerOptions:
    given: dict[str, Any] = {"beam": 2000, "n_best": 2000, "least_probability": 0.0, "labels_per_frame": bound}
    given["most_behind"] = math.inf
    return TransducerOptions(**(given | changes))


def search(model: Random, frames: Tensor, options: TransducerOptions, *scorers: Any) -> list[Recognized]:
    return transducer_beam_search(model, [frames], options, scorers)[0]


def compare(model: Random, frames: Tensor, bound: int, gain: Any = None, scorers: Any = (), bonus: float = 0.0) -> None:
    expected = model.all_alignments(frames, bound)
    found = search(model, frames, wide(bound, label_bonus=bonus), *scorers)
    gains = {labels: (gain(labels) if gain else 0.0) + bonus * len(labels) for labels in expected}
    assert {tuple(each.labels) for each in found} == {labels for labels in expected if gains[labels] > -math.inf}
    assert [each.score for each in found] == sorted((each.score for each in found), reverse=True)
    for each in found:
        labels = tuple(each.labels)
        right = log_sum([total for total, _ in expected[labels]])
        assert each.log_probability == pytest.approx(right, abs=1e-10)
        assert each.score == pytest.approx(right + gains[labels], abs=1e-10)
        _, places = max(expected[labels])
        assert [(span.start, span.end) for span in each.spans] == [(place, place + 1) for place in places]
        rows = model.predicted(labels)
        for written, span in enumerate(each.spans):
            share = model.joint(frames[span.start], rows[written : written + 1])[0, span.label].exp()
            assert span.confidence == pytest.approx(float(share))


@pytest.mark.parametrize(("frames", "labels", "bound"), [(0, 3, 2), (1, 3, 3), (3, 3, 1), (3, 3, 2), (4, 2, 2)])
@pytest.mark.parametrize("blank", [0, 1])
def test_a_wide_beam_sums_over_all_alignments(frames: int, labels: int, bound: int, blank: int) -> None:
    compare(Random(frames, labels, blank), encoded(1, frames), bound)


@given(
    seed=st.integers(0, 10_000),
    frames=st.integers(0, 3),
    labels=st.integers(1, 3),
    bound=st.integers(1, 2),
    impossible=st.sampled_from([0.0, 0.5]),
)
@settings(max_examples=15)
def test_any_small_transducer_agrees_with_all_alignments(
    seed: int, frames: int, labels: int, bound: int, impossible: float
) -> None:
    compare(Random(seed, labels, impossible=impossible), encoded(seed, frames), bound)


def test_without_a_bound_that_binds_scores_are_the_loss() -> None:
    model, frames = Random(3, 3), encoded(3, 4)
    found = search(model, frames, wide(3))
    for each in [each for each in found if len(each.labels) <= 3]:
        loss = transducer_loss(
            frames.unsqueeze(0),
            model.predicted(tuple(each.labels)).unsqueeze(0),
            model.weight,
            model.bias,
            torch.tensor([each.labels], dtype=torch.int64),
            torch.tensor([4]),
            torch.tensor([len(each.labels)]),
            reduction="sum",
        )
        assert each.log_probability == pytest.approx(-loss.item(), abs=1e-10)


def test_what_is_fused_counts_once_for_each_label() -> None:
    model, language, words = Random(4, 3), Bigrams(4, 4), {(1,), (1, 2), (1, 1), (), (1, 1, 2), (1, 2, 1), (1, 1, 1)}

    def gain(labels: Labels) -> float:
        # Sentences of the words "1" and "12".
        sentence = all(label == 1 or (place and labels[place - 1] == 1) for place, label in enumerate(labels))
        hot = sum(labels[place : place + 2] == (2, 1) for place in range(len(labels)))
        return 0.6 * language.score([label + 1 for label in labels], 1) + 1.5 * hot if sentence else -math.inf

    assert all(gain(labels) > -math.inf for labels in words) and gain((2,)) == gain((1, 2, 2)) == -math.inf
    scorers = [
        LanguageModelScorer(language, [-1, 2, 3], 0.6, end=1),
        Lexicon([[1], [1, 2]], 3),
        Hotwords([([2, 1], 1.5)], 3),
    ]
    compare(model, encoded(4, 3), 2, gain, scorers, bonus=0.25)


@pytest.mark.parametrize("bound", [1, 2, 5])
def test_greedy_takes_the_likeliest_label_at_each_point(bound: int) -> None:
    for seed in range(6):
        model, frames = Random(seed, 4, blank=2), encoded(seed, 5)
        model.bias[2] -= 1.5
        labels: list[int] = []
        total, spans = 0.0, []
        for place in range(5):
            for written in itertools.count():
                shares = model.joint(frames[place], model.predicted(tuple(labels))[-1:])[0].tolist()
                label = shares.index(max(shares)) if written < bound else 2
                total += shares[label]
                if label == 2:
                    break
                labels.append(label)
                spans.append((label, place, place + 1, pytest.approx(math.exp(shares[label]))))
        found = transducer_greedy(model, frames, bound)
        assert found.labels == labels and found.spans == spans
        assert found.score == found.log_probability == pytest.approx(total)


def test_a_beam_finds_what_is_at_least_as_likely_as_the_greedy_alignment() -> None:
    for seed in range(5):
        model, frames = Random(seed, 4, peak=5.0), encoded(6, 30)
        (best,) = search(model, frames, TransducerOptions(beam=30))
        assert best.score >= transducer_greedy(model, frames).score


def test_blanks_alone_give_no_labels() -> None:
    model = Random(7, 4)
    model.bias[0] = 1e4
    (best,) = search(model, encoded(7, 20), TransducerOptions())
    assert best.spans == [] == transducer_greedy(model, encoded(7, 20)).spans and best.score == pytest.approx(0.0)
    # Nothing is read where no label is likely enough.
    assert model.rows == 0


def test_unlikely_labels_are_not_written() -> None:
    model, frames = Random(8, 3), encoded(8, 2)
    least = 0.25
    found = search(model, frames, wide(1, least_probability=least))
    everything = {tuple(each.labels): each.score for each in search(model, frames, wide(1))}
    assert 0 < len(found) < len(everything)
    for each in found:
        assert each.score <= everything[tuple(each.labels)] + 1e-12
        assert all(span.confidence > least for span in each.spans)


@pytest.mark.parametrize("size", [1, 3, 16, 40, 100])
@pytest.mark.parametrize("fused", [False, True])
def test_pieces_of_any_size_give_the_same_bits(size: int, fused: bool) -> None:
    frames, options = encoded(9, 100), TransducerOptions(beam=4, n_best=3, labels_per_frame=2)

    def scorers() -> list[Any]:
        model = LanguageModelScorer(Bigrams(5, 5), [-1, 1, 2, 3], 0.3, end=4)
        return [model, Hotwords([([1, 2], 1.0)], 4)] if fused else []

    whole = search(Random(9, 4, peak=4.0), frames, options, *scorers())
    stream, settled = TransducerStream(Random(9, 4, peak=4.0), options, scorers()), []
    for first in range(0, 100, size):
        partial = stream.feed(frames[first : first + size])
        settled += partial.settled
        assert stream.feed(frames[:0]) == ([], partial.unsettled)
    assert [each._replace(spans=[*settled, *each.spans]) for each in stream.finish()] == whole
    assert len(whole) == 3 and len(settled) > 10
    with pytest.raises(ValueError, match="the stream has ended"):
        stream.feed(frames)


def test_the_memory_of_a_stream_does_not_grow_with_the_input() -> None:
    model = Random(10, 4, peak=4.0)
    model.bias[0] -= 4.0
    stream = TransducerStream(model, TransducerOptions(beam=3, settle_after=40))
    sizes, count = [], 0
    for seed in range(12):
        count += len(stream.feed(encoded(seed, 48)).settled)
        beam = stream._beam
        assert isinstance(beam, TransducerBeam)
        nodes = {id(node) for node in beam._tree._children.values()}
        nodes |= {id(each) for hypothesis in beam._beam for each in path_to(hypothesis.node)}
        sizes.append(len(nodes))
    assert count > 70 and max(sizes) < 20


def test_others_do_not_change_an_utterance() -> None:
    model, utterances = Random(11, 4), [encoded(seed, 5 + 3 * seed) for seed in range(3)]
    together = transducer_beam_search(model, utterances, TransducerOptions(n_best=2))
    assert together == [search(model, frames, TransducerOptions(n_best=2)) for frames in utterances]


def test_what_makes_no_sense_is_refused() -> None:
    for wrong, message in (({"labels_per_frame": 0}, "labels_per_frame must be"), ({"beam": 0}, "beam must be")):
        with pytest.raises(ConfigError, match=message):
            TransducerOptions(**wrong)
    with pytest.raises(ConfigError, match="labels_per_frame must be"):
        transducer_greedy(Random(1, 3), encoded(1, 2), 0)
    with pytest.raises(ValueError, match=r"must be \(T, D\)"):
        TransducerStream(Random(1, 3)).feed(torch.zeros(4))
    with pytest.raises(ValueError, match="without NaN"):
        TransducerStream(Random(1, 3)).feed(torch.full((1, J), math.nan, dtype=torch.float64))


@pytest.mark.parametrize("piece", [1, 2, 5])
def test_a_greedy_stream_gives_the_whole(piece: int) -> None:
    model = Random(piece, 4, blank=1)
    encoded = torch.randn(11, J, dtype=torch.float64)
    whole = transducer_greedy(model, encoded, 2)
    stream = TransducerGreedyStream(model, 2)
    settled = [span for part in encoded.split(piece) for span in stream.feed(part).settled]
    (found,) = stream.finish()
    assert settled == whole.spans and whole.spans and found.spans == []
    assert found.score == pytest.approx(whole.score, abs=1e-12)
    with pytest.raises(ValueError, match="has ended"):
        stream.feed(encoded)
