"""Recordings and features changed at random, so that a model learns what does not matter.

Each function takes a generator of its own; `draws.draws` makes one of the seed, the epoch and the example. Recordings
are (samples,) float32 from -1 to 1, features are (frames, features) float32. What is given is never changed in place.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..errors import ConfigError
from .resampling import resampled

__all__ = [
    "SPEEDS",
    "MaskSettings",
    "at_gain",
    "at_speed",
    "masked",
    "pink_noise",
    "spec_augmented",
    "speed_drawn",
    "white_noise",
    "with_noise",
]

SPEEDS = (0.9, 1.0, 1.1)
"""The speeds of Ko et al. 2015, "Audio Augmentation for Speech Recognition"."""

Array = npt.NDArray[np.float32]


def speed_drawn(random: np.random.Generator, speeds: Sequence[float] = SPEEDS) -> float:
    """One of some speeds, each as likely as the others."""
    return float(speeds[int(random.integers(len(speeds)))])


def at_speed(samples: npt.ArrayLike, speed: float) -> Array:
    """A recording played faster or slower, which raises or lowers its pitch too (Ko et al. 2015).

    Args:
        samples: (samples,).
        speed: from 0.5 to 2; 1.1 makes about samples / 1.1 of them.

    Raises:
        ValueError: if the speed is another.
    """
    if not 0.5 <= speed <= 2:
        raise ValueError(f"a speed of {speed} is not from 0.5 to 2")
    # Rates are whole numbers, so that a speed such as 1.1 is exact.
    return resampled(samples, round(1000 * speed), 1000)


def at_gain(samples: npt.ArrayLike, decibels: float) -> Array:
    """A recording made louder, or softer by a negative gain; samples beyond full scale are cut to it.

    Args:
        samples: (samples,).
        decibels: 6 about doubles the samples.
    """
    louder = np.asarray(samples, np.float32) * np.float32(10 ** (decibels / 20))
    return np.clip(louder, -1, 1)


def with_noise(samples: npt.ArrayLike, noise: npt.ArrayLike, decibels: float, random: np.random.Generator) -> Array:
    """A recording with noise behind it.

    The noise begins at a random place and is repeated as often as it must be. If the recording or the noise is silent,
    there is no ratio between them, and the recording comes back as it is.

    Args:
        samples: (samples,).
        noise: (any number of samples,) at the same rate.
        decibels: the signal-to-noise ratio: how far the mean power of the recording is above that of the noise.
        random: draws the place.

    Returns:
        (samples,), which may go beyond -1 and 1.
    """
    speech, sound = np.asarray(samples, np.float32), np.asarray(noise, np.float32)
    if not len(speech) or not len(sound):
        return speech.copy()
    start = int(random.integers(len(sound)))
    behind = np.resize(np.roll(sound, -start), len(speech)).astype(np.float64)
    powers = float(np.mean(np.square(speech, dtype=np.float64))), float(np.mean(np.square(behind)))
    if not all(powers):
        return speech.copy()
    scale = np.sqrt(powers[0] / powers[1] / 10 ** (decibels / 10))
    return (speech + scale * behind).astype(np.float32)


def white_noise(count: int, random: np.random.Generator) -> Array:
    """Noise with the same power at all frequencies: (count,) with a mean power of 1."""
    return random.standard_normal(count, np.float32)


def pink_noise(count: int, random: np.random.Generator) -> Array:
    """Noise with the same power in every octave, as rooms and streets have it: (count,) with a mean power of about 1.

    White noise is divided by the square root of the frequency in its spectrum.
    """
    if count < 2:
        return white_noise(count, random)
    spectrum = np.fft.rfft(random.standard_normal(count))
    spectrum[0] = 0
    spectrum[1:] /= np.sqrt(np.arange(1, len(spectrum)))
    noise = np.fft.irfft(spectrum, count)
    return (noise / np.sqrt(np.mean(np.square(noise)))).astype(np.float32)


@dataclass(frozen=True)
class MaskSettings:
    """The masks of SpecAugment (Park et al. 2019); the letters are the ones of the paper.

    The policy "LD" of the paper has 2 masks of up to 27 of 80 bins and 2 masks of up to 100 frames. With the adaptive
    sizes of Park et al. 2020, "SpecAugment on Large Scale Datasets", number and width of the masks over time grow with
    the utterance, so that short ones are not masked whole.

    Attributes:
        frequency_masks, frequency_width: how many (m_F), and the most bins of each (F).
        time_masks, time_width: how many (m_T), and the most frames of each (T).
        most_time: share of the frames that one mask over time covers at most (p).
        adaptive_masks: masks over time for each frame of an utterance (p_M), at most `time_masks`; None: always
            `time_masks`.
        adaptive_width: most width of a mask over time as a share of the utterance's frames (p_S), whatever
            `time_width` is; None: `time_width`.

    Raises:
        ConfigError: if a number is below 0, or a share is not from 0 to 1.
    """

    frequency_masks: int = 2
    frequency_width: int = 27
    time_masks: int = 2
    time_width: int = 100
    most_time: float = 0.2
    adaptive_masks: float | None = None
    adaptive_width: float | None = None

    def __post_init__(self) -> None:
        for name in ("frequency_masks", "frequency_width", "time_masks", "time_width"):
            if not 0 <= getattr(self, name) <= 10_000:
                raise ConfigError(f"{name} is {getattr(self, name)}; it must be from 0 to 10,000.")
        for name in ("most_time", "adaptive_masks", "adaptive_width"):
            value = getattr(self, name)
            if value is not None and not 0 <= value <= 1:
                raise ConfigError(f"{name} is {value}; it is a share and must be from 0 to 1.")

    def time(self, frames: int) -> tuple[int, int]:
        """How many masks an utterance gets over time, and how many frames each covers at most."""
        masks, width = self.time_masks, self.time_width
        if self.adaptive_masks is not None:
            masks = min(masks, int(self.adaptive_masks * frames))
        if self.adaptive_width is not None:
            width = int(self.adaptive_width * frames)
        return masks, min(width, int(self.most_time * frames))


def spec_augmented(features: npt.ArrayLike, settings: MaskSettings, random: np.random.Generator) -> Array:
    """Features with random bands and random stretches of time set to the mean of all features of the utterance.

    The width of each mask is drawn from 0 to its most, and then its place. The mean is 0 if features are normalised by
    utterance, as in the paper.

    Args:
        features: (frames, features).
        settings: of the masks.
        random: draws the masks, those of frequencies first.
    """
    made = np.array(features, np.float32)
    if not made.size:
        return made
    bands, stretches = masked(len(made), made.shape[1], settings, random)
    filling = made.mean(dtype=np.float64)
    for first, last in bands:
        made[:, first:last] = filling
    for first, last in stretches:
        made[first:last] = filling
    return made


def masked(
    frames: int, bins: int, settings: MaskSettings, random: np.random.Generator
) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """The masks that `spec_augmented` draws: bands of bins, and stretches of frames.

    Each mask is the first bin or frame that it covers, and the one after the last.
    """
    bands = [_mask(bins, settings.frequency_width, random) for _ in range(settings.frequency_masks)]
    masks, width = settings.time(frames)
    return bands, [_mask(frames, width, random) for _ in range(masks)]


def _mask(size: int, most: int, random: np.random.Generator) -> tuple[int, int]:
    width = int(random.integers(min(most, size) + 1))
    first = int(random.integers(size - width + 1))
    return first, first + width
