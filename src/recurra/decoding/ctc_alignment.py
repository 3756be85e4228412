"""A given transcript against a recogniser's log-probabilities: how likely it is, and where each of its labels is.

Both go over the states of Graves et al. (2006, section 4.1): the labels with a blank before, between and after them.
T is frames, V labels with the blank, U the labels of the transcript.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from ..errors import DataError
from ..models.ctc import ctc_frames_needed
from .ctc import read_log_probabilities
from .label_scoring import Floats
from .recognized import LabelSpan, Recognized

__all__ = ["ctc_align", "ctc_log_likelihood"]


def ctc_log_likelihood(
    log_probabilities: Tensor | npt.NDArray[np.floating], labels: Sequence[int], blank: int = 0
) -> float:
    """log P(labels | input), the sum over all paths that spell them; minus infinity if none does.

    Args:
        log_probabilities: (T, V).
        labels: without blanks; may be none.
        blank: the label that stands for none.

    Raises:
        ValueError: as `read_log_probabilities`, or if a label is the blank or not one of 0 to V - 1.
    """
    frames = read_log_probabilities(log_probabilities)
    states, may_skip = _states(labels, blank, frames.shape[1])
    scores = _begin(len(states))
    for frame in frames:
        ways = np.logaddexp(scores, _from_before(scores, 1))
        ways = np.where(may_skip, np.logaddexp(ways, _from_before(scores, 2)), ways)
        scores = ways + frame[states]
    return float(_ending(scores, np.logaddexp))


def ctc_align(
    log_probabilities: Tensor | npt.NDArray[np.floating], labels: Sequence[int], blank: int = 0
) -> Recognized:
    """The best path that spells the labels, with the frames of each of them (forced alignment, Viterbi's algorithm).

    Of equally likely paths always the same one is taken. `log_probability` and `score` are those of the path.
    `word_spans` makes words of the result.

    Args:
        log_probabilities: (T, V).
        labels: without blanks; may be none.
        blank: the label that stands for none.

    Raises:
        ValueError: as `read_log_probabilities`, or if a label is the blank or not one of 0 to V - 1.
        DataError: if no path of these frames spells the labels.
    """
    frames = read_log_probabilities(log_probabilities)
    states, may_skip = _states(labels, blank, frames.shape[1])
    needed = ctc_frames_needed(labels)
    if needed > len(frames):
        raise DataError(f"{len(labels)} labels need at least {needed} frames, and the input has {len(frames)}.")
    scores = _begin(len(states))
    steps = np.zeros((len(frames), len(states)), np.int8)
    for place, frame in enumerate(frames):
        ways = np.stack([scores, _from_before(scores, 1), np.where(may_skip, _from_before(scores, 2), -np.inf)])
        # The first of equal ones stays where it is.
        steps[place] = ways.argmax(0)
        scores = ways.max(0) + frame[states]
    total = float(_ending(scores, np.maximum))
    if total == -np.inf:
        raise DataError(f"the input gives the probability 0 to each path that spells the {len(labels)} labels.")
    # Behind the last state is the label before the last blank.
    state = len(states) - 1
    if len(states) > 1 and not scores[-1] > scores[-2]:
        state -= 1
    path = np.empty(len(frames), np.int64)
    for place in range(len(frames) - 1, -1, -1):
        path[place] = state
        state -= int(steps[place, state])
    return Recognized(_spans(path, frames, labels), total, total)


def _states(labels: Sequence[int], blank: int, size: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """The label of each state (2U + 1,), and whether a path may come to it past the blank before it."""
    if not 0 <= blank < size:
        raise ValueError(f"blank must be one of the {size} labels, not {blank}")
    wrong = [label for label in labels if not 0 <= label < size or label == blank]
    if wrong:
        raise ValueError(f"labels lie between 0 and {size - 1} and are not the blank, {blank}; {wrong[0]} is no label")
    states = np.full(2 * len(labels) + 1, blank, np.int64)
    states[1::2] = labels
    may_skip = np.zeros(len(states), np.bool_)
    may_skip[3::2] = states[3::2] != states[1:-2:2]
    return states, may_skip


def _begin(count: int) -> Floats:
    """Scores before the first frame, which the first blank alone would have; the first label may follow at once."""
    scores = np.full(count, -np.inf)
    scores[0] = 0.0
    return scores


def _from_before(scores: Floats, distance: int) -> Floats:
    moved = np.full_like(scores, -np.inf)
    moved[distance:] = scores[:-distance]
    return moved


def _ending(scores: Floats, combine: Callable[..., Any]) -> Any:
    """A path ends with the last label or the blank after it."""
    return combine(scores[-1], scores[-2]) if len(scores) > 1 else scores[-1]


def _spans(path: npt.NDArray[np.int64], frames: Floats, labels: Sequence[int]) -> list[LabelSpan]:
    spans = []
    for place, label in enumerate(labels):
        own = np.flatnonzero(path == 2 * place + 1)
        share = min(float(np.exp(frames[own, label]).mean()), 1.0)
        spans.append(LabelSpan(label, int(own[0]), int(own[-1]) + 1, share))
    return spans
