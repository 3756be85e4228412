"""What the tests of speech share: WAV files written by the standard library, and tones."""

from __future__ import annotations

import wave
from pathlib import Path

import numpy as np
import numpy.typing as npt


def tone(seconds: float, rate: int, frequency: float, amplitude: float = 0.5) -> npt.NDArray[np.float64]:
    """A sine, (samples,)."""
    return amplitude * np.sin(2 * np.pi * frequency * np.arange(round(seconds * rate)) / rate)


def write_wav(path: Path, samples: npt.ArrayLike, rate: int) -> Path:
    """Write samples of 16 bits, (samples,) or (samples, channels), from -1 to 1."""
    rows = np.asarray(samples, np.float64)
    rows = rows[:, None] if rows.ndim == 1 else rows
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(rows.shape[1])
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(np.clip(np.rint(rows * 32768), -32768, 32767).astype("<i2").tobytes())
    return path


def loudest_frequency(samples: npt.NDArray[np.float32], rate: int) -> float:
    """The frequency with the most power, in Hz."""
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
    return float(np.argmax(spectrum) * rate / len(samples))
