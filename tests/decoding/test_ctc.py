"""CTC's greedy path, beam search and stream against all paths one by one, and against torch's loss."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from recurra.decoding.ctc import CTCOptions, CTCStream, ctc_beam_search, ctc_greedy
from recurra.decoding.ctc_beam import CTCBeam
from recurra.decoding.hotwords import Hotwords
from recurra.decoding.label_tree import path_to
from recurra.decoding.language_model_scorer import LanguageModelScorer
from recurra.decoding.lexicon import Lexicon
from recurra.decoding.recognized import Recognized
from recurra.errors import ConfigError

from .all_paths import Bigrams, all_paths, collapsed, random_frames


def everything(blank: int = 0, **changes: Any) -> CTCOptions:
    return CTCOptions(
        **({"beam": 5000, "n_best": 5000, "blank": blank, "least_probability": 0.0, "most_behind": math.inf} | changes)
    )


def search(frames: Tensor, options: CTCOptions, *scorers: Any) -> list[Recognized]:
    return ctc_beam_search([frames], options, scorers)[0]


def compare(frames: Tensor, blank: int) -> None:
    expected = all_paths(frames, blank)
    found = search(frames, everything(blank))
    assert {tuple(each.labels) for each in found} == set(expected)
    assert [each.score for each in found] == sorted((each.score for each in found), reverse=True)
    for each in found:
        right = expected[tuple(each.labels)]
        assert each.log_probability == each.score == pytest.approx(right.log_probability, abs=1e-10)
        # Other paths may be as good as the best one.
        path = [blank] * len(frames)
        for span in each.spans:
            path[span.start : span.end] = [span.label] * (span.end - span.start)
            share = frames[span.start : span.end, span.label].exp().mean().item()
            assert span.confidence == pytest.approx(share, abs=1e-12)
        assert collapsed(path, blank)[0] == tuple(each.labels)
        assert math.fsum(frames[place, label].item() for place, label in enumerate(path)) == pytest.approx(right.best)


@pytest.mark.parametrize("blank", [0, 2])
@pytest.mark.parametrize(("frames", "labels"), [(0, 3), (1, 3), (6, 3), (4, 4), (7, 2)])
def test_a_wide_beam_finds_all_labels_with_all_of_their_paths(frames: int, labels: int, blank: int) -> None:
    compare(random_frames(frames, frames, labels), min(blank, labels - 1))


@given(
    seed=st.integers(0, 10_000),
    frames=st.integers(0, 5),
    labels=st.integers(1, 3),
    impossible=st.sampled_from([0.0, 0.3, 0.7]),
    blank=st.integers(0, 2),
)
@settings(max_examples=60)
def test_any_small_input_agrees_with_all_paths(
    seed: int, frames: int, labels: int, impossible: float, blank: int
) -> None:
    compare(random_frames(seed, frames, labels, impossible), min(blank, labels - 1))


def test_scores_of_a_wide_beam_are_torchs_loss() -> None:
    frames = random_frames(3, 7, 4)
    for each in search(frames, everything(n_best=60)):
        target = torch.tensor([each.labels], dtype=torch.int64)
        sizes = torch.tensor([7]), torch.tensor([len(each.labels)])
        assert each.score == pytest.approx(-F.ctc_loss(frames.unsqueeze(1), target, *sizes, reduction="sum").item())


@pytest.mark.parametrize("beam", [1, 2, 3, 5])
def test_a_narrow_beam_never_promises_more_than_there_is(beam: int) -> None:
    for seed in range(5):
        frames = random_frames(seed, 7, 3)
        expected = all_paths(frames)
        found = search(frames, everything(beam=beam, n_best=beam))
        assert len(found) == len({tuple(each.labels) for each in found}) == beam
        for each in found:
            assert each.log_probability <= expected[tuple(each.labels)].log_probability + 1e-12


def test_labels_whose_beginning_left_the_beam_and_came_back_are_one_hypothesis() -> None:
    # After six frames 12121 is in the beam and 1212 is not; after seven 1212 is back; in the last it becomes 12121.
    shares = [[12, 64, 24], [22, 36, 42], [8, 74, 18], [65, 13, 22], [36, 7, 57], [13, 75, 12], [34, 28, 38]]
    frames = torch.tensor([*shares, [44, 47, 9]]).div(100).log()
    beams = [search(frames[:count], everything(beam=4, n_best=4)) for count in (6, 7, 8)]
    labels = [["".join(map(str, each.labels)) for each in beam] for beam in beams]
    assert labels[0] == ["121", "12121", "2121", "1211"] and labels[1] == ["121", "1212", "12121", "2121"]
    assert labels[2] == ["121", "12121", "1212", "2121"]
    scores = [{name: each.score for name, each in zip(*pair, strict=True)} for pair in zip(labels, beams, strict=True)]
    blank, one = (math.log(share / 100) for share in (44, 47))
    # Two of the ways to 12121 in the last frame are from itself and from 1212; both count.
    assert scores[2]["12121"] > max(scores[1]["12121"] + blank, scores[1]["1212"] + one) + 0.1


@pytest.mark.parametrize(
    ("path", "labels"),
    [
        ([1, 0, 1], [1, 1]),
        ([1, 1, 1], [1]),
        ([1, 1, 0, 0, 1, 2, 2, 0], [1, 1, 2]),
        ([0, 0, 0], []),
        ([], []),
    ],
)
def test_a_sure_path_is_read_as_it_is(path: list[int], labels: list[int]) -> None:
    frames = torch.full((len(path), 3), 1e-3).scatter_(1, torch.tensor(path).view(-1, 1).long(), 0.998).log()
    greedy, (best,) = ctc_greedy(frames), search(frames, CTCOptions())
    assert greedy.labels == best.labels == labels
    assert greedy.spans == best.spans
    certain = torch.full((len(path), 3), -math.inf).scatter_(1, torch.tensor(path).view(-1, 1).long(), 0.0)
    (one,) = search(certain, everything())
    assert one.labels == labels and one.score == 0.0 == ctc_greedy(certain).score
    assert all(span.confidence == 1.0 for span in one.spans)


def test_the_likeliest_labels_are_not_those_of_the_likeliest_path() -> None:
    # Graves et al. (2006), section 3.2: blanks are the best path, and yet one label is likelier than none.
    frames = torch.tensor([[0.6, 0.4], [0.6, 0.4]]).log()
    assert ctc_greedy(frames).labels == []
    (best,) = search(frames, CTCOptions())
    assert best.labels == [1] and math.exp(best.log_probability) == pytest.approx(0.64)


def test_greedy_is_the_best_of_all_paths() -> None:
    for seed in range(10):
        frames = random_frames(seed, 6, 3)
        paths = itertools.product(range(3), repeat=6)
        scored = [(sum(frames[place, label].item() for place, label in enumerate(path)), path) for path in paths]
        score, path = max(scored)
        found = ctc_greedy(frames, blank=1)
        labels, spans = collapsed(path, 1)
        assert found.score == found.log_probability == pytest.approx(score)
        assert tuple(found.labels) == labels and [(span.start, span.end) for span in found.spans] == spans
        for span in found.spans:
            share = frames[span.start : span.end, span.label].exp().mean().item()
            assert span.confidence == pytest.approx(share)


def test_an_impossible_frame_leaves_no_hypothesis() -> None:
    frames = random_frames(1, 4, 3)
    frames[2] = -math.inf
    stream = CTCStream(3)
    assert search(frames, everything()) == [] and ctc_greedy(frames).score == -math.inf
    stream.feed(frames)
    assert stream.feed(frames[:1]).unsettled == [] and stream.finish() == []


def test_unlikely_labels_are_not_begun() -> None:
    frames = torch.tensor([[0.5, 0.41, 0.09], [0.5, 0.09, 0.41], [0.9, 0.09, 0.01]]).log()
    pruned = search(frames, everything(least_probability=0.1))
    assert {tuple(each.labels) for each in pruned} == {(), (1,), (2,), (1, 2)}
    found = {tuple(each.labels): each.score for each in search(frames, everything())}
    assert (2, 1) in found
    # What is left out is the paths that begin the label where it is unlikely; one that goes on may be unlikely.
    for each in pruned:
        assert each.score <= found[tuple(each.labels)] + 1e-12
    (one,) = [each for each in pruned if each.labels == [1]]
    begun = 0.41 * (0.5 + 0.09) * 0.9 + 0.41 * 0.09 * 0.09
    assert math.exp(one.score) == pytest.approx(begun)


def test_hypotheses_too_far_behind_are_given_up() -> None:
    frames = torch.tensor([[0.5, 0.4, 0.1], [0.8, 0.1, 0.1]]).log()
    found = search(frames, everything())
    (best, *others) = search(frames, everything(most_behind=1.0))
    assert best == found[0] and 0 < len(others) < len(found) - 1
    assert all(best.score - each.score <= 1.0 for each in others)


def scorers(labels: int) -> list[Any]:
    words = [[1, 2], [1], [2, 1, 1], [3, 2], [3]]
    return [
        LanguageModelScorer(Bigrams(5, labels + 1), [-1, *range(2, labels + 1)], 0.4, end=1),
        Lexicon(words, labels),
        Hotwords([([1, 2], 1.5), ([2, 1, 1, 3], 2.0)], labels),
    ]


@pytest.mark.parametrize("size", [1, 2, 7, 50, 64, 200])
@pytest.mark.parametrize("fused", [False, True])
def test_pieces_of_any_size_give_the_same_bits(size: int, fused: bool) -> None:
    frames = random_frames(4, 230, 4, peak=4.0)
    options = CTCOptions(beam=6, n_best=4, label_bonus=0.3)
    whole = search(frames, options, *(scorers(4) if fused else []))
    stream = CTCStream(4, options, scorers(4) if fused else [])
    settled = []
    for first in range(0, len(frames), size):
        partial = stream.feed(frames[first : first + size])
        settled += partial.settled
        assert all(one.end <= other.start for one, other in itertools.pairwise([*settled, *partial.unsettled]))
        assert stream.feed(frames[:0]) == ([], partial.unsettled)
    found = stream.finish()
    assert [each._replace(spans=[*settled, *each.spans]) for each in found] == whole
    assert len(whole) == 4 and len(settled) > len(whole[0].spans) / 2
    with pytest.raises(ValueError, match="the stream has ended"):
        stream.feed(frames)


def test_a_stream_says_what_is_settled_and_what_is_not() -> None:
    stream = CTCStream(3, CTCOptions(beam=2))
    path = [0, 1, 1, 0, 0, 2, 0, 0, 1, 0, 0, 0, 0, 0, 2, 2, 2, 0, 0]
    frames = torch.full((len(path), 3), 0.001).scatter_(1, torch.tensor(path).view(-1, 1), 0.998).log()
    partials = [stream.feed(frame.view(1, -1)) for frame in frames]
    unsettled = [[span.label for span in partial.unsettled] for partial in partials]
    assert unsettled[:10] == [[], [1], [1], [1], [1], [1, 2], [1, 2], [1, 2], [1, 2, 1], [1, 2, 1]]
    settled = [partial.settled for partial in partials]
    assert not any(settled[:15]) and not any(settled[16:])
    # The last label may go on, and so may the one before it in the other hypothesis.
    assert [span[:3] for span in settled[15]] == [(1, 1, 3), (2, 5, 6)]
    (best,) = stream.finish()
    assert [span[:3] for span in best.spans] == [(1, 8, 9), (2, 14, 17)]


def size_of(stream: CTCStream) -> int:
    """How many sequences a stream knows of, and spans."""
    beam = stream._beam
    assert isinstance(beam, CTCBeam)
    found = {id(node) for node in beam._tree._children.values()}
    for node in beam._nodes:
        found |= {id(each) for each in path_to(node)}
    for chain in [*beam._paths.before, *beam._paths.closed]:
        while chain is not None:
            found.add(id(chain))
            chain = chain.before
    return len(found)


@pytest.mark.parametrize("fused", [False, True])
def test_the_memory_of_a_stream_does_not_grow_with_the_input(fused: bool) -> None:
    stream = CTCStream(4, CTCOptions(beam=4, settle_after=50), scorers(4)[:1] if fused else [])
    count, sizes = 0, []
    for seed in range(40):
        partial = stream.feed(random_frames(seed, 50, 4, peak=4.0))
        count += len(partial.settled)
        sizes.append(size_of(stream))
    assert count > 800 and max(sizes) < 4 * 3 * (50 + 2 * 16)
    assert max(sizes[20:]) < 1.3 * max(sizes[:20])


def test_old_doubts_are_given_up_for_the_best_hypothesis() -> None:
    doubt = torch.tensor([[0.02, 0.5, 0.48]]).log()
    path = [0, 0, 1, *[0] * 57]
    rest = torch.full((len(path), 3), 0.001).scatter_(1, torch.tensor(path).view(-1, 1), 0.998).log()
    frames = torch.cat([doubt, rest])
    patient, hasty = (search(frames, CTCOptions(beam=2, n_best=2, settle_after=after)) for after in (1000, 20))
    assert [each.labels for each in patient] == [[1, 1], [2, 1]]
    assert hasty[0] == patient[0] and [each.labels[0] for each in hasty] == [1] * len(hasty)


def test_others_do_not_change_an_utterance() -> None:
    utterances = [random_frames(seed, 20 + seed, 4) for seed in range(4)]
    fused = scorers(4)
    together = ctc_beam_search(utterances, CTCOptions(n_best=3), fused)
    assert together == [search(frames, CTCOptions(n_best=3), *scorers(4)) for frames in utterances]
    assert together == ctc_beam_search(utterances, CTCOptions(n_best=3), fused)


def test_equal_scores_come_in_the_order_of_the_labels() -> None:
    frames = torch.full((1, 4), 0.25).log()
    assert [each.labels for each in search(frames, everything())] == [[], [1], [2], [3]]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_log_probabilities_may_be_narrow_and_arrays(dtype: torch.dtype) -> None:
    frames = random_frames(2, 5, 3).to(dtype)
    wide = frames.double()
    assert search(frames, everything()) == search(wide, everything())
    assert search(wide.numpy(), everything()) == search(wide, everything())  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.zeros(3), r"must be \(T, V\)"),
        (np.full((2, 3), np.nan), "frame 0 has nan"),
        (np.array([[-1.0, -2.0], [0.0, 3.0]]), "frame 1 has 3.0; take log_softmax"),
        (np.zeros((2, 0)), r"must be \(T, V\)"),
    ],
)
def test_what_is_no_log_probability_is_refused(values: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ctc_greedy(values)


def test_options_out_of_range_are_refused() -> None:
    for wrong, message in (
        ({"beam": 0}, "beam must be from 1"),
        ({"n_best": 9}, "n_best must be from 1 to the beam's 8"),
        ({"least_probability": 1.0}, "least_probability must be"),
        ({"least_probability": math.nan}, "least_probability must be"),
        ({"most_behind": 0.0}, "most_behind must be"),
        ({"settle_after": 0}, "settle_after must be"),
        ({"label_bonus": math.inf}, "label_bonus must be"),
        ({"blank": -1}, "blank must be"),
    ):
        with pytest.raises(ConfigError, match=message):
            CTCOptions(**wrong)
    with pytest.raises(ValueError, match="blank must be one of the 3 labels"):
        CTCStream(3, CTCOptions(blank=3))
    with pytest.raises(ValueError, match=r"must be \(T, 3\)"):
        CTCStream(3).feed(torch.zeros(2, 4))
