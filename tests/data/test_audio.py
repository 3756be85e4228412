"""Recordings of all kinds become one channel at one rate, and every bad file is named."""

from __future__ import annotations

import struct
import sys
from pathlib import Path

import numpy as np
import pytest

from recurra.data.audio import AudioReader, read_header
from recurra.data.fbank import Fbank, FbankSettings, FbankStream
from recurra.data.resampling import Resampler, resampled
from recurra.errors import ConfigError, DataError

from .speech import loudest_frequency, tone, write_wav


def reader(rate: int = 8000) -> tuple[AudioReader, list[str]]:
    pytest.importorskip("soundfile")
    said: list[str] = []
    return AudioReader(rate, longest=5, told=said.append), said


def test_samples_are_those_of_the_file(tmp_path: Path) -> None:
    read, said = reader()
    samples = np.rint(tone(0.5, 8000, 440) * 32768) / 32768
    path = write_wav(tmp_path / "a.wav", samples, 8000)
    found = read.read(path)
    assert found.samples.dtype == np.float32
    assert np.array_equal(found.samples, samples.astype(np.float32))
    assert (found.rate, found.seconds, found.clipped, found.is_silent) == (8000, 0.5, 0.0, False)
    assert said == []
    header = read_header(path)
    assert header == (8000, 1, 4000, "WAV PCM_16")
    assert header.seconds == 0.5


def test_a_part_is_cut_out(tmp_path: Path) -> None:
    read, _ = reader()
    samples = np.rint(np.random.default_rng(0).uniform(-1, 1, 8000) * 32767) / 32768
    path = write_wav(tmp_path / "a.wav", samples, 8000)
    assert np.array_equal(read.read(path, 0.25, 0.5).samples, samples[2000:4000].astype(np.float32))
    assert np.array_equal(read.read(path, 0.9).samples, samples[7200:].astype(np.float32))
    # Ends are often rounded up.
    assert np.array_equal(read.read(path, 0.9, 1.2).samples, samples[7200:].astype(np.float32))


def test_channels_are_mixed_and_said_once(tmp_path: Path) -> None:
    read, said = reader()
    both = np.stack([tone(0.1, 8000, 400, 0.2), tone(0.1, 8000, 900, 0.4)], 1)
    for name in ("a.wav", "b.wav"):
        path = write_wav(tmp_path / name, both, 8000)
        found = read.read(path).samples
        np.testing.assert_allclose(found, both.mean(1), atol=2.0**-15)
    assert said == [
        f"recurra: the 2 channels of {tmp_path / 'a.wav'} are mixed down to one, and so are those of other files."
    ]


@pytest.mark.parametrize(("rate", "new"), [(8000, 16000), (44100, 8000), (11025, 8000), (48000, 16000)])
def test_a_resampled_tone_keeps_its_frequency_and_power(tmp_path: Path, rate: int, new: int) -> None:
    pytest.importorskip("soxr")
    read, said = reader(new)
    for name in ("a.wav", "b.wav"):
        found = read.read(write_wav(tmp_path / name, tone(1, rate, 1000), rate)).samples
    assert abs(len(found) - new) <= 1
    assert abs(loudest_frequency(found, new) - 1000) <= 1
    np.testing.assert_allclose(np.std(found[200:-200]), 0.5 / np.sqrt(2), rtol=0.01)
    assert said == [f"recurra: audio of {rate:,} Hz is resampled to {new:,} Hz."]


def test_what_the_lower_rate_cannot_hold_is_taken_away(tmp_path: Path) -> None:
    pytest.importorskip("soxr")
    read, _ = reader()
    # Without a filter this tone would come back at 2000 Hz.
    found = read.read(write_wav(tmp_path / "a.wav", tone(1, 16000, 6000), 16000)).samples
    assert np.abs(found[200:-200]).max() < 0.001


def test_pieces_are_the_whole(tmp_path: Path) -> None:
    pytest.importorskip("soxr")
    read, _ = reader(16000)
    noise = np.random.default_rng(0).uniform(-0.9, 0.9, 200_000)
    path = write_wav(tmp_path / "a.wav", noise, 44100)
    pieces = list(read.pieces(path))
    assert len(pieces) > 2
    whole = read.read(path).samples
    assert np.concatenate(pieces).tobytes() == whole.tobytes()
    exact = noise.astype(np.float32)
    np.testing.assert_allclose(whole, resampled(np.rint(exact * 32768) / 32768, 44100, 16000), atol=1e-4)


@pytest.mark.parametrize("size", [1, 160, 441, 10_000])
@pytest.mark.parametrize(("rate", "new"), [(44100, 16000), (8000, 16000), (8000, 8000)])
def test_a_stream_is_resampled_like_the_whole(rate: int, new: int, size: int) -> None:
    pytest.importorskip("soxr")
    samples = np.random.default_rng(0).uniform(-1, 1, 9000).astype(np.float32)
    stream = Resampler(rate, new)
    parts = [stream.accept(samples[start : start + size]) for start in range(0, len(samples), size)]
    assert np.concatenate([*parts, stream.finish()]).tobytes() == resampled(samples, rate, new).tobytes()
    with pytest.raises(ValueError, match="finite"):
        Resampler(rate, new).accept([np.nan])


def test_features_of_a_microphone_are_those_of_its_recording(tmp_path: Path) -> None:
    for package in ("soxr", "kaldi_native_fbank"):
        pytest.importorskip(package)
    read, _ = reader(16000)
    heard = np.rint(np.random.default_rng(0).uniform(-1, 1, 44_100) * 32767) / 32768
    path = write_wav(tmp_path / "a.wav", heard, 44100)
    settings = FbankSettings(16000)
    resampler, features = Resampler(44100, 16000), FbankStream(settings)
    parts = [features.accept(resampler.accept(heard[start : start + 441])) for start in range(0, len(heard), 441)]
    parts += [features.accept(resampler.finish()), features.finish()]
    assert np.concatenate(parts).tobytes() == Fbank(settings)(read.read(path).samples).tobytes()


@pytest.mark.parametrize(("name", "kind"), [("a.flac", "PCM_16"), ("a.ogg", "VORBIS"), ("a.mp3", None)])
def test_other_formats(tmp_path: Path, name: str, kind: str | None) -> None:
    soundfile = pytest.importorskip("soundfile")
    read, _ = reader()
    soundfile.write(tmp_path / name, tone(1, 8000, 500), 8000, subtype=kind)
    assert abs(loudest_frequency(read.read(tmp_path / name).samples, 8000) - 500) < 2


def test_an_mp3_file_that_does_not_tell_its_length(tmp_path: Path) -> None:
    soundfile = pytest.importorskip("soundfile")
    read = AudioReader(16000)
    # Of a varying bit rate: from the bytes of the first frames, libmpg123 takes this for twice as long.
    samples = np.concatenate([np.zeros(40_000), np.random.default_rng(0).uniform(-0.9, 0.9, 20_000)])
    soundfile.write(tmp_path / "a.mp3", samples, 16000, bitrate_mode="VARIABLE")
    data = (tmp_path / "a.mp3").read_bytes()
    assert b"Xing" in data[:200]
    assert len(read.read(tmp_path / "a.mp3").samples) == 60_000
    (tmp_path / "b.mp3").write_bytes(data[data.index(b"\xff", 100) :])
    assert read_header(tmp_path / "b.mp3").frames > 70_000
    assert abs(len(read.read(tmp_path / "b.mp3").samples) - 60_000) < 3000
    with pytest.raises(DataError, match="no sample in this part"):
        read.read(tmp_path / "b.mp3", 4.2, 4.4)
    (tmp_path / "c.mp3").write_bytes(data[: len(data) // 2])
    with pytest.raises(DataError, match=r"c\.mp3: the audio is cut off: its header announces 60,000 samples"):
        read.read(tmp_path / "c.mp3")


def test_clipping_and_silence_are_measured(tmp_path: Path) -> None:
    soundfile = pytest.importorskip("soundfile")
    read, _ = reader()
    samples = np.zeros(1000)
    samples[::4] = 1.5
    samples[1::4] = -1.5
    assert read.read(write_wav(tmp_path / "a.wav", samples, 8000)).clipped == 0.5
    for kind in ("PCM_U8", "PCM_24", "FLOAT"):
        soundfile.write(tmp_path / "b.wav", np.clip(samples, -1, 1), 8000, subtype=kind)
        assert read.read(tmp_path / "b.wav").clipped == 0.5
    soundfile.write(tmp_path / "b.wav", samples * 0.63, 8000, subtype="PCM_U8")
    assert read.read(tmp_path / "b.wav").clipped == 0
    for level in (0, 0.25):
        assert read.read(write_wav(tmp_path / "a.wav", np.full(100, level), 8000)).is_silent
    assert not read.read(write_wav(tmp_path / "a.wav", [0, 2e-4] * 50, 8000)).is_silent


def float_wav(path: Path, values: list[float]) -> Path:
    data = struct.pack(f"<{len(values)}f", *values)
    form = struct.pack("<4sIHHIIHH", b"fmt ", 16, 3, 1, 8000, 32000, 4, 32)
    body = b"WAVE" + form + struct.pack("<4sI", b"data", len(data)) + data
    path.write_bytes(struct.pack("<4sI", b"RIFF", len(body)) + body)
    return path


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([0.0] * 80 + [float("nan")], r"a\.wav: the sample at 0\.010 s is no finite number"),
        ([0.0, float("inf")], r"a\.wav: the sample at 0\.000 s is no finite number"),
        ([20000.0, 0.0], r"a\.wav: its samples reach 20,000 times full scale; scale them to -1 to 1"),
    ],
)
def test_floating_point_samples_that_would_spoil_features(tmp_path: Path, values: list[float], message: str) -> None:
    read, _ = reader()
    with pytest.raises(DataError, match=message):
        read.read(float_wav(tmp_path / "a.wav", values))
    assert list(read.read(float_wav(tmp_path / "b.wav", [0.5, -1.5])).samples) == [0.5, -1.5]


def test_bad_files_are_named(tmp_path: Path) -> None:
    soundfile = pytest.importorskip("soundfile")
    read, _ = reader()
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, 30_000)
    whole = write_wav(tmp_path / "whole.wav", noise, 8000).read_bytes()
    soundfile.write(tmp_path / "whole.flac", noise, 8000)
    soundfile.write(tmp_path / "whole.ogg", noise, 8000)
    soundfile.write(tmp_path / "whole.aiff", noise, 8000)
    flac, ogg, aiff = ((tmp_path / f"whole.{kind}").read_bytes() for kind in ("flac", "ogg", "aiff"))
    bad = {
        "empty.wav": (b"", "the file is empty"),
        "head.wav": (whole[:30], "it ends before its samples begin"),
        "cut.wav": (whole[:2044], "its header announces 60,000 bytes of samples, and 2,000 are there"),
        "none.wav": (whole[:40] + b"\0\0\0\0", "no sample"),
        "channels.wav": (whole[:22] + b"\0\0" + whole[24:], "channels.wav"),
        "rate.wav": (whole[:24] + b"\0\0\0\0" + whole[28:], "rate.wav"),
        "cut.flac": (flac[: len(flac) // 2], "cut off|damaged"),
        "holed.flac": (flac[:20_000] + bytes(5000) + flac[25_000:], "damaged|cut off"),
        "cut.aiff": (aiff[:-1000], "its header announces 60,0.. bytes of samples, and 59,0.. are there"),
        "cut.ogg": (ogg[: len(ogg) // 2], "last page"),
        "tail.ogg": (ogg[:-10], "last page"),
        "text.wav": (b"seven\n" * 100, "is not audio that can be decoded"),
        "random.mp3": (bytes(range(256)) * 40, "random.mp3"),
        "page.raw": (bytes(1000), "is not audio that can be decoded"),
    }
    for name, (data, message) in bad.items():
        path = tmp_path / name
        path.write_bytes(data)
        with pytest.raises(DataError, match=message) as caught:
            read.read(path, where="train.jsonl:3")
        assert str(caught.value).startswith(f"{path} (train.jsonl:3): "), name
        assert "\n" not in str(caught.value)
    with pytest.raises(DataError, match=r"gone.wav: the audio cannot be read \(there is no such file\)"):
        read.read(tmp_path / "gone.wav")
    with pytest.raises(DataError, match="is no regular file"):
        read.read(tmp_path)


def test_a_program_that_wrote_to_a_pipe_could_not_know_the_size(tmp_path: Path) -> None:
    read, _ = reader()
    data = bytearray(write_wav(tmp_path / "a.wav", tone(0.1, 8000, 300), 8000).read_bytes())
    data[4:8] = data[40:44] = b"\xff\xff\xff\xff"
    (tmp_path / "b.wav").write_bytes(data)
    assert np.array_equal(read.read(tmp_path / "b.wav").samples, read.read(tmp_path / "a.wav").samples)


@pytest.mark.parametrize(
    ("start", "end", "message"),
    [
        (2.0, 3.0, r"from 2 to 3 s lies outside of the recording, which has 1\.000 s"),
        (0.5, 1.6, "lies outside"),
        (0.5, 0.5, "has no length"),
        (0.6, 0.5, "has no length"),
        (-1.0, 0.5, "has no length"),
        (float("nan"), None, "has no length"),
        (0.5, 0.50001, "has no sample"),
    ],
)
def test_parts_outside_are_refused(tmp_path: Path, start: float, end: float | None, message: str) -> None:
    read, _ = reader()
    path = write_wav(tmp_path / "a.wav", tone(1, 8000, 300), 8000)
    with pytest.raises(DataError, match=message):
        read.read(path, start, end)


def test_long_recordings_are_read_in_pieces_only(tmp_path: Path) -> None:
    read, _ = reader()
    path = write_wav(tmp_path / "a.wav", np.zeros(48_000), 8000)
    with pytest.raises(DataError, match="has 6 s, and at most 5 s are read as one utterance"):
        read.read(path)
    assert sum(map(len, read.pieces(path))) == 48_000
    assert len(read.read(path, 1, 6).samples) == 40_000


@pytest.mark.parametrize("package", ["soundfile", "soxr"])
def test_a_missing_package_is_named(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ConfigError, match=rf"needs {package}, .*pip install 'recurra\[speech\]'"):
        resampled([0.0] * 9, 8000, 16000) if package == "soxr" else AudioReader(8000)
