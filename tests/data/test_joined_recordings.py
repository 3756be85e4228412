"""Recordings joined of short ones: where each part came from, and the same again from the same seed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from recurra.data.audio import AudioReader
from recurra.data.joined_recordings import JoinedRecording, JoinSettings, RecordingJoiner, described
from recurra.data.utterances import UtteranceReader
from recurra.errors import ConfigError, DataError

from .speech import tone, write_wav

PATTERN = r"(?P<text>\d)_(?P<speaker>[a-z]+)_\d+"
SCRIPT = Path(__file__).parents[2] / "experiments" / "join_digits.py"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("soundfile")
    made = tmp_path_factory.mktemp("digits")
    for digit in range(3):
        for place, speaker in enumerate(("ann", "bob")):
            for number in (1, 7):
                seconds = 0.1 + 0.01 * digit + 0.05 * place
                write_wav(made / f"{digit}_{speaker}_{number}.wav", tone(seconds, 8000, 300 + 100 * digit), 8000)
    return made


def joiner(folder: Path, settings: JoinSettings, seed: int = 0) -> RecordingJoiner:
    return RecordingJoiner(UtteranceReader(folder, pattern=PATTERN), AudioReader(8000), settings, seed=seed)


def test_every_take_lies_where_it_is_said_to_lie(folder: Path) -> None:
    maker = joiner(folder, JoinSettings(kind="none", gain=(-6, 0), gap=(0.05, 0.4)))
    counts = set()
    for number in range(40):
        joined = maker.joined(number)
        counts.add(len(joined.takes))
        assert joined.text == " ".join(take.text for take in joined.takes)
        assert joined.noise is None
        assert len(joined.takes) > 6 or len({take.id for take in joined.takes}) == len(joined.takes)
        rest = joined.samples.copy()
        before = 0.0
        for take in joined.takes:
            original = AudioReader(8000).read(folder / f"{take.id}.wav").samples
            first = round(take.start * 8000)
            part = joined.samples[first : first + len(original)]
            np.testing.assert_allclose(part, original * 10 ** (take.gain / 20), rtol=1e-5, atol=1e-7)
            assert round(take.end * 8000) == first + len(original)
            assert f"_{joined.speaker}_" in take.id
            assert take.id.startswith(take.text)
            assert -6 <= take.gain <= 0
            assert 0.049 < take.start - before < 0.401
            before = take.end
            rest[first : first + len(original)] = 0
        assert not rest.any()
        assert 0.049 < joined.seconds - before < 0.401
    assert counts == {3, 4, 5, 6, 7}


def test_noise_and_loudness(folder: Path) -> None:
    quiet = JoinSettings(kind="none", gain=(-20, -20))
    bare = joiner(folder, quiet).joined(0)
    for kind in ("white", "pink"):
        loud = joiner(folder, JoinSettings(kind=kind, gain=(-20, -20), noise=(10, 10))).joined(0)
        assert loud.takes == bare.takes
        noise = (loud.samples - bare.samples).astype(np.float64)
        ratio = 10 * np.log10(np.mean(bare.samples.astype(np.float64) ** 2) / np.mean(noise**2))
        assert abs(ratio - 10) < 0.5
        assert loud.noise == 10
    assert np.abs(joiner(folder, JoinSettings(kind="none", gain=(30, 30))).joined(0).samples).max() <= 0.981


def same(one: JoinedRecording, other: JoinedRecording) -> bool:
    return one.samples.tobytes() == other.samples.tobytes() and one[1:] == other[1:]


def test_the_seed_and_the_number_decide(folder: Path) -> None:
    maker = joiner(folder, JoinSettings())
    later = maker.joined(5)
    assert same(later, joiner(folder, JoinSettings()).joined(5))
    assert not same(later, maker.joined(6))
    assert not same(later, joiner(folder, JoinSettings(), seed=1).joined(5))
    # The order in which files are named does not matter.
    takes = list(UtteranceReader(folder, pattern=PATTERN))
    assert same(later, RecordingJoiner(takes[::-1], AudioReader(8000)).joined(5))
    mixed = [joiner(folder, JoinSettings(one_speaker=False)).joined(number) for number in range(5)]
    assert all(each.speaker is None for each in mixed)
    assert any(len({take.id.split("_")[1] for take in each.takes}) == 2 for each in mixed)


def test_settings_that_cannot_be_are_refused() -> None:
    pytest.importorskip("soundfile")
    for settings in ({"takes": (0, 3)}, {"takes": (5, 3)}, {"gap": (0.5, 0.1)}, {"noise": (0, 500)}, {"kind": "brown"}):
        with pytest.raises(ConfigError):
            JoinSettings(**settings)  # type: ignore[arg-type]
    with pytest.raises(DataError, match="no recording to join"):
        RecordingJoiner([], AudioReader(8000))


def test_the_script_writes_what_can_be_read_again(folder: Path, tmp_path: Path) -> None:
    command = [sys.executable, str(SCRIPT), "--recordings", str(folder), "--count", "5"]
    done = [
        subprocess.run([*command, "--part", part, "--output", tmp_path / name], capture_output=True, text=True)
        for part, name in (("test", "a"), ("test", "b"), ("train", "c"))
    ]
    assert [each.returncode for each in done] == [0, 0, 0], done[0].stderr
    assert "5 strings of 6 recordings" in done[0].stdout
    for name in ("utterances.jsonl", "test-00003.wav"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    for part, number in (("a", 1), ("c", 7)):
        utterances = list(UtteranceReader(tmp_path / part / "utterances.jsonl"))
        assert len(utterances) == 5
        lines = (tmp_path / part / "utterances.jsonl").read_text().splitlines()
        for utterance, line in zip(utterances, lines, strict=True):
            tree = json.loads(line)
            recording = AudioReader(8000).read(utterance.audio, utterance.start, utterance.end)
            assert recording.seconds == tree["duration"]
            assert utterance.text == " ".join(take["id"][0] for take in tree["takes"])
            assert all(take["id"].endswith(f"_{number}") for take in tree["takes"])
    done = [
        subprocess.run([*command, "--part", "test", *more, "--output", tmp_path / "d"], capture_output=True, text=True)
        for more in (["--only", "ann", "--leave-out", "ann"], ["--leave-out", "ann"])
    ]
    assert "There is no recording to join" in done[0].stderr
    assert {each.speaker for each in UtteranceReader(tmp_path / "d" / "utterances.jsonl")} == {"bob"}
    again = subprocess.run([*command, "--part", "test", "--output", tmp_path / "a"], capture_output=True, text=True)
    assert again.returncode == 1
    assert "is not empty; name a new folder" in again.stderr
    assert "Traceback" not in again.stderr


def test_a_manifest_line_says_all(folder: Path) -> None:
    joined = joiner(folder, JoinSettings()).joined(0)
    line = json.loads(json.dumps(described(joined)))
    assert line["text"] == joined.text
    assert [take["id"] for take in line["takes"]] == [take.id for take in joined.takes]
    assert line["duration"] == joined.seconds
