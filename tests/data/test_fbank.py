"""Log-mel features: against a slow computation of the published formulas, and in pieces of any size."""

from __future__ import annotations

import sys

import numpy as np
import numpy.typing as npt
import pytest

from recurra.data.fbank import Fbank, FbankSettings, FbankStream
from recurra.errors import ConfigError

from .speech import tone


def mel(frequency: npt.ArrayLike) -> npt.NDArray[np.float64]:
    return 1127 * np.log1p(np.asarray(frequency, np.float64) / 700)


def slow_features(samples: npt.ArrayLike, settings: FbankSettings) -> npt.NDArray[np.float64]:
    """The formulas in the module's own words, in double precision and with a plain Fourier sum."""
    x = np.asarray(samples, np.float64) * 32768
    size, shift = settings.window, settings.shift
    padded = 1
    while padded < size:
        padded *= 2
    window = (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(size) / (size - 1))) ** 0.85
    angles = -2j * np.pi / padded * np.outer(np.arange(padded // 2), np.arange(size))
    fourier = np.exp(angles)
    edges = mel(settings.low) + (mel(settings.highest) - mel(settings.low)) / (settings.bins + 1) * np.arange(
        settings.bins + 2
    )
    mels = mel(np.arange(padded // 2) * settings.rate / padded)
    rows = []
    for number in range((len(x) + shift // 2) // shift):
        first = shift * number + shift // 2 - size // 2
        frame = np.empty(size)
        for place in range(size):
            at = first + place
            # Mirrored at both ends, as often as it takes.
            while not 0 <= at < len(x):
                at = -at - 1 if at < 0 else 2 * len(x) - 1 - at
            frame[place] = x[at]
        frame -= frame.mean()
        frame -= 0.97 * np.concatenate([frame[:1], frame[:-1]])
        power = np.abs(fourier @ (frame * window)) ** 2
        row = []
        for bin in range(settings.bins):
            left, middle, right = edges[bin : bin + 3]
            weights = np.minimum((mels - left) / (middle - left), (right - mels) / (right - middle))
            row.append(np.log(max(float(np.maximum(weights, 0) @ power), 2.0**-23)))
        rows.append(row)
    return np.array(rows).reshape(len(rows), settings.bins)


@pytest.mark.parametrize(
    "settings",
    [
        FbankSettings(8000),
        FbankSettings(16000),
        FbankSettings(16000, 40, high=-400),
        FbankSettings(8000, 23, window_ms=32, shift_ms=8, low=100, high=3800),
    ],
)
def test_features_are_those_of_the_formulas(settings: FbankSettings) -> None:
    pytest.importorskip("kaldi_native_fbank")
    random = np.random.default_rng(1)
    samples = tone(0.13, settings.rate, 700, 0.3)
    samples = (samples + 0.05 * random.standard_normal(len(samples))).astype(np.float32)
    found = Fbank(settings)(samples)
    slow = slow_features(samples, settings)
    assert found.shape == slow.shape == (settings.frames(len(samples)), settings.bins)
    # Single precision rounds the largest power of a frame at 1e-7; the weakest bins here hold 1e-4 of it.
    np.testing.assert_allclose(found, slow, atol=2e-3)
    assert np.abs(found - slow).mean() < 1e-4


@pytest.mark.parametrize("count", [0, 1, 39, 40, 79, 80, 119, 120, 199, 200, 201, 1000])
def test_short_recordings_have_a_frame_for_every_shift(count: int) -> None:
    pytest.importorskip("kaldi_native_fbank")
    settings = FbankSettings(8000, 20)
    samples = np.random.default_rng(count).uniform(-0.5, 0.5, count).astype(np.float32)
    found = Fbank(settings)(samples)
    assert found.shape == (settings.frames(count), 20)
    np.testing.assert_allclose(found, slow_features(samples, settings), atol=2e-3)


def test_a_tone_is_in_the_bin_of_its_frequency_at_both_rates() -> None:
    pytest.importorskip("kaldi_native_fbank")
    for rate in (8000, 16000):
        settings = FbankSettings(rate)
        frames = Fbank(settings)(tone(0.5, rate, 1500))
        step = (mel(rate / 2) - mel(20)) / 81
        assert abs(int(frames[25].argmax()) - (mel(1500) - mel(20)) / step + 1) < 1


def test_silence_is_finite() -> None:
    pytest.importorskip("kaldi_native_fbank")
    frames = Fbank(FbankSettings(8000))(np.zeros(800, np.float32))
    np.testing.assert_allclose(frames, np.log(2.0**-23), rtol=1e-6)


@pytest.mark.parametrize("size", [1, 7, 80, 200, 201, 999, 5000])
@pytest.mark.parametrize("rate", [8000, 16000])
def test_pieces_give_the_bits_of_the_whole(rate: int, size: int) -> None:
    pytest.importorskip("kaldi_native_fbank")
    settings = FbankSettings(rate)
    samples = np.random.default_rng(2).uniform(-1, 1, 2345).astype(np.float32)
    stream = FbankStream(settings)
    parts = [stream.accept(samples[start : start + size]) for start in range(0, len(samples), size)]
    parts.append(stream.finish())
    whole = Fbank(settings)(samples)
    assert np.concatenate(parts).tobytes() == whole.tobytes()
    # A frame comes as soon as its last sample has come, not at the end.
    assert size >= len(samples) or len(parts[-1]) < 3


def test_frames_outlive_the_stream() -> None:
    pytest.importorskip("kaldi_native_fbank")
    settings = FbankSettings(8000)
    samples = np.random.default_rng(3).uniform(-1, 1, 8000).astype(np.float32)
    stream = FbankStream(settings)
    first = stream.accept(samples)
    kept = first.copy()
    for _ in range(20):
        stream.accept(samples)
    assert np.array_equal(first, kept)


def test_what_is_no_number_never_gets_in() -> None:
    pytest.importorskip("kaldi_native_fbank")
    for bad in (np.nan, np.inf):
        with pytest.raises(ValueError, match="finite"):
            Fbank(FbankSettings(8000))([0.0, bad])


def test_nothing_comes_after_the_end() -> None:
    pytest.importorskip("kaldi_native_fbank")
    stream = FbankStream(FbankSettings(8000))
    stream.finish()
    assert len(stream.finish()) == 0
    with pytest.raises(ValueError, match="has ended"):
        stream.accept([0.0])


@pytest.mark.parametrize("rate", [1001, 7350, 11025, 12345, 22050, 24000, 32000, 44100, 48000])
def test_odd_rates_have_the_frames_that_they_are_said_to_have(rate: int) -> None:
    pytest.importorskip("kaldi_native_fbank")
    for settings in (FbankSettings(rate, 10), FbankSettings(rate, 10, window_ms=32.3, shift_ms=7.7)):
        samples = np.random.default_rng(rate).uniform(-1, 1, rate // 10).astype(np.float32)
        found = Fbank(settings)(samples)
        assert len(found) == settings.frames(len(samples))
        np.testing.assert_allclose(found, slow_features(samples, settings), atol=2e-3)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rate": 10}, "10 samples a second"),
        ({"bins": 0}, "0 mel bins"),
        ({"bins": 600}, "600 mel bins"),
        ({"window_ms": 5, "shift_ms": 10}, "no longer than the window"),
        ({"shift_ms": 0}, "must be above 0"),
        ({"rate": 1000, "window_ms": 1, "shift_ms": 0.5}, "has no sample at 1000 Hz"),
        ({"high": 9000}, "from 20 to 9000 Hz"),
        ({"high": -8000}, "from 20 to 0 Hz"),
        ({"low": 5000, "high": 4000}, "from 5000 to 4000 Hz"),
        ({"rate": 8000, "bins": 120}, r"120 mel bins .* too narrow .* use at most \d+ bins"),
    ],
)
def test_settings_that_do_not_fit_are_refused(settings: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        FbankSettings(**settings)  # type: ignore[arg-type]


def test_the_most_bins_have_a_frequency_each_and_one_more_has_not() -> None:
    wide = FbankSettings(8000, 120, window_ms=100)
    most = FbankSettings(8000, 1)
    for bins in range(60, 121):
        edges = mel(20) + (mel(4000) - mel(20)) / (bins + 1) * np.arange(bins + 2)
        mels = mel(np.arange(129) * 8000 / 256)
        inside = ((mels[:, None] > edges[:-2]) & (mels[:, None] < edges[2:])).any(0).all()
        try:
            FbankSettings(8000, bins)
        except ConfigError:
            assert not inside
        else:
            assert inside
    assert wide.most_bins == 120
    assert most.most_bins == 1


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "kaldi_native_fbank", None)
    with pytest.raises(ConfigError, match=r"needs kaldi-native-fbank, .*pip install 'recurra\[speech\]'"):
        Fbank(FbankSettings(8000))
