"""Utterances in every form, and what is said of lines that are not what they should be."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path
from typing import Any

import pytest

from recurra.data.utterances import Keys, Utterance, UtteranceReader
from recurra.errors import ConfigError, DataError

FSDD = os.environ.get("RECURRA_FSDD")
"""The recordings of the Free Spoken Digit Dataset, where someone has them."""


def write(folder: Path, files: dict[str, str]) -> Path:
    """Texts in files; those with an ending of audio are looked for and not read."""
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(gzip.compress(text.encode(), mtime=0) if name.endswith(".gz") else text.encode())
    return folder


def found(path: Path, **options: Any) -> list[tuple[Any, ...]]:
    """Of each utterance: id, the name of its audio, start, end, text, speaker."""
    return [(each.id, each.audio.name, *each[2:6]) for each in UtteranceReader(path, **options)]


KALDI = {
    "wav.scp": "rec1 audio/a.wav\nrec2  audio/b.flac\n",
    "segments": "utt1 rec1 0.5 1.25\nutt2 rec1 1.25 -1\nutt3 rec2 0 2\n",
    "text": "utt1 seven  eight\nutt2\nutt3 nine\n",
    "utt2spk": "utt1 ann\nutt2 ann\nutt3 bob\n",
    "audio/a.wav": "",
    "audio/b.flac": "",
}


def test_a_kaldi_folder(tmp_path: Path) -> None:
    write(tmp_path, KALDI)
    assert found(tmp_path) == [
        ("utt1", "a.wav", 0.5, 1.25, "seven eight", "ann"),
        ("utt2", "a.wav", 1.25, None, "", "ann"),
        ("utt3", "b.flac", 0.0, 2.0, "nine", "bob"),
    ]
    first = next(iter(UtteranceReader([tmp_path])))
    assert first == Utterance(
        "utt1", tmp_path / "audio/a.wav", 0.5, 1.25, "seven eight", "ann", str(tmp_path / "segments"), 1
    )
    assert first.where == f"{tmp_path / 'segments'}:1"


def test_a_kaldi_folder_without_segments_and_speakers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path, KALDI | {"text": "rec2 two\nrec1 one\nutt9 nine\n"})
    (tmp_path / "segments").unlink()
    (tmp_path / "utt2spk").unlink()
    reader = UtteranceReader(tmp_path, form="kaldi")
    assert [each[4:6] for each in reader] == [("one", None), ("two", None)]
    assert "text:3: 1 texts belong to no utterance, the first to 'utt9'; they are left out" in capsys.readouterr().err
    assert {Path(file.name).name for file in reader.files} == {"wav.scp", "text"}


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"wav.scp": "rec1 sph2pipe -f wav x.sph |\nrec2 audio/b.flac\n"},
         r"segments:1: the recording is the output of the command 'sph2pipe -f wav x.sph \|', and commands are never"),
        ({"wav.scp": "rec1 audio/a.wav\n"}, r"segments:3: there is no recording 'rec2' in wav.scp"),
        ({"wav.scp": "rec1 audio/a.wav\nrec1 audio/b.flac\n"}, r"wav.scp:2: 'rec1' stands on line 1 already"),
        ({"wav.scp": "rec1\n"}, r"wav.scp:1: nothing stands after the name 'rec1'"),
        ({"wav.scp": "rec1 gone.wav\nrec2 audio/b.flac"}, r"segments:1: there is no audio file 'gone.wav'"),
        ({"segments": "utt1 rec1 0.5\n"}, r"segments:1: has 3 fields, and must have 4"),
        ({"segments": "utt1 rec1 a 1\n"}, r"segments:1: the start 'a' is no number of seconds"),
        ({"segments": "utt1 rec1 2 1\n"}, r"segments:1: ends at 1 s, which is not after its start at 2 s"),
        ({"segments": "utt1 rec1 -2 1\n"}, r"segments:1: the start is -2 seconds; it must be 0 or more"),
        ({"segments": "utt1 rec1 0 inf\n"}, r"segments:1: the end is inf seconds"),
        ({"text": "utt1 one\n"}, r"segments:2: there is no text of the utterance 'utt2'"),
    ],
)  # fmt: skip
def test_what_is_wrong_in_a_kaldi_folder_is_said(tmp_path: Path, files: dict[str, str], message: str) -> None:
    with pytest.raises(DataError, match=message):
        found(write(tmp_path, KALDI | files))


def test_no_command_is_ever_run(tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    write(tmp_path, {"wav.scp": f"rec1 touch {mark} |\n", "text": "rec1 one\n"})
    with pytest.raises(DataError, match="commands are never run"):
        found(tmp_path)
    assert not mark.exists()


NEMO = [
    {"audio_filepath": "a.wav", "duration": 1.5, "text": "one"},
    {"audio_filepath": "b.wav", "offset": 2, "duration": 1.5, "text": "", "speaker": 7},
]
LHOTSE = {
    "id": "cut-1", "start": 10.0, "duration": 5.0, "channel": 0, "type": "MonoCut",
    "supervisions": [
        {"id": "s1", "recording_id": "r", "start": -1.0, "duration": 3.0, "text": "one", "speaker": "ann"},
        {"recording_id": "r", "start": 2.5, "duration": 2.0, "text": "two"},
    ],
    "recording": {"id": "r", "sources": [{"type": "file", "channels": [0], "source": "a.wav"}]},
}  # fmt: skip


def lines(*trees: dict[str, Any]) -> str:
    return "".join(json.dumps(tree) + "\n\n" for tree in trees)


@pytest.mark.parametrize(
    ("name", "text", "options", "expected"),
    [
        ("m.jsonl", lines(*NEMO), {},
         [("m.jsonl-1", "a.wav", 0.0, 1.5, "one", None), ("m.jsonl-3", "b.wav", 2.0, 3.5, "", "7")]),
        ("m.json.gz", lines(NEMO[0]), {}, [("m.json.gz-1", "a.wav", 0.0, 1.5, "one", None)]),
        ("m.jsonl", lines(LHOTSE), {},
         [("s1", "a.wav", 9.0, 12.0, "one", "ann"), ("cut-1-2", "a.wav", 12.5, 14.5, "two", None)]),
        ("m.jsonl", lines({"audio": {"path": "a.wav", "sampling_rate": 8000}, "sentence": "one", "id": 5}), {},
         [("5", "a.wav", 0.0, None, "one", None)]),
        ("m.jsonl", lines({"x": {"f": "a.wav"}, "said": 1, "who": "ann", "from": "0.5", "to": 1, "n": "u"}),
         {"keys": Keys(audio="x.f", text="said", speaker="who", id="n", start="from", end="to")},
         [("u", "a.wav", 0.5, 1.0, "1", "ann")]),
        ("m.tsv", "client_id\tpath\tsentence\nann\ta.wav\t \"one\nbob\tb.wav\ttwo\n", {},
         [("m.tsv-2", "a.wav", 0.0, None, '"one', "ann"), ("m.tsv-3", "b.wav", 0.0, None, "two", "bob")]),
        ("m.csv", 'file,text,start,end\na.wav,"one, two",1,2.5\n', {},
         [("m.csv-2", "a.wav", 1.0, 2.5, "one, two", None)]),
        ("m.csv", "one,a.wav\ntwo,b.wav\n", {"keys": Keys(audio="2", text="1")},
         [("m.csv-1", "a.wav", 0.0, None, "one", None), ("m.csv-2", "b.wav", 0.0, None, "two", None)]),
        ("m.csv", "said,where\none,a.wav\n", {"keys": Keys(audio="where", text="1")},
         [("m.csv-2", "a.wav", 0.0, None, "one", None)]),
        ("m.csv", "said,where\none,a.wav\n", {"keys": Keys(audio="2", text="1", header=True)},
         [("m.csv-2", "a.wav", 0.0, None, "one", None)]),
        ("m.txt", "path\na.wav\n", {"form": "tsv", "need_text": False},
         [("m.txt-2", "a.wav", 0.0, None, None, None)]),
    ],
)  # fmt: skip
def test_rows(tmp_path: Path, name: str, text: str, options: dict[str, Any], expected: list[Any]) -> None:
    write(tmp_path, {name: text, "a.wav": "", "b.wav": ""})
    assert found(tmp_path / name, **options) == expected


def test_audio_is_found_beside_the_manifest_and_in_the_working_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, {"sub/m.jsonl": lines({"path": "a.wav", "text": "x"}), "a.wav": ""})
    with pytest.raises(DataError, match=r"m.jsonl:1: there is no audio file 'a.wav'"):
        found(tmp_path / "sub/m.jsonl")
    monkeypatch.chdir(tmp_path)
    assert next(iter(UtteranceReader("sub/m.jsonl"))).audio == Path("a.wav")
    write(tmp_path, {"sub/a.wav": ""})
    assert next(iter(UtteranceReader("sub/m.jsonl"))).audio == Path("sub/a.wav")


@pytest.mark.parametrize(
    ("name", "text", "options", "message"),
    [
        ("m.jsonl", "[1]\n", {}, "m.jsonl:1: is not one JSON object; write one utterance a line"),
        ("m.jsonl", '{"a": 1\n', {}, "m.jsonl:1: is not one JSON object"),
        ("m.jsonl", lines({"text": "x"}), {}, "there is no audio under any of the usual names"),
        ("m.jsonl", lines({"path": "a.wav", "text": "x"}), {"keys": Keys(audio="wave")},
         "there is no audio under 'wave'"),
        ("m.jsonl", lines({"path": "a.wav", "text": "x"}), {"keys": Keys(text="said")},
         "there is no text under 'said'"),
        ("m.jsonl", lines({"path": "a.wav"}), {}, "m.jsonl:1: there is no text of the utterance"),
        ("m.jsonl", lines({"path": "a.wav", "text": ["x"]}), {}, r"the text \['x'\] is no text"),
        ("m.jsonl", lines({"path": "a.wav", "text": True}), {}, "the text True is no text"),
        ("m.jsonl", '{"path": "a.wav", "text": "\\ud83d"}\n', {}, "half of a surrogate pair"),
        ("m.jsonl", lines({"path": "a.wav", "text": "x", "duration": -1}), {}, "the duration is -1 seconds"),
        ("m.jsonl", lines({"path": "a.wav", "text": "x", "duration": 0}), {}, "ends at 0 s, which is not after"),
        ("m.jsonl", lines({"path": "a.wav", "text": "x", "start": "soon"}), {}, "'soon' is no number of seconds"),
        ("m.jsonl", lines({"path": "a.wav", "text": "x", "id": "u"}, {"path": "a.wav", "text": "x", "id": "u"}), {},
         r"m.jsonl:3: the utterance 'u' was named at .*m.jsonl:1 before"),
        ("m.jsonl", lines({"path": "a\0.wav", "text": "x"}), {}, "is no name of an audio file"),
        ("m.jsonl", lines({"path": "a" * 5000, "text": "x"}), {}, "there is no audio file"),
        ("m.jsonl", lines({"path": "cat a.wav |", "text": "x"}), {}, "commands are never run"),
        ("m.jsonl", lines(LHOTSE | {"recording": {"sources": [{"type": "command", "source": "cat a.wav"}]}}), {},
         "the recording is of the type 'command', and neither commands nor addresses are followed"),
        ("m.jsonl", lines(LHOTSE | {"recording": {"sources": []}}), {}, "the recording of this cut is not one file"),
        ("m.jsonl", lines(LHOTSE | {"supervisions": [3]}), {}, "a supervision of this cut is no object"),
        ("m.jsonl", "", {}, "m.jsonl: there is no utterance in it"),
        ("m.csv", "text,path\none\n", {}, "m.csv:2: has 1 column, and the first line has 2"),
        ("m.csv", "text,text\na,b\n", {}, "names two columns 'text'"),
        ("m.csv", "a,b\n1,2\n", {}, "m.csv:2: there is no audio under any of the usual names"),
        ("m.xls", "", {}, "utterances are read from .jsonl, .csv and .tsv files and from folders"),
    ],
)  # fmt: skip
def test_what_is_wrong_in_rows_is_said(
    tmp_path: Path, name: str, text: str, options: dict[str, Any], message: str
) -> None:
    write(tmp_path, {name: text, "a.wav": ""})
    with pytest.raises(DataError, match=message):
        found(tmp_path / name, **options)


def test_a_folder_with_texts_beside(tmp_path: Path) -> None:
    write(tmp_path, {"b.wav": "", "b.txt": "two\n", "x/a.FLAC": "", "x/a.txt": "one\nhalf\n", "notes.md": "x"})
    assert found(tmp_path) == [
        ("b", "b.wav", 0.0, None, "two", None),
        ("x/a", "a.FLAC", 0.0, None, "one half", None),
    ]
    (tmp_path / "b.txt").unlink()
    with pytest.raises(DataError, match=r"b\.wav: there is no file b\.txt beside it with what is said"):
        found(tmp_path)
    assert [row[4] for row in found(tmp_path, need_text=False)] == [None, "one half"]
    with pytest.raises(DataError, match="there is no audio file in it"):
        found(write(tmp_path / "other", {"a.txt": "x"}))


def test_a_folder_with_transcripts_as_in_librispeech(tmp_path: Path) -> None:
    files = {f"19/198/19-198-000{number}.flac": "" for number in range(2)}
    write(tmp_path, files | {"19/198/19-198.trans.txt": "19-198-0000 NORTHANGER ABBEY\n19-198-0001\n19-198-7 X\n"})
    assert found(tmp_path) == [
        ("19-198-0000", "19-198-0000.flac", 0.0, None, "NORTHANGER ABBEY", None),
        ("19-198-0001", "19-198-0001.flac", 0.0, None, "", None),
    ]
    assert [each.line for each in UtteranceReader(tmp_path)] == [1, 2]


def test_audio_in_a_folder_of_its_own(tmp_path: Path) -> None:
    write(tmp_path, {"train.tsv": "path\tsentence\na.mp3\tx\n", "clips/a.mp3": ""})
    assert found(tmp_path / "train.tsv", audio_folder=tmp_path / "clips")[0][1:] == ("a.mp3", 0.0, None, "x", None)


def test_names_that_hold_what_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, {"in/7_jackson_32.wav": "", "in/0_theo_1.wav": ""})
    pattern = r"(?P<text>\d)_(?P<speaker>[a-z]+)_\d+"
    assert found(tmp_path, pattern=pattern) == [
        ("in/0_theo_1", "0_theo_1.wav", 0.0, None, "0", "theo"),
        ("in/7_jackson_32", "7_jackson_32.wav", 0.0, None, "7", "jackson"),
    ]
    monkeypatch.chdir(tmp_path)
    assert next(iter(UtteranceReader("in", pattern=pattern))).audio.is_file()
    with pytest.raises(DataError, match=r"0_theo_1\.wav: its name does not match the pattern"):
        found(tmp_path, pattern=r"(?P<text>\d+)")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"form": "names"}, "a regular expression with a group"),
        ({"pattern": "("}, "is no regular expression"),
        ({"pattern": r"\d"}, "has no group"),
        ({"pattern": r"(?P<text>\d)(?P<take>\d)"}, r"has groups that mean nothing \(take\)"),
        ({"form": "kaldy"}, "no form 'kaldy' of utterances; the nearest is kaldi"),
    ],
)
def test_options_that_cannot_be_are_refused(options: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        UtteranceReader("x", **options)  # type: ignore[arg-type]


def test_columns_without_names_must_be_numbered(tmp_path: Path) -> None:
    write(tmp_path, {"m.csv": "a.wav,x\n"})
    with pytest.raises(ConfigError, match="say the numbers of those with the audio"):
        found(tmp_path / "m.csv", keys=Keys(header=False))


@pytest.mark.skipif(not FSDD, reason="RECURRA_FSDD names no folder")
def test_spoken_digits() -> None:
    assert FSDD
    utterances = list(UtteranceReader(FSDD, pattern=r"(?P<text>\d)_(?P<speaker>[a-z]+)_\d+"))
    names = sorted(Path(FSDD).glob("*.wav"))
    assert [each.id for each in utterances] == [name.stem for name in names]
    assert [f"{each.text}_{each.speaker}" for each in utterances] == [name.stem.rpartition("_")[0] for name in names]
