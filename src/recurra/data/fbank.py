"""Log-mel filterbank features of speech, as Kaldi computes them, of whole recordings and of streams alike.

For each frame of 25 ms, one every 10 ms: the mean is taken off, each sample loses 0.97 times the one before it, the
frame is weighted by Kaldi's "povey" window (a Hann window to the power of 0.85), padded with zeros to a power of two,
and its power spectrum is summed by triangles that are evenly spaced on the mel scale 1127 ln(1 + f / 700). The feature
is the natural logarithm of each sum, which is at least 1.19e-7 (the epsilon of float32), so that digital silence has
finite features of -15.94.

Where this differs from other tools:

- Samples count from -32768 to 32767, as in Kaldi. Tools that keep them from -1 to 1 have values that are
  2 ln 32768 = 20.79 lower.
- Nothing is dithered: the same samples have the same features.
- Frames are centred on every 10 ms from 5 ms on, and the recording is mirrored at its ends (`snip_edges=False`), so
  that there are as many frames as there are tens of milliseconds, rounded half up. Kaldi's own default leaves out the
  frames that reach over the ends.
- Triangles reach up to half of the sampling rate, as Kaldi's do by default; icefall and Lhotse set `high=-400`.
- The mel scale is that of HTK, and no triangle is scaled by its width, unlike librosa's.

The features are computed by kaldi-native-fbank, which comes with `pip install 'recurra[speech]'`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import ConfigError
from .speech_packages import speech_package

__all__ = ["Fbank", "FbankSettings", "FbankStream"]

_FULL_SCALE = 32768.0
_MOST_BINS = 512
_LONGEST_MS = 1000.0

Frames = npt.NDArray[np.float32]


@dataclass(frozen=True)
class FbankSettings:
    """What features are computed of.

    Attributes:
        rate: of the samples, in Hz.
        bins: triangles on the mel scale, and so features of a frame.
        window_ms, shift_ms: the length of a frame, and the distance from one frame to the next, in milliseconds.
        low: the lowest frequency, in Hz.
        high: the highest frequency, in Hz; 0 or less: so much below half of the rate.

    Raises:
        ConfigError: if they do not fit together; a triangle that lies between two frequencies of the spectrum would be
            the same in all frames.
    """

    rate: int = 16_000
    bins: int = 80
    window_ms: float = 25.0
    shift_ms: float = 10.0
    low: float = 20.0
    high: float = 0.0

    def __post_init__(self) -> None:
        if not 1_000 <= self.rate <= 768_000:
            raise ConfigError(f"There are no features for {self.rate} samples a second; use from 1,000 to 768,000.")
        if not 1 <= self.bins <= _MOST_BINS:
            raise ConfigError(f"{self.bins} mel bins cannot be computed; use from 1 to {_MOST_BINS}.")
        if not 0 < self.shift_ms <= self.window_ms <= _LONGEST_MS:
            raise ConfigError(
                f"A window of {self.window_ms:g} ms every {self.shift_ms:g} ms cannot be computed; the shift must be "
                f"above 0 and no longer than the window, and the window no longer than {_LONGEST_MS:g} ms."
            )
        if self.window < 2 or self.shift < 1:
            raise ConfigError(
                f"A window of {self.window_ms:g} ms every {self.shift_ms:g} ms has no sample at {self.rate} Hz; make "
                "both longer."
            )
        if not 0 <= self.low < self.highest <= self.rate / 2:
            raise ConfigError(
                f"Frequencies from {self.low:g} to {self.highest:g} Hz cannot be told apart at {self.rate} samples a "
                f"second; use some from 0 to {self.rate / 2:g} Hz."
            )
        if self.bins > self.most_bins:
            raise ConfigError(
                f"{self.bins} mel bins from {self.low:g} to {self.highest:g} Hz are too narrow for windows of "
                f"{self.window_ms:g} ms at {self.rate} Hz; use at most {self.most_bins} bins or longer windows."
            )

    @property
    def highest(self) -> float:
        """The highest frequency, in Hz."""
        return self.high if self.high > 0 else self.rate / 2 + self.high

    @property
    def window(self) -> int:
        """Samples of a frame."""
        return int(self.rate * 0.001 * self.window_ms)

    @property
    def shift(self) -> int:
        """Samples from one frame to the next."""
        return int(self.rate * 0.001 * self.shift_ms)

    @property
    def most_bins(self) -> int:
        """The largest number of bins up to `bins` with which every triangle has a frequency of the spectrum."""
        step = self.rate / (1 << (self.window - 1).bit_length())
        mels = 1127 * np.log1p(step * np.arange(int(self.rate / 2 / step) + 1) / 700)
        low, high = (1127 * math.log1p(each / 700) for each in (self.low, self.highest))
        for bins in range(self.bins, 0, -1):
            edges = low + (high - low) / (bins + 1) * np.arange(bins + 2)
            # The first frequency above the left edge of each triangle must lie left of its right edge.
            place = np.searchsorted(mels, edges[:-2], side="right")
            if (place < len(mels)).all() and (mels[place] < edges[2:]).all():
                return bins
        return 0

    def frames(self, samples: int) -> int:
        """How many frames so many samples have."""
        return (samples + self.shift // 2) // self.shift


class Fbank:
    """Features of whole recordings.

    Args:
        settings: of the features.

    Raises:
        ConfigError: if kaldi-native-fbank is not installed.
    """

    def __init__(self, settings: FbankSettings) -> None:
        self.settings = settings
        _options(settings)

    def __call__(self, samples: npt.ArrayLike) -> Frames:
        """The features of a recording.

        Args:
            samples: (samples,) from -1 to 1, at the rate of the settings; one of less than half a shift has no frame.

        Returns:
            (frames, bins), the same numbers that `FbankStream` gives of its pieces.
        """
        stream = FbankStream(self.settings)
        return np.concatenate([stream.accept(samples), stream.finish()])


class FbankStream:
    """Features of a recording that arrives piece by piece.

    A frame comes out as soon as its last sample has come; frames are the same, bit for bit, however the samples are cut
    into pieces. Memory is bounded, whatever the length of the stream.

    Args:
        settings: of the features.

    Raises:
        ConfigError: if kaldi-native-fbank is not installed.
    """

    def __init__(self, settings: FbankSettings) -> None:
        package = speech_package("kaldi_native_fbank", "Computing features of speech")
        self._settings = settings
        self._computer = package.OnlineFbank(_options(settings))
        self._given = 0
        self._ended = False

    def accept(self, samples: npt.ArrayLike) -> Frames:
        """The frames that these samples complete: (frames, bins), maybe none.

        Args:
            samples: (samples,) from -1 to 1; they follow those of the last call.

        Raises:
            ValueError: if a sample is no finite number, because every later frame would be wrong, or if the stream has
                ended.
        """
        if self._ended:
            raise ValueError("the stream has ended; take a new one")
        piece = np.asarray(samples, np.float32)
        if not np.isfinite(piece).all():
            raise ValueError("a sample is no finite number")
        if len(piece):
            self._computer.accept_waveform(float(self._settings.rate), np.ascontiguousarray(piece * _FULL_SCALE))
        return self._new()

    def finish(self) -> Frames:
        """The frames that reach over the end: (frames, bins). Nothing may be accepted after this."""
        self._ended = True
        self._computer.input_finished()
        return self._new()

    def _new(self) -> Frames:
        ready = self._computer.num_frames_ready
        rows = np.empty((ready - self._given, self._settings.bins), np.float32)
        # A frame lies in memory that is the computer's own, and goes when the frame is taken off.
        for place in range(len(rows)):
            rows[place] = self._computer.get_frame(self._given + place)
        self._computer.pop(len(rows))
        self._given = ready
        return rows


def _options(settings: FbankSettings) -> Any:
    package = speech_package("kaldi_native_fbank", "Computing features of speech")
    options = package.FbankOptions()
    options.frame_opts.samp_freq = float(settings.rate)
    options.frame_opts.frame_length_ms = settings.window_ms
    options.frame_opts.frame_shift_ms = settings.shift_ms
    options.frame_opts.dither = 0.0
    options.frame_opts.snip_edges = False
    options.mel_opts.num_bins = settings.bins
    options.mel_opts.low_freq = settings.low
    options.mel_opts.high_freq = settings.high
    return options
