"""Recordings as samples: any audio file becomes one channel at the rate that a model asks for.

Files are decoded by libsndfile (WAV, FLAC, Ogg, MP3, AIFF and others) and resampled by libsoxr, both of which come with
`pip install 'recurra[speech]'`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ..errors import DataError
from ..files import regular, unchanged
from ..shown import tell
from .audio_ends import cut_off, tells_length
from .resampling import Resampler
from .speech_packages import speech_package

__all__ = ["RATES", "AudioHeader", "AudioReader", "Recording", "read_header"]

RATES = (1_000, 768_000)
"""The lowest and the highest sampling rate, in Hz."""

_FORMATS = {"WAV", "WAVEX", "RF64", "W64", "FLAC", "OGG", "MP3", "AIFF", "AU", "CAF", "NIST"}
_LONGEST = 600.0
_OVERSHOOT = 0.5
"""Seconds by which an utterance may end after its recording: ends are often rounded, and Kaldi allows as much."""
_LOUDEST = 100.0
"""A sample beyond this many times full scale is not audio: the features would overflow."""
_BLOCK = 1 << 16
_BITS = {"PCM_S8": 8, "PCM_U8": 8, "PCM_24": 24, "PCM_32": 32}

Samples = npt.NDArray[np.float32]


class AudioHeader(NamedTuple):
    """What an audio file says of itself.

    Attributes:
        rate: samples of each channel in a second.
        channels: how many.
        frames: samples of each channel.
        format: as libsndfile calls the kind of file and the kind of sample, such as `WAV PCM_16`.
    """

    rate: int
    channels: int
    frames: int
    format: str

    @property
    def seconds(self) -> float:
        return self.frames / self.rate


class Recording(NamedTuple):
    """A recording, or a part of it, at the model's rate.

    Attributes:
        samples: (samples,) between -1 and 1; files of floating-point samples may go beyond.
        rate: samples in a second.
        clipped: share of the file's samples that are at full scale, in any channel, before they were resampled.
    """

    samples: Samples
    rate: int
    clipped: float

    @property
    def seconds(self) -> float:
        return len(self.samples) / self.rate

    @property
    def is_silent(self) -> bool:
        """Whether the samples are all alike, up to one step of 16 bits: nobody speaks in them."""
        return not len(self.samples) or float(np.ptp(self.samples)) <= 2.0**-15


def read_header(path: str | Path, where: str = "") -> AudioHeader:
    """The header of an audio file, checked without decoding the samples.

    Args:
        path: of the file.
        where: the place that names the file, such as `train.jsonl:3`, for errors.

    Raises:
        DataError: if the file is missing, is not audio, is cut off, or has no channel or no sample.
        ConfigError: if soundfile is not installed.
    """
    name = _named(path, where)
    with _opened(path, name) as sound:
        return _header(sound, name)


class AudioReader:
    """Reads recordings at one rate, in one channel, and says once what it changes.

    Args:
        rate: that samples come out with, in Hz.
        longest: seconds that `read` takes at most, because it holds them in memory.
        told: is called with each sentence on what is changed; None: they are written to standard error.

    Raises:
        ConfigError: if soundfile is not installed, and from reading if soxr is not and a file has another rate.
    """

    def __init__(self, rate: int, *, longest: float = _LONGEST, told: Callable[[str], None] | None = None) -> None:
        speech_package("soundfile", "Reading audio")
        if not RATES[0] <= rate <= RATES[1]:
            raise ValueError(f"{rate} is no sampling rate from {RATES[0]} to {RATES[1]} Hz")
        self.rate = rate
        self._longest = longest
        self._told = told or tell
        self._said: set[str] = set()

    def read(self, path: str | Path, start: float = 0.0, end: float | None = None, where: str = "") -> Recording:
        """A recording, or a part of it; no more of the file is decoded than that part.

        Args:
            path: of the file.
            start, end: seconds of the part; None: to the end of the file. An end of up to half a second after the end
                of the file means that.
            where: the place that names the file, such as `train.jsonl:3`, for errors.

        Raises:
            DataError: if the file is missing, is not audio, is cut off, has no channel or no sample, has samples that
                are no finite numbers, or if the part lies outside of it or is too long.
        """
        tally = _Tally()
        parts = list(self._pieces(path, start, end, where, tally, self._longest))
        return Recording(np.concatenate(parts), self.rate, tally.clipped / max(1, tally.frames))

    def pieces(
        self, path: str | Path, start: float = 0.0, end: float | None = None, where: str = ""
    ) -> Iterator[Samples]:
        """The samples of a recording of any length piece by piece; together they are those of `read`."""
        yield from self._pieces(path, start, end, where, _Tally(), math.inf)

    def _pieces(
        self, path: str | Path, start: float, end: float | None, where: str, tally: _Tally, longest: float
    ) -> Iterator[Samples]:
        name = _named(path, where)
        with _opened(path, name) as sound:
            header = _header(sound, name)
            first, last = _part(header, start, end, longest, name)
            self._say_changes(header, name)
            stream = Resampler(header.rate, self.rate)
            full_scale = 1 - 2.0 ** (1 - _BITS.get(header.format.split()[-1], 16))
            place = first
            for block in _blocks(sound, first, last, Path(path), name):
                loudness = _loudness(block, place / header.rate, header.rate, name)
                tally.frames += len(block)
                tally.clipped += int((loudness >= full_scale).sum())
                place += len(block)
                mono = block[:, 0] if header.channels == 1 else block.mean(axis=1, dtype=np.float32)
                yield stream.accept(mono)
            if not tally.frames:
                raise DataError(f"{name}: there is no sample in this part of it; mend its start and end.")
            yield stream.finish()

    def _say_changes(self, header: AudioHeader, name: str) -> None:
        if header.channels > 1:
            self._say(
                f"the {header.channels} channels of {name} are mixed down to one, and so are those of other files"
            )
        if header.rate != self.rate:
            self._say(f"audio of {header.rate:,} Hz is resampled to {self.rate:,} Hz", f"{header.rate} Hz")

    def _say(self, what: str, about: str = "channels") -> None:
        if about not in self._said:
            self._said.add(about)
            self._told(f"recurra: {what}.")


class _Tally:
    """How many samples were read, and how many of them were at full scale."""

    def __init__(self) -> None:
        self.frames = self.clipped = 0


def _named(path: str | Path, where: str) -> str:
    return f"{path} ({where})" if where else str(path)


@contextmanager
def _opened(path: str | Path, name: str) -> Iterator[Any]:
    """The decoder of a file; whatever goes wrong in this context is an error that names the file."""
    soundfile = speech_package("soundfile", "Reading audio")
    file = Path(path)
    try:
        size, cut = regular(file).stat().st_size, cut_off(file)
    except OSError as error:
        raise DataError(f"{name}: the audio cannot be read ({error.strerror or error}); check the path.") from error
    if not size:
        raise DataError(f"{name}: the file is empty; fetch it again or leave it out.")
    if cut:
        raise DataError(f"{name}: the audio is cut off: {cut}; fetch it again.")
    with unchanged([file]):
        try:
            sound = soundfile.SoundFile(str(file))
        except (soundfile.SoundFileError, RuntimeError, TypeError, ValueError, OSError) as error:
            raise DataError(
                f"{name}: is not audio that can be decoded ({_reason(error)}); give WAV, FLAC, Ogg or MP3."
            ) from error
        try:
            yield sound
        except (soundfile.SoundFileError, RuntimeError) as error:
            raise DataError(
                f"{name}: the audio is damaged ({_reason(error)}); fetch it again or leave it out."
            ) from error
        finally:
            sound.close()


def _reason(error: BaseException) -> str:
    """What the library said, without the path that it says before."""
    return str(error).rpartition(": ")[2].rstrip(".").partition("\n")[0]


def _header(sound: Any, name: str) -> AudioHeader:
    if sound.format not in _FORMATS:
        raise DataError(f"{name}: is a file of the kind {sound.format}, which is not read; give WAV, FLAC or Ogg.")
    header = AudioHeader(sound.samplerate, sound.channels, sound.frames, f"{sound.format} {sound.subtype}")
    if not RATES[0] <= header.rate <= RATES[1]:
        raise DataError(
            f"{name}: its header says {header.rate:,} samples a second, which no recording has; write the file anew."
        )
    if header.channels < 1 or header.frames < 1:
        raise DataError(f"{name}: there is no sample in it; record it anew or leave it out.")
    return header


def _part(header: AudioHeader, start: float, end: float | None, longest: float, name: str) -> tuple[int, int]:
    """The first sample of a part, and the one after its last."""
    stop = header.seconds if end is None else end
    if not 0 <= start < stop < math.inf:
        raise DataError(f"{name}: a part from {start:g} to {stop:g} s has no length; mend its start and end.")
    if start >= header.seconds or stop > header.seconds + _OVERSHOOT:
        raise DataError(
            f"{name}: the part from {start:g} to {stop:g} s lies outside of the recording, which has "
            f"{header.seconds:.3f} s; mend its start and end."
        )
    if stop - start > longest:
        raise DataError(
            f"{name}: has {stop - start:,.0f} s, and at most {longest:,.0f} s are read as one utterance; cut it up by "
            "starts and ends."
        )
    first, last = round(start * header.rate), min(round(stop * header.rate), header.frames)
    if first >= last:
        raise DataError(f"{name}: the part from {start:g} to {stop:g} s has no sample; mend its start and end.")
    return first, last


def _blocks(sound: Any, first: int, last: int, path: Path, name: str) -> Iterator[Samples]:
    """The samples of a part, (samples, channels) a block."""
    if first:
        sound.seek(first)
    place = first
    while place < last:
        block = sound.read(min(_BLOCK, last - place), dtype="float32", always_2d=True)
        if not len(block):
            if sound.format == "MP3" and not tells_length(path):
                return
            raise DataError(
                f"{name}: the audio is cut off: its header announces {sound.frames:,} samples, and {place:,} can be "
                "decoded; fetch it again."
            )
        yield block
        place += len(block)


def _loudness(block: Samples, start: float, rate: int, name: str) -> Samples:
    """The largest sample of any channel, (samples,).

    Args:
        block: (samples, channels).
        start: seconds before it, for errors.
        rate: samples in a second.
        name: of the file, for errors.

    Raises:
        DataError: if a sample is no finite number, or far beyond full scale.
    """
    found: Samples = np.abs(block).max(axis=1)
    bad = np.flatnonzero(~np.isfinite(found))
    if len(bad):
        raise DataError(
            f"{name}: the sample at {start + bad[0] / rate:.3f} s is no finite number; write the file anew or leave it "
            "out."
        )
    if found.max() > _LOUDEST:
        raise DataError(f"{name}: its samples reach {found.max():,.0f} times full scale; scale them to -1 to 1.")
    return found
