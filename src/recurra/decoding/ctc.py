"""From a recogniser's log-probabilities to labels, where blanks stand between them (CTC; Graves et al. 2006).

`ctc_greedy` takes the likeliest path. `ctc_beam_search` looks for the likeliest labels, which many paths may spell, and
takes in what a language model, a lexicon and hotwords say (see `label_scoring`). `CTCStream` does the same for
log-probabilities that come piece by piece.

T is frames and V labels, the blank included.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from torch import Tensor

from ..errors import ConfigError
from .beam_stream import BeamStream, Partial, RecogniserBeam, search_whole
from .ctc_beam import CTCBeam
from .label_scoring import Floats, Fusion, LabelScorer
from .recognized import LabelSpan, Recognized

__all__ = ["CTCOptions", "CTCStream", "ctc_beam_search", "ctc_greedy", "read_log_probabilities"]


@dataclass(frozen=True)
class CTCOptions(RecogniserBeam):
    """How a beam is kept.

    Attributes:
        blank: the label that stands for none.

    Raises:
        ConfigError: if a value is out of its range.
    """

    blank: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.blank < 0:
            raise ConfigError(f"blank must be the number of a label, not {self.blank}.")


def read_log_probabilities(values: Tensor | npt.NDArray[np.floating], labels: int | None = None) -> Floats:
    """Log-probabilities (T, V) in float64.

    Raises:
        ValueError: if they have another shape, another number of labels than is given, NaN, or a value above 0, as
            numbers have that no log_softmax has gone over.
    """
    array = values.detach().cpu().double().numpy() if isinstance(values, Tensor) else np.asarray(values, np.float64)
    if array.ndim != 2 or array.shape[1] < 1 or (labels is not None and array.shape[1] != labels):
        raise ValueError(f"log-probabilities must be (T, {labels or 'V'}), not {tuple(array.shape)}")
    # Rounding to half precision leaves a probability of 1 above 1 by less than that.
    if array.size and not array.max() <= 1e-2:
        frame = int(np.flatnonzero(~(array.max(1) <= 1e-2))[0])
        raise ValueError(
            f"log-probabilities must be numbers up to 0, and frame {frame} has {array[frame].max()}; "
            "take log_softmax first"
        )
    return array


def ctc_greedy(log_probabilities: Tensor | npt.NDArray[np.floating], blank: int = 0) -> Recognized:
    """The labels of the likeliest path: repeated labels count once, and blanks not at all.

    Of equal labels at a frame the lower one is taken. `log_probability` and `score` are those of this one path, so
    log P(labels) is at least as high; `ctc_log_likelihood` has it.

    Args:
        log_probabilities: (T, V).
        blank: the label that stands for none.
    """
    frames = read_log_probabilities(log_probabilities)
    _check_blank(blank, frames.shape[1])
    if not len(frames):
        return Recognized([], 0.0, 0.0)
    path = frames.argmax(1)
    values = frames[np.arange(len(frames)), path]
    starts = np.flatnonzero(np.concatenate([[True], path[1:] != path[:-1]]))
    ends = np.append(starts[1:], len(frames))
    spans = [
        LabelSpan(int(path[start]), start, end, min(float(np.exp(values[start:end]).mean()), 1.0))
        for start, end in zip(starts.tolist(), ends.tolist(), strict=True)
        if path[start] != blank
    ]
    total = math.fsum(values.tolist())
    return Recognized(spans, total, total)


def ctc_beam_search(
    utterances: Sequence[Tensor | npt.NDArray[np.floating]],
    options: CTCOptions | None = None,
    scorers: Sequence[LabelScorer] = (),
) -> list[list[Recognized]]:
    """Search the labels of highest score of each utterance (Hannun et al. 2014, algorithm 1).

    The score of labels is log P(labels | input), summed over all paths, plus the gains of the scorers. With a beam that
    holds all label sequences and `least_probability` 0 the result is that of trying them all. Each utterance is
    searched alone, so others do not change its result.

    Args:
        utterances: log-probabilities (T, V) of each.
        options: of the beam; None: the defaults.
        scorers: what is added to the log-probabilities.

    Returns:
        For each utterance up to n_best hypotheses, the best first. Of an impossible input, with minus infinity for all
        labels of a frame, there are none.

    Raises:
        ValueError: as `read_log_probabilities`, or if the blank is not one of the labels.
    """
    return [search_whole(CTCStream(frames.shape[-1], options, scorers), frames) for frames in utterances]


class CTCStream(BeamStream):
    """Beam search over log-probabilities that come piece by piece; the result is that of `ctc_beam_search`.

    Args:
        labels: V.
        options: of the beam; None: the defaults.
        scorers: what is added to the log-probabilities.

    Raises:
        ValueError: if the blank is not one of the labels.
    """

    def __init__(self, labels: int, options: CTCOptions | None = None, scorers: Sequence[LabelScorer] = ()) -> None:
        options = options or CTCOptions()
        _check_blank(options.blank, labels)
        self._labels = labels
        fusion = Fusion(scorers, labels, options.label_bonus)
        super().__init__(CTCBeam(options, options.blank, fusion), options.n_best)

    def feed(self, log_probabilities: Tensor | npt.NDArray[np.floating]) -> Partial:
        """Read a piece (T, V), which may have no frames.

        Raises:
            ValueError: as `read_log_probabilities`, or after `finish`.
        """
        return self._read(read_log_probabilities(log_probabilities, self._labels))


def _check_blank(blank: int, labels: int) -> None:
    if not 0 <= blank < labels:
        raise ValueError(f"blank must be one of the {labels} labels, not {blank}")
