"""The end of a recogniser: from the encoder's frames to labels, by CTC or as a recurrent transducer.

Both give a loss, the frames that searches read, and the searches themselves. T is frames, B rows, M units of the
encoder, V labels with the blank, U labels of a text, J the width of a transducer's joint.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...decoding.beam_stream import Partial
from ...decoding.ctc import CTCOptions, CTCStream, ctc_greedy
from ...decoding.ctc_alignment import ctc_log_likelihood
from ...decoding.ctc_greedy_stream import CTCGreedyStream
from ...decoding.label_scoring import LabelScorer
from ...decoding.recognized import Recognized
from ...decoding.transducer import TransducerOptions, TransducerStream, transducer_greedy
from ...decoding.transducer_greedy_stream import TransducerGreedyStream
from ...models.ctc import ctc_frames_needed
from ...models.encoder import layer_of
from ...models.transducer_loss import transducer_loss
from .config import DecodingConfig, RecognitionModelConfig

__all__ = ["CTCOutput", "LabelStream", "Output", "TransducerOutput", "frames_needed", "output_of"]


class LabelStream(Protocol):
    """A search over frames that come piece by piece."""

    def feed(self, frames: Any, /) -> Partial: ...

    def finish(self) -> list[Recognized]: ...


class Output(nn.Module):
    """What both ends have in common.

    Args:
        blank: the label that stands for none.
        labels: V.
    """

    def __init__(self, blank: int, labels: int) -> None:
        super().__init__()
        self.blank, self.labels = blank, labels

    def frames(self, encoded: Tensor) -> Tensor:
        """What searches read, (..., V) log-probabilities or (..., J), of the encoder's frames (..., M)."""
        raise NotImplementedError

    def nats(self, frames: Tensor, lengths: Tensor, labels: Tensor, label_lengths: Tensor) -> Tensor:
        """-log P(labels | input) of each row, (B,), infinite where the labels do not fit.

        Args:
            frames: (T, B, ...) from `frames`.
            lengths: (B,) on the CPU, frames of each row.
            labels: of all rows one after another.
            label_lengths: (B,) on the CPU.
        """
        raise NotImplementedError

    def greedy(self, frames: Tensor, settings: DecodingConfig) -> Recognized:
        """The likeliest path through the frames (T, ...) of one row."""
        raise NotImplementedError

    def stream(self, settings: DecodingConfig, n_best: int, scorers: Sequence[LabelScorer]) -> LabelStream:
        """A beam search over frames as they come."""
        raise NotImplementedError

    def greedy_stream(self, settings: DecodingConfig) -> LabelStream:
        """The likeliest path through frames as they come."""
        raise NotImplementedError

    def log_likelihood(self, frames: Tensor, labels: Sequence[int]) -> float:
        """log P(labels | input) of one row, over all alignments; minus infinity if there is none."""
        raise NotImplementedError


class CTCOutput(Output):
    """Labels between blanks, each frame by itself (Graves et al. 2006).

    Args:
        input_size: M.
        labels: V.
        blank: the label that stands for none.
        dropout: before the output layer.
    """

    def __init__(self, input_size: int, labels: int, blank: int, dropout: float) -> None:
        super().__init__(blank, labels)
        self.dropout = dropout
        self.linear = nn.Linear(input_size, labels)

    def frames(self, encoded: Tensor) -> Tensor:
        dropped = F.dropout(encoded, self.dropout, self.training)
        return F.log_softmax(self.linear(dropped).float(), dim=-1)

    def nats(self, frames: Tensor, lengths: Tensor, labels: Tensor, label_lengths: Tensor) -> Tensor:
        return F.ctc_loss(frames, labels, lengths, label_lengths, blank=self.blank, reduction="none")

    def greedy(self, frames: Tensor, settings: DecodingConfig) -> Recognized:
        return ctc_greedy(frames, self.blank)

    def stream(self, settings: DecodingConfig, n_best: int, scorers: Sequence[LabelScorer]) -> LabelStream:
        options = CTCOptions(**_beam(settings, n_best), blank=self.blank)
        return CTCStream(self.labels, options, scorers)

    def greedy_stream(self, settings: DecodingConfig) -> LabelStream:
        return CTCGreedyStream(self.labels, self.blank)

    def log_likelihood(self, frames: Tensor, labels: Sequence[int]) -> float:
        return ctc_log_likelihood(frames, labels, self.blank)


class TransducerOutput(Output):
    """A predictor of the labels so far beside the encoder's frames (Graves 2012).

    The predictor reads an embedding of each label, that of the blank before the first one. The joint adds what it makes
    of them to what it makes of a frame: softmax(W tanh(e_t + p_u) + b).

    Args:
        input_size: M.
        labels: V.
        blank: the label that stands for none.
        config: the `model` section.

    Raises:
        ConfigError: if the cell cannot do what the section asks of it.
    """

    def __init__(self, input_size: int, labels: int, blank: int, config: RecognitionModelConfig) -> None:
        super().__init__(blank, labels)
        self.dropout = config.output_dropout
        self.embedding = nn.Embedding(labels, config.predictor_size)
        self.predictor = layer_of(config, config.predictor_size, config.predictor_size)
        self.of_frames = nn.Linear(input_size, config.joint_size)
        self.of_labels = nn.Linear(config.predictor_size, config.joint_size, bias=False)
        self.joined = nn.Linear(config.joint_size, labels)

    def frames(self, encoded: Tensor) -> Tensor:
        frames: Tensor = self.of_frames(F.dropout(encoded, self.dropout, self.training))
        return frames

    def nats(self, frames: Tensor, lengths: Tensor, labels: Tensor, label_lengths: Tensor) -> Tensor:
        rows = labels.split(label_lengths.tolist())
        targets = nn.utils.rnn.pad_sequence(list(rows), batch_first=True, padding_value=(self.blank + 1) % self.labels)
        read = F.pad(targets, (1, 0), value=self.blank)
        states = self.predictor(self.embedding(read).transpose(0, 1), lengths=label_lengths + 1)[0]
        predicted = self.of_labels(F.dropout(states, self.dropout, self.training)).transpose(0, 1)
        return transducer_loss(
            frames.transpose(0, 1),
            predicted,
            self.joined.weight,
            self.joined.bias,
            targets,
            lengths,
            label_lengths,
            blank=self.blank,
            reduction="none",
        )

    def begin(self) -> tuple[Tensor, Any]:
        """See `recurra.decoding.transducer.Transducer`."""
        return self.advance(torch.tensor([self.blank], device="cpu"), None)

    def advance(self, labels: Tensor, state: Any) -> tuple[Tensor, Any]:
        """See `recurra.decoding.transducer.Transducer`."""
        embedded = self.embedding(labels.to(self.embedding.weight.device))[None]
        outputs, state = self.predictor(embedded, state)
        return self.of_labels(outputs[0]), state

    def joint(self, frame: Tensor, rows: Tensor) -> Tensor:
        """See `recurra.decoding.transducer.Transducer`."""
        return F.log_softmax(self.joined(torch.tanh(frame + rows)).float(), dim=-1)

    def greedy(self, frames: Tensor, settings: DecodingConfig) -> Recognized:
        return transducer_greedy(self, frames, settings.labels_per_frame)

    def stream(self, settings: DecodingConfig, n_best: int, scorers: Sequence[LabelScorer]) -> LabelStream:
        options = TransducerOptions(**_beam(settings, n_best), labels_per_frame=settings.labels_per_frame)
        return TransducerStream(self, options, scorers)

    def greedy_stream(self, settings: DecodingConfig) -> LabelStream:
        return TransducerGreedyStream(self, settings.labels_per_frame)

    def log_likelihood(self, frames: Tensor, labels: Sequence[int]) -> float:
        if not len(frames):
            return -float("inf") if len(labels) else 0.0
        with torch.inference_mode():
            return -float(
                self.nats(
                    frames[:, None],
                    torch.tensor([len(frames)]),
                    torch.tensor(list(labels), dtype=torch.int64, device=frames.device),
                    torch.tensor([len(labels)]),
                )
            )


def frames_needed(labels: Sequence[int], model: RecognitionModelConfig, decoding: DecodingConfig) -> int:
    """The fewest frames into which labels fit."""
    if model.output == "ctc":
        return ctc_frames_needed(labels)
    return -(-len(labels) // decoding.labels_per_frame)


def output_of(input_size: int, labels: int, blank: int, config: RecognitionModelConfig) -> Output:
    """The end that a `model` section asks for."""
    if config.output == "ctc":
        return CTCOutput(input_size, labels, blank, config.output_dropout)
    return TransducerOutput(input_size, labels, blank, config)


def _beam(settings: DecodingConfig, n_best: int) -> dict[str, Any]:
    beam = max(settings.beam, n_best)
    return {
        "beam": beam,
        # Labels that differ in spaces alone are one text, so that some hypotheses are no use.
        "n_best": 1 if n_best == 1 else beam,
        "least_probability": settings.least_probability,
        "most_behind": settings.most_behind,
        "label_bonus": settings.label_bonus,
        "settle_after": settings.settle_after,
    }
