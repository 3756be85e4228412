"""Utterances as a training reads them: changed at random, as features, normalised."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ...data.draws import draws
from ...data.fbank import Fbank
from ...data.speech_augmentation import (
    at_gain,
    at_speed,
    pink_noise,
    spec_augmented,
    speed_drawn,
    white_noise,
    with_noise,
)
from .config import SpeechConfig
from .features import Features

__all__ = ["UtteranceFrames"]

Frames = npt.NDArray[np.float32]


class UtteranceFrames:
    """Makes of what a store holds of an utterance the frames that the network reads.

    Args:
        config: of the run.
        features: of the run.
    """

    def __init__(self, config: SpeechConfig, features: Features) -> None:
        self._augmentation, self._features = config.augmentation, features
        self._masks = config.augmentation.masks
        self._seed = config.training.seed
        self._fbank = Fbank(config.features.settings) if config.features.kept == "samples" else None

    def plain(self, kept: Frames) -> Frames:
        """The normalised features (frames, bins) of what was kept, (frames, bins) or (samples, 1)."""
        return self._features.normalised(kept if self._fbank is None else self._fbank(kept[:, 0]))

    def changed(self, kept: Frames, epoch: int, example: int) -> Frames:
        """The same after the changes that are drawn for this example in this epoch."""
        frames = np.empty((0, 0), np.float32)
        if self._fbank is not None and self._augmentation.changes_samples:
            frames = self.plain(self._changed_samples(kept[:, 0], epoch, example)[:, None])
        # A recording of a single frame has none any more where it is played faster.
        if not len(frames):
            frames = self.plain(kept)
        return spec_augmented(frames, self._masks, draws(self._seed, epoch, example, "masks"))

    def _changed_samples(self, samples: Frames, epoch: int, example: int) -> Frames:
        settings = self._augmentation
        random = draws(self._seed, epoch, example, "samples")
        speed = speed_drawn(random, settings.speeds)
        if speed != 1.0:
            samples = at_speed(samples, speed)
        if settings.noise != "none" and random.random() < settings.noise_share:
            noise = (white_noise if settings.noise == "white" else pink_noise)(len(samples), random)
            samples = with_noise(samples, noise, random.uniform(*settings.noise_decibels), random)
        if settings.gain_decibels:
            samples = at_gain(samples, random.uniform(-settings.gain_decibels, settings.gain_decibels))
        return samples
