"""Augmentation of speech: what it does to tones and masks, and that it can be drawn again."""

from __future__ import annotations

import numpy as np
import pytest

from recurra.data.draws import draws
from recurra.data.speech_augmentation import (
    SPEEDS,
    MaskSettings,
    at_gain,
    at_speed,
    masked,
    pink_noise,
    spec_augmented,
    speed_drawn,
    white_noise,
    with_noise,
)
from recurra.errors import ConfigError

from .speech import loudest_frequency, tone

TONE = tone(1, 8000, 500).astype(np.float32)


def power(samples: np.ndarray) -> float:
    return float(np.mean(np.square(samples, dtype=np.float64)))


def test_draws_are_of_their_own_and_come_again() -> None:
    first = draws(1, 2, 3, "noise").random(4)
    assert np.array_equal(first, draws(1, 2, 3, "noise").random(4))
    others = [(0, 2, 3, "noise"), (1, 3, 3, "noise"), (1, 2, 4, "noise"), (1, 2, 3, "speed"), (1, 3, 2, "noise")]
    assert not any(np.isclose(first, draws(*other).random(4)).any() for other in others)


@pytest.mark.parametrize("speed", [0.9, 1.0, 1.1])
def test_speed_changes_length_and_pitch(speed: float) -> None:
    pytest.importorskip("soxr")
    made = at_speed(TONE, speed)
    assert abs(len(made) - 8000 / speed) <= 1
    assert abs(loudest_frequency(made, 8000) - 500 * speed) < 1.5
    assert np.array_equal(made, at_speed(TONE, speed))


def test_speeds_are_drawn_evenly() -> None:
    drawn = [speed_drawn(draws(0, 0, number, "speed")) for number in range(300)]
    assert set(drawn) == set(SPEEDS)
    assert all(70 < drawn.count(speed) < 130 for speed in SPEEDS)
    with pytest.raises(ValueError, match="3"):
        at_speed(TONE, 3)


def test_gain() -> None:
    np.testing.assert_allclose(at_gain(TONE, -6.0206), TONE / 2, rtol=1e-4)
    assert np.abs(at_gain(TONE, 40)).max() == 1
    assert np.abs(TONE).max() == np.float32(0.5)


@pytest.mark.parametrize("decibels", [-5, 0, 20])
@pytest.mark.parametrize("count", [500, 8000, 20_000])
def test_noise_has_the_ratio_that_was_asked_for(decibels: float, count: int) -> None:
    noise = white_noise(count, np.random.default_rng(0)) * 0.01
    made = with_noise(TONE, noise, decibels, np.random.default_rng(1))
    assert made.shape == TONE.shape
    assert abs(10 * np.log10(power(TONE) / power(made - TONE)) - decibels) < 0.01
    assert np.array_equal(made, with_noise(TONE, noise, decibels, np.random.default_rng(1)))


def test_noise_and_silence() -> None:
    silence = np.zeros(100, np.float32)
    for made in (
        with_noise(silence, white_noise(10, np.random.default_rng(0)), 10, np.random.default_rng(0)),
        with_noise(silence, silence, 10, np.random.default_rng(0)),
    ):
        assert np.array_equal(made, silence)
    assert np.array_equal(with_noise(TONE, silence, 10, np.random.default_rng(0)), TONE)
    assert np.array_equal(with_noise(TONE, silence[:0], 10, np.random.default_rng(0)), TONE)


def test_pink_noise_has_the_same_power_in_every_octave() -> None:
    spectrum = np.abs(np.fft.rfft(pink_noise(1 << 17, np.random.default_rng(0)))) ** 2
    octaves = [spectrum[1 << place : 2 << place].sum() for place in range(8, 16)]
    np.testing.assert_allclose(octaves, np.mean(octaves), rtol=0.2)
    white = np.abs(np.fft.rfft(white_noise(1 << 17, np.random.default_rng(0)))) ** 2
    assert white[1 << 15 : 2 << 15].sum() > 50 * white[1 << 9 : 2 << 9].sum()
    assert abs(power(pink_noise(5000, np.random.default_rng(0))) - 1) < 1e-5
    assert [len(pink_noise(count, np.random.default_rng(0))) for count in range(4)] == [0, 1, 2, 3]


def test_masks_lie_within_bounds_and_come_again() -> None:
    settings = MaskSettings(frequency_masks=2, frequency_width=10, time_masks=3, time_width=20, most_time=0.1)
    features = np.random.default_rng(0).standard_normal((150, 80)).astype(np.float32)
    widths = set()
    for number in range(200):
        bands, stretches = masked(150, 80, settings, draws(0, 0, number, "masks"))
        assert (len(bands), len(stretches)) == (2, 3)
        assert all(0 <= first <= last <= 80 and last - first <= 10 for first, last in bands)
        # A tenth of 150 frames is less than 20.
        assert all(0 <= first <= last <= 150 and last - first <= 15 for first, last in stretches)
        widths |= {last - first for first, last in stretches}
    assert widths == set(range(16))
    made = spec_augmented(features, settings, draws(0, 0, 7, "masks"))
    bands, stretches = masked(150, 80, settings, draws(0, 0, 7, "masks"))
    hidden = np.zeros(features.shape, bool)
    for first, last in bands:
        hidden[:, first:last] = True
    for first, last in stretches:
        hidden[first:last] = True
    assert np.array_equal(made[~hidden], features[~hidden])
    np.testing.assert_allclose(made[hidden], features.mean(), rtol=1e-5)
    assert hidden.any()
    assert np.array_equal(made, spec_augmented(features, settings, draws(0, 0, 7, "masks")))
    assert spec_augmented(features[:0], settings, draws(0, 0, 7, "masks")).shape == (0, 80)
    assert np.isfinite(spec_augmented(features[:1], settings, draws(0, 0, 7, "masks"))).all()


def test_adaptive_masks_grow_with_the_utterance() -> None:
    # Park et al. 2020: p_M = 0.04, p_S = 0.04, at most 20 masks.
    settings = MaskSettings(time_masks=20, adaptive_masks=0.04, adaptive_width=0.04, most_time=1)
    assert [settings.time(frames) for frames in (10, 25, 100, 1000)] == [(0, 0), (1, 1), (4, 4), (20, 40)]
    assert MaskSettings().time(1000) == (2, 100)
    assert MaskSettings().time(50) == (2, 10)


@pytest.mark.parametrize(
    "settings", [{"time_masks": -1}, {"frequency_width": 20_000}, {"most_time": 1.5}, {"adaptive_masks": -0.1}]
)
def test_masks_that_cannot_be_are_refused(settings: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=next(iter(settings))):
        MaskSettings(**settings)  # type: ignore[arg-type]
