"""From a transducer to labels (Graves 2012): a predictor that reads the labels so far beside an encoder of the input.

`transducer_greedy` takes the likeliest label at each point. `transducer_beam_search` keeps a beam, and takes in what a
language model, a lexicon and hotwords say (see `label_scoring`). `TransducerStream` does the same for frames that come
piece by piece.

T is frames, D the width of the encoder's frames, J that of the predictor's rows, V labels with the blank.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from ..errors import ConfigError
from .beam_stream import BeamStream, Partial, RecogniserBeam, search_whole
from .label_scoring import Fusion, LabelScorer
from .recognized import LabelSpan, Recognized
from .state import State
from .transducer_beam import TransducerBeam, read_joint

__all__ = [
    "Transducer",
    "TransducerOptions",
    "TransducerStream",
    "transducer_beam_search",
    "transducer_greedy",
]

# A label takes a piece of sound or of a stroke, so more than a few of them in one frame are a loop of the predictor.
_MOST_IN_A_FRAME = 1_000


class Transducer(Protocol):
    """What a search asks of a transducer.

    Attributes:
        labels: V.
        blank: the label that stands for none.
    """

    @property
    def labels(self) -> int: ...

    @property
    def blank(self) -> int: ...

    def begin(self) -> tuple[Tensor, State]:
        """The predictor's row (1, J) before the first label, and its state there, of one row."""
        ...

    def advance(self, labels: Tensor, state: State) -> tuple[Tensor, State]:
        """Read one more label in each of N rows, (N,) int64: the predictor's rows (N, J) and the state after them."""
        ...

    def joint(self, frame: Tensor, rows: Tensor) -> Tensor:
        """Log-probabilities (N, V) of the blank and the labels after the labels of each row (N, J) at a frame (D,)."""
        ...


@dataclass(frozen=True)
class TransducerOptions(RecogniserBeam):
    """How a beam is kept.

    Attributes:
        labels_per_frame: the most labels that a hypothesis can get in one frame, from 1.

    Raises:
        ConfigError: if a value is out of its range.
    """

    labels_per_frame: int = 3

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_labels_per_frame(self.labels_per_frame)


@torch.inference_mode()
def transducer_greedy(model: Transducer, encoded: Tensor, labels_per_frame: int = 3) -> Recognized:
    """The likeliest label at each point, until it is the blank; then the next frame.

    Of equal labels the lower one is taken. After `labels_per_frame` labels a frame ends with a blank, likely or not.
    `log_probability` and `score` are those of this one alignment. A label is in one frame, where it was written.

    Args:
        model: the transducer.
        encoded: (T, D).
        labels_per_frame: the most labels in one frame, from 1.

    Raises:
        ConfigError: if `labels_per_frame` is out of its range.
    """
    _check_labels_per_frame(labels_per_frame)
    row, state = model.begin()
    spans: list[LabelSpan] = []
    gains: list[float] = []
    for place, frame in enumerate(encoded):
        for written in range(labels_per_frame + 1):
            log_probabilities = read_joint(model, frame, row)[0]
            label = int(log_probabilities.argmax()) if written < labels_per_frame else model.blank
            gains.append(float(log_probabilities[label]))
            if label == model.blank:
                break
            spans.append(LabelSpan(label, place, place + 1, min(math.exp(gains[-1]), 1.0)))
            row, state = model.advance(torch.tensor([label], device="cpu"), state)
    total = math.fsum(gains)
    return Recognized(spans, total, total)


def transducer_beam_search(
    model: Transducer,
    utterances: Sequence[Tensor],
    options: TransducerOptions | None = None,
    scorers: Sequence[LabelScorer] = (),
) -> list[list[Recognized]]:
    """Search the labels of highest score of each utterance, frame by frame.

    In each frame the hypotheses of the beam get up to `labels_per_frame` labels, one a round, and in each round the
    best of those that are a label longer go on. All that end the frame with a blank then compete for the beam, and
    those with the same labels are one hypothesis. This is the search of Graves (2012, section 2.5) with a bound on the
    labels of a frame, which also bounds the time.

    The score of labels is the logarithm of the sum over all alignments with at most `labels_per_frame` labels in each
    frame, plus the gains of the scorers. With a beam that holds all hypotheses and `least_probability` 0 the result is
    that of trying them all. Each utterance is searched alone, so others do not change its result.

    Args:
        model: the transducer.
        utterances: the encoder's frames (T, D) of each.
        options: of the beam; None: the defaults.
        scorers: what is added to the log-probabilities.

    Returns:
        For each utterance up to n_best hypotheses, the best first. A label is in one frame, where the best alignment
        of the hypothesis writes it.
    """
    return [search_whole(TransducerStream(model, options, scorers), encoded) for encoded in utterances]


class TransducerStream(BeamStream):
    """Beam search over the encoder's frames as they come; the result is that of `transducer_beam_search`.

    Args:
        model: the transducer.
        options: of the beam; None: the defaults.
        scorers: what is added to the log-probabilities.
    """

    def __init__(
        self, model: Transducer, options: TransducerOptions | None = None, scorers: Sequence[LabelScorer] = ()
    ) -> None:
        options = options or TransducerOptions()
        fusion = Fusion(scorers, model.labels, options.label_bonus)
        super().__init__(TransducerBeam(model, options, options.labels_per_frame, fusion), options.n_best)

    def feed(self, encoded: Tensor) -> Partial:
        """Read a piece (T, D), which may have no frames.

        Raises:
            ValueError: if it has another shape or the joint gives NaN, or after `finish`.
        """
        if encoded.dim() != 2:
            raise ValueError(f"the encoder's frames must be (T, D), not {tuple(encoded.shape)}")
        return self._read(encoded)


def _check_labels_per_frame(count: int) -> None:
    if not 1 <= count <= _MOST_IN_A_FRAME:
        raise ConfigError(f"labels_per_frame must be from 1 to {_MOST_IN_A_FRAME:,}, not {count}.")
