"""Samples at another rate, of whole recordings and of streams alike.

libsoxr resamples, with its high quality filter; it comes with `pip install 'recurra[speech]'`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from .speech_packages import speech_package

__all__ = ["Resampler", "resampled"]

Samples = npt.NDArray[np.float32]


def resampled(samples: npt.ArrayLike, rate: float, new_rate: float) -> Samples:
    """A recording at another rate.

    Args:
        samples: (samples,).
        rate, new_rate: before and after, in any common unit.

    Returns:
        (about samples * new_rate / rate,), the same numbers that a `Resampler` gives of its pieces.

    Raises:
        ConfigError: if soxr is not installed.
    """
    stream = Resampler(rate, new_rate)
    return np.concatenate([stream.accept(samples), stream.finish()])


class Resampler:
    """A recording at another rate that arrives piece by piece, such as the sound of a microphone.

    The numbers that come out are the same, bit for bit, however the samples are cut into pieces. They come some
    milliseconds later than the samples that they are made of, because the filter looks ahead.

    Args:
        rate, new_rate: before and after, in any common unit; if they are equal, samples pass as they are.

    Raises:
        ConfigError: if soxr is not installed and the rates differ.
    """

    def __init__(self, rate: float, new_rate: float) -> None:
        self._stream: Any = None
        if rate != new_rate:
            soxr = speech_package("soxr", "Resampling audio")
            self._stream = soxr.ResampleStream(rate, new_rate, 1, dtype="float32")

    def accept(self, samples: npt.ArrayLike) -> Samples:
        """The new samples that are ready, maybe none.

        Args:
            samples: (samples,); they follow those of the last call.

        Raises:
            ValueError: if a sample is no finite number, because it would spoil those about it.
        """
        piece = np.asarray(samples, np.float32)
        if not np.isfinite(piece).all():
            raise ValueError("a sample is no finite number")
        if self._stream is None or not len(piece):
            return piece
        made: Samples = self._stream.resample_chunk(np.ascontiguousarray(piece))
        return made

    def finish(self) -> Samples:
        """The samples that are left. Nothing may be accepted after this."""
        nothing = np.empty(0, np.float32)
        if self._stream is None:
            return nothing
        made: Samples = self._stream.resample_chunk(nothing, last=True)
        return made
