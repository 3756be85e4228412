"""Features and samples of many recordings in a store, and what is said of bad recordings."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from recurra.data.audio import AudioReader
from recurra.data.fbank import Fbank, FbankSettings
from recurra.data.frame_store import FrameExample, FrameStore, write_frames
from recurra.data.ink_features import COLUMNS, ink_features
from recurra.data.ink_normalising import normalised_ink
from recurra.data.utterance_frames import featurised, sampled
from recurra.data.utterances import UtteranceReader
from recurra.errors import DataError, RunError

from .speech import tone, write_wav


def example(number: int, width: int, kind: str = "float32") -> FrameExample:
    random = np.random.default_rng(number)
    frames = (random.standard_normal((number, width)) * 1000).astype(kind)
    return FrameExample(f"u{number}", frames, f"text {number}", "ann" if number % 2 else "", "m.jsonl", number)


@pytest.mark.parametrize(("width", "kind"), [(80, "float32"), (1, "float32"), (1, "int16")])
def test_examples_come_back_as_they_were(tmp_path: Path, width: int, kind: str) -> None:
    given = [example(number, width, kind) for number in (3, 1, 40, 7)]
    assert write_frames(tmp_path / "train", iter(given), width, {"rate": 8000}, kind=kind) == 4
    store = FrameStore(tmp_path / "train")
    assert (len(store), store.width, store.about) == (4, width, {"rate": 8000})
    assert store.lengths.tolist() == [3, 1, 40, 7]
    for found, expected in zip(store.take([2, 0, 2]), [given[2], given[0], given[2]], strict=True):
        assert np.array_equal(found.frames, expected.frames)
        assert found.frames.dtype == kind
        assert found[0] == expected[0]
        assert found[2:] == expected[2:]
    assert not store[1].frames.flags.writeable
    with pytest.raises(IndexError):
        store[4]


def test_points_of_ink_are_kept_too(tmp_path: Path) -> None:
    strokes = (np.array([[0.0, 0, 0], [1, 1, 10]]), np.array([[2.0, 0, 30]]))
    rows = ink_features(normalised_ink(strokes))
    written = FrameExample("d1", rows, "A", "w1", "a.jsonl", 1)
    write_frames(tmp_path / "ink", [written], len(COLUMNS), {"columns": list(COLUMNS)})
    store = FrameStore(tmp_path / "ink")
    assert np.array_equal(store[0].frames, rows)
    assert store.about["columns"] == list(COLUMNS)


def test_what_cannot_be_kept(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"rows of the shape \(3, 5\)"):
        write_frames(tmp_path / "a", [example(3, 5)], 4, {})
    nan = example(1, 4)._replace(frames=np.full((1, 4), np.nan, np.float32))
    with pytest.raises(ValueError, match="not finite"):
        write_frames(tmp_path / "a", [nan], 4, {})
    with pytest.raises(DataError, match="there is no example to keep"):
        write_frames(tmp_path / "a", [], 4, {})
    assert list(tmp_path.iterdir()) == []


def test_a_store_of_something_else_is_refused(tmp_path: Path) -> None:
    write_frames(tmp_path / "a", [example(3, 4)], 4, {})
    header = json.loads((tmp_path / "a.json").read_text())
    for width in (5, 0, "4", None):
        header["about"]["width"] = width
        (tmp_path / "a.json").write_text(json.dumps(header))
        with pytest.raises(RunError, match="this is not the header of prepared frames"):
            FrameStore(tmp_path / "a")


def manifest(folder: Path, **samples: np.ndarray) -> Path:
    with open(folder / "m.jsonl", "w") as file:
        for name, values in samples.items():
            write_wav(folder / f"{name}.wav", values, 8000)
            file.write(json.dumps({"id": name, "path": f"{name}.wav", "text": name, "speaker": "ann"}) + "\n")
    return folder / "m.jsonl"


def test_recordings_become_features_and_samples(tmp_path: Path) -> None:
    for package in ("soundfile", "kaldi_native_fbank"):
        pytest.importorskip(package)
    path = manifest(tmp_path, one=tone(0.3, 8000, 300), two=tone(0.5, 8000, 900))
    read, fbank = AudioReader(8000), Fbank(FbankSettings(8000, 40))
    utterances = UtteranceReader(path)
    write_frames(tmp_path / "frames", featurised(utterances, read, fbank), 40, {}, utterances.files)
    store = FrameStore(tmp_path / "frames")
    assert store.lengths.tolist() == [30, 50]
    assert [Path(file.name).name for file in store.files] == ["m.jsonl"]
    first = store[0]
    assert np.array_equal(first.frames, fbank(read.read(tmp_path / "one.wav").samples))
    assert (first.id, first.text, first.author, first.file, first.line) == ("one", "one", "ann", str(path), 1)
    write_frames(tmp_path / "samples", sampled(utterances, read), 1, {"rate": 8000})
    assert np.array_equal(FrameStore(tmp_path / "samples")[1].frames[:, 0], read.read(tmp_path / "two.wav").samples)
    with pytest.raises(ValueError, match="16000 Hz"):
        featurised(utterances, AudioReader(16000), fbank)


def test_all_bad_recordings_are_named_before_training(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for package in ("soundfile", "kaldi_native_fbank"):
        pytest.importorskip(package)
    loud = np.clip(tone(0.3, 8000, 300, 3.0), -1, 1)
    path = manifest(tmp_path, good=tone(0.3, 8000, 300), loud=loud, silent=np.zeros(800), short=np.array([0.1, 0.2]))
    (tmp_path / "bad.wav").write_text("seven")
    with open(path, "a") as file:
        file.write(json.dumps({"path": "bad.wav", "text": "x"}) + "\n")
    read, fbank = AudioReader(8000), Fbank(FbankSettings(8000))
    with pytest.raises(DataError) as caught:
        list(featurised(UtteranceReader(path), read, fbank))
    said = str(caught.value).splitlines()
    assert said[0].startswith("3 of 5 recordings cannot be used")
    assert f"{tmp_path / 'silent.wav'} ({path}:3): is digital silence, and 'silent' is to be heard in it" in said[1]
    assert f"{tmp_path / 'short.wav'} ({path}:4): has 0.0003 s, too little for one frame" in said[2]
    assert f"{tmp_path / 'bad.wav'} ({path}:5): is not audio" in said[3]
    err = capsys.readouterr().err
    assert "1 of 5 recordings have more than 1% of their samples at full scale" in err
    assert "loud.wav" in err
    assert [each.id for each in featurised(UtteranceReader(path), read, fbank, skip=True)] == ["good", "loud"]
    assert "3 of 5 recordings cannot be used and are left out" in capsys.readouterr().err
