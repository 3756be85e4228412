"""Recordings joined from short ones, such as single digits, with gaps, gains and noise drawn at random."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ..errors import ConfigError, DataError
from .audio import AudioReader
from .draws import draws
from .speech_augmentation import at_gain, pink_noise, white_noise
from .utterances import Utterance

__all__ = ["NOISES", "JoinSettings", "JoinedRecording", "RecordingJoiner", "Take", "described"]

NOISES = ("pink", "white", "none")

_PEAK = 0.98
_LEAST_POWER = 1e-8
"""Noise behind silence is as loud as if the recording had this mean power."""


class Take(NamedTuple):
    """A short recording within a joined one.

    Attributes:
        id: of its utterance.
        text: what is said in it.
        start, end: seconds of the joined recording.
        gain: in decibels.
    """

    id: str
    text: str
    start: float
    end: float
    gain: float


class JoinedRecording(NamedTuple):
    """A recording joined from takes.

    Attributes:
        samples: (samples,) float32 from -1 to 1.
        rate: samples in a second.
        text: what is said, the texts of the takes with a separator between them.
        speaker: of all takes; None if they are of several.
        takes: in their order.
        noise: the signal-to-noise ratio in decibels; None without noise.
    """

    samples: npt.NDArray[np.float32]
    rate: int
    text: str
    speaker: str | None
    takes: tuple[Take, ...]
    noise: float | None

    @property
    def seconds(self) -> float:
        return len(self.samples) / self.rate


@dataclass(frozen=True)
class JoinSettings:
    """How takes are joined; every amount is drawn evenly from its range.

    Attributes:
        takes: how many, from and to.
        gap: seconds between takes, and before the first and after the last.
        gain: of each take, in decibels.
        noise: the signal-to-noise ratio of the whole recording, in decibels.
        kind: of noise: one of `NOISES`.
        one_speaker: whether all takes of a recording are of one speaker.
        separator: between the texts of takes.

    Raises:
        ConfigError: if a value cannot be used.
    """

    takes: tuple[int, int] = (3, 7)
    gap: tuple[float, float] = (0.05, 0.4)
    gain: tuple[float, float] = (-6.0, 6.0)
    noise: tuple[float, float] = (10.0, 30.0)
    kind: str = "pink"
    one_speaker: bool = True
    separator: str = " "

    def __post_init__(self) -> None:
        if self.kind not in NOISES:
            raise ConfigError(f"There is no noise {self.kind!r}; use pink, white or none.")
        for name, least, most in (("takes", 1, 1000), ("gap", 0, 60), ("gain", -60, 60), ("noise", -60, 120)):
            low, high = getattr(self, name)
            if not least <= low <= high <= most:
                raise ConfigError(
                    f"{name} is from {low:g} to {high:g}; both must be from {least} to {most}, the lower one first."
                )


class RecordingJoiner:
    """Joins recordings; the same takes, seed and number give the same recording, bit for bit.

    Args:
        takes: short utterances with their texts.
        reader: reads them.
        settings: of the joined recordings.
        seed: 0 or more.

    Raises:
        DataError: if there is no take.
    """

    def __init__(
        self, takes: Iterable[Utterance], reader: AudioReader, settings: JoinSettings | None = None, *, seed: int = 0
    ) -> None:
        self.settings = settings or JoinSettings()
        self._reader, self._seed = reader, seed
        groups: dict[str | None, list[Utterance]] = {}
        for take in takes:
            groups.setdefault(take.speaker if self.settings.one_speaker else None, []).append(take)
        if not groups:
            raise DataError("There is no recording to join; give others.")
        # The order of the files must not matter.
        self._groups: list[tuple[str | None, list[Utterance]]] = [
            (speaker, sorted(each, key=lambda take: take.id))
            for speaker, each in sorted(groups.items(), key=lambda item: item[0] or "")
        ]

    def joined(self, number: int) -> JoinedRecording:
        """A recording of its own for each number from 0 on.

        Raises:
            DataError: if a take cannot be read.
        """
        settings, rate = self.settings, self._reader.rate
        random = draws(self._seed, 0, number, "joined recording")
        speaker, group = self._groups[int(random.integers(len(self._groups)))]
        count = int(random.integers(settings.takes[0], settings.takes[1] + 1))
        # No take comes twice as long as there are others: recordings of people never repeat a sound exactly.
        chosen = [group[place] for place in random.choice(len(group), count, replace=count > len(group))]
        gaps = random.uniform(*settings.gap, size=count + 1)
        gains = random.uniform(*settings.gain, size=count)
        parts = [np.zeros(round(gaps[0] * rate), np.float32)]
        takes = []
        place = len(parts[0])
        for take, gain, gap in zip(chosen, gains, gaps[1:], strict=True):
            samples = self._reader.read(take.audio, take.start, take.end, take.where).samples
            pause = np.zeros(round(gap * rate), np.float32)
            takes.append(Take(take.id, take.text or "", place / rate, (place + len(samples)) / rate, float(gain)))
            # No sample is cut here: if the whole recording is too loud, it is made softer at the end.
            parts += [samples * np.float32(10 ** (gain / 20)), pause]
            place += len(samples) + len(pause)
        made = np.concatenate(parts)
        ratio = None
        if settings.kind != "none":
            ratio = float(random.uniform(*settings.noise))
            made = _with_background(made, settings.kind, ratio, random)
        peak = float(np.abs(made).max()) if len(made) else 0.0
        if peak > _PEAK:
            made = at_gain(made, 20 * float(np.log10(_PEAK / peak)))
        text = settings.separator.join(take.text for take in takes)
        return JoinedRecording(made, rate, text, speaker, tuple(takes), ratio)


def _with_background(
    samples: npt.NDArray[np.float32], kind: str, ratio: float, random: np.random.Generator
) -> npt.NDArray[np.float32]:
    noise = (pink_noise if kind == "pink" else white_noise)(len(samples), random)
    power = max(float(np.mean(np.square(samples, dtype=np.float64))), _LEAST_POWER) if len(samples) else 0.0
    return (samples + np.sqrt(power / 10 ** (ratio / 10)) * noise).astype(np.float32)


def described(joined: JoinedRecording) -> Mapping[str, object]:
    """A joined recording as a line of a manifest says it, without the name of its file."""
    return {
        "text": joined.text,
        "speaker": joined.speaker,
        "duration": joined.seconds,
        "noise": joined.noise,
        "takes": [take._asdict() for take in joined.takes],
    }
