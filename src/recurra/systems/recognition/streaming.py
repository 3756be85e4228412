"""Speech that is written while somebody speaks: samples in, settled text out, piece by piece."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ...data.fbank import FbankStream
from ...data.resampling import Resampler
from ...decoding.beam_stream import Partial
from ...decoding.recognized import LabelSpan, Recognized
from ...errors import ConfigError
from ...models.latency_controlled import LatencyControlled, LatencyControlledStream
from .answers import Hypothesis
from .predict import SpeechRecogniser
from .searching import Search

__all__ = ["Heard", "SpeechStream", "check_streaming"]

_SILENT = 2.0**-15
"""Samples that differ by no more than one step of 16 bits are digital silence, in which nobody speaks."""


@dataclass(frozen=True)
class Heard:
    """What is known after a piece.

    Attributes:
        settled: text that is certain now and was not given out before; it goes on where the last one ended.
        unsettled: the text after it, as it seems now.
    """

    settled: str
    unsettled: str


@dataclass
class _Extremes:
    """The lowest and the highest sample so far."""

    low: float = np.inf
    high: float = -np.inf

    def add(self, samples: npt.NDArray[np.float32]) -> None:
        if len(samples):
            self.low, self.high = min(self.low, float(samples.min())), max(self.high, float(samples.max()))

    @property
    def silent(self) -> bool:
        return self.high - self.low <= _SILENT


def check_streaming(predictor: SpeechRecogniser) -> None:
    """Raise ConfigError if a recogniser must see the end of an utterance before it can begin."""
    if predictor.config.model.direction == "both":
        raise ConfigError(
            "--stream: this recogniser reads from the end too; train one with model.direction=forward or "
            "latency-controlled."
        )
    if predictor.features.normalization == "utterance":
        raise ConfigError(
            "--stream: this recogniser normalises features by whole utterances; train one with "
            "features.normalization=training."
        )


class SpeechStream:
    """One recording that comes piece by piece.

    However it is cut into pieces, no bit of the result differs. It is that of the whole recording, but for rounding:
    a stream reads each frame by itself, and a recording all of them at once.

    Args:
        predictor: whose recogniser it is.
        search: how labels are searched; None: as the configuration has it.
        rate: samples a second of what comes; None: those that the recogniser hears.

    Raises:
        ConfigError: if the recogniser cannot stream.
    """

    def __init__(self, predictor: SpeechRecogniser, search: Search | None = None, rate: int | None = None) -> None:
        check_streaming(predictor)
        settings = predictor.config.features.settings
        search = search or Search(predictor.config.decoding)
        transcripts = predictor.transcripts
        self._predictor, self._transcripts = predictor, transcripts
        self._resampler = Resampler(rate or settings.rate, settings.rate)
        self._fbank = FbankStream(settings)
        self._network = _NetworkStream(predictor)
        self._search = search.stream(predictor.model.output)
        self._decoder = transcripts.tokenizer.tokenizer.decoder()
        self._extremes = _Extremes()
        self._samples = 0
        # Of all labels those that are settled, and how many of them have been given out.
        self._spans: list[LabelSpan] = []
        self._shown = 0
        self._begun = False

    @property
    def seconds(self) -> float:
        """That have been heard."""
        return self._samples / self._predictor.config.features.rate

    def accept(self, samples: npt.ArrayLike) -> Heard:
        """Read samples (samples,) from -1 to 1, which follow those of the last call.

        Raises:
            ValueError: if a sample is no finite number.
        """
        return self._hear(self._resampler.accept(samples))

    def finish(self) -> tuple[Heard, Hypothesis]:
        """End the recording: the last text, and the whole answer."""
        heard = self._hear(self._resampler.finish())
        partial = self._search.feed(self._network.accept(self._features(self._fbank.finish())))
        self._spans += partial.settled
        self._spans += self._search.feed(self._network.finish()).settled
        if self._extremes.silent:
            return heard, self._predictor.hypothesis(Recognized([], 0.0, 0.0), self.seconds)
        found = self._search.finish() or [Recognized([], -np.inf, -np.inf)]
        # A lexicon may take back nothing that was settled, but may allow no end.
        best = found[0]._replace(spans=[*self._spans, *found[0].spans])
        self._spans = list(best.spans)
        settled = heard.settled + self._settled() + self._decoder.flush()
        return Heard(settled.rstrip(), ""), self._predictor.hypothesis(best, self.seconds)

    def _hear(self, samples: npt.NDArray[np.float32]) -> Heard:
        self._extremes.add(samples)
        self._samples += len(samples)
        partial: Partial = self._search.feed(self._network.accept(self._features(self._fbank.accept(samples))))
        self._spans += partial.settled
        if self._extremes.silent:
            return Heard("", "")
        settled = self._settled()
        return Heard(settled, self._transcripts.decode([span.label for span in partial.unsettled]))

    def _features(self, frames: npt.NDArray[np.float32]) -> Tensor:
        return torch.from_numpy(self._predictor.features.normalised(frames)).to(self._predictor.device)

    def _settled(self) -> str:
        """The text of labels that are settled and were not given out."""
        new, self._shown = self._spans[self._shown :], len(self._spans)
        text = "".join(self._decoder.push(span.label) for span in new)
        if not self._begun:
            text = text.lstrip()
            self._begun = bool(text)
        return text


@dataclass
class _NetworkStream:
    """What searches read of one row of features as they come, each frame by itself."""

    predictor: SpeechRecogniser
    _layers: LatencyControlledStream | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        model = self.predictor.model
        self._front = model.subsampling.stream()
        if isinstance(model.recurrent, LatencyControlled):
            self._layers = model.recurrent.stream()
        else:
            self._steps = model.recurrent.stream()

    def accept(self, frames: Tensor) -> Tensor:
        """What these features (T, I) complete, (t, ...)."""
        return self._judged([self._read(frames)])

    def finish(self) -> Tensor:
        """The last of it, (t, ...)."""
        with torch.inference_mode():
            rest = self._front.finish()
            outputs = [self._recurrent(rest)] if len(rest) else []
            if self._layers is not None:
                outputs.append(self._layers.finish())
        return self._judged(outputs)

    @torch.inference_mode()
    def _read(self, frames: Tensor) -> Tensor:
        return self._recurrent(self._front.accept(frames)) if len(frames) else frames[:0]

    def _recurrent(self, fewer: Tensor) -> Tensor:
        if self._layers is not None:
            return self._layers.accept(fewer)
        steps = [self._steps.step(frame[None]) for frame in fewer]
        return torch.cat(steps) if steps else fewer[:0]

    @torch.inference_mode()
    def _judged(self, outputs: list[Tensor]) -> Tensor:
        # One frame at a time, so that no product depends on how many frames come together.
        rows = [self.predictor.model.output.frames(frame[None]) for part in outputs for frame in part]
        return torch.cat(rows) if rows else torch.empty(0, self.predictor.transcripts.labels)
