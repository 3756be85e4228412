"""Utterances: parts of recordings with what was said in them, read from the forms in which people keep them.

| form | what it is |
|---|---|
| kaldi | a folder with `wav.scp`, and with `segments`, `text` and `utt2spk` as far as there are such files |
| jsonl | one JSON object a line: the manifests of NeMo, lines of Hugging Face data sets, the cuts of Lhotse |
| csv | columns parted by commas, with quotes; the first line names the columns |
| tsv | columns parted by tabs; the first line names the columns |
| folder | audio files, with the text of each in a .txt file of the same name, or in LibriSpeech's .trans.txt |
| names | audio files whose names say what is spoken; a regular expression finds it in them |

A relative path to audio is looked for in the folder that is said to hold audio, beside the file that names it, and then
in the working folder.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from ..errors import ConfigError, DataError
from ..names import nearest
from .json_lines import has_half_pair
from .source_files import SourceFile
from .text import expand_paths, name_of, read_lines
from .utterances_kaldi import read_kaldi
from .utterances_rows import Keys, read_rows
from .utterances_said import Said, found_audio

__all__ = ["FORMS", "Keys", "Utterance", "UtteranceReader"]

FORMS = ("kaldi", "jsonl", "csv", "tsv", "folder", "names")

_ENDINGS = {".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "jsonl", ".csv": "csv", ".tsv": "tsv"}
_AUDIO = {".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff", ".sph", ".au", ".caf"}


class Utterance(NamedTuple):
    """A part of a recording, with what is known of it.

    Attributes:
        id: its name, which no other utterance of the same reader has.
        audio: the path of the recording.
        start, end: seconds of its part of the recording; an end of None is that of the recording.
        text: what is said, which may be nothing (""), with single spaces for any white space; None if it is not known.
        speaker: who speaks; None if that is not known.
        file, line: where the utterance is named; the line is counted from 1.
    """

    id: str
    audio: Path
    start: float
    end: float | None
    text: str | None
    speaker: str | None
    file: str
    line: int

    @property
    def where(self) -> str:
        """The place that names it, for errors."""
        return f"{self.file}:{self.line}"


class UtteranceReader:
    """The utterances of files and folders, one after another, in the order in which they are named.

    Args:
        paths: files, globs or folders.
        form: one of `FORMS`; None: told by the ending of a file's name, and of a folder by whether it has a `wav.scp`.
        keys: the columns of tables and the keys of JSON objects, where they have names of their own.
        pattern: for the form `names`: a regular expression that the whole name of each audio file, without its
            ending, matches. Its group `text` is what is said; the groups `speaker` and `id` need not be there. An
            example for names such as `7_jackson_32.wav` is `(?P<text>\\d)_(?P<speaker>[a-z]+)_\\d+`.
        audio_folder: where relative paths to audio are looked for first, such as the `clips` of Common Voice.
        need_text: whether it is an error if an utterance has no text; without, its text is None.

    Attributes:
        files: that were read to their ends; audio files are not among them.

    Raises:
        ConfigError: if the form or the pattern is wrong.
        DataError: from the iteration, if a file cannot be read, a line is not what it should be (file and line are
            named), an audio file is not there, a recording is the output of a command, two utterances have one name,
            or there is no utterance at all.
    """

    def __init__(
        self,
        paths: str | Path | Sequence[str | Path],
        *,
        form: str | None = None,
        keys: Keys | None = None,
        pattern: str | None = None,
        audio_folder: str | Path | None = None,
        need_text: bool = True,
    ) -> None:
        self.files: list[SourceFile] = []
        self._paths = [paths] if isinstance(paths, (str, Path)) else list(paths)
        self._form = "names" if form is None and pattern is not None else form
        if self._form is not None and self._form not in FORMS:
            guess = nearest(self._form, FORMS)
            raise ConfigError(
                f"There is no form {self._form!r} of utterances; "
                + (f"the nearest is {guess}." if guess else f"use {', '.join(FORMS[:-1])} or {FORMS[-1]}.")
            )
        self._keys, self._need_text = keys or Keys(), need_text
        self._folders = [] if audio_folder is None else [Path(audio_folder).expanduser()]
        self._pattern = _compiled(pattern, need_text) if self._form == "names" else None

    def __iter__(self) -> Iterator[Utterance]:
        self.files.clear()
        seen: dict[str, str] = {}
        for path in self._paths:
            for said in self._of_path(Path(path).expanduser()):
                utterance = self._checked(said)
                if utterance.id in seen:
                    raise DataError(
                        f"{utterance.where}: the utterance {utterance.id!r} was named at {seen[utterance.id]} before; "
                        "give each a name of its own."
                    )
                seen[utterance.id] = utterance.where
                yield utterance
        if not seen:
            names = ", ".join(map(str, self._paths[:3])) + (", ..." if len(self._paths) > 3 else "")
            raise DataError(f"{names or 'data'}: there is no utterance in it; name other files.")

    def _checked(self, said: Said) -> Utterance:
        where = f"{said.file}:{said.line}"
        audio = found_audio(said.audio, [*self._folders, Path(said.file).parent], where)
        if said.text is None and self._need_text:
            raise DataError(f"{where}: there is no text of the utterance {said.id!r}; write it, or leave it out.")
        if any(has_half_pair(each) for each in (said.id, said.text or "", said.speaker or "")):
            raise DataError(f"{where}: has half of a surrogate pair, which is no character; mend it.")
        text = None if said.text is None else " ".join(said.text.split())
        return Utterance(said.id, audio, said.start, said.end, text, said.speaker, said.file, said.line)

    def _of_path(self, path: Path) -> Iterator[Said]:
        form = self._form
        if form == "kaldi" or (form is None and (path / "wav.scp").is_file()):
            yield from read_kaldi(path, self.files)
        elif form in ("folder", "names") or (form is None and path.is_dir()):
            yield from self._of_audio(path)
        else:
            for file in expand_paths([path]):
                kind = form or _ENDINGS.get(Path(file.name.lower().removesuffix(".gz")).suffix)
                if kind is None:
                    raise DataError(
                        f"{name_of(file)}: utterances are read from .jsonl, .csv and .tsv files and from folders; "
                        "rename it, or say which form it has."
                    )
                yield from read_rows(file, kind, self._keys, self.files)

    def _of_audio(self, path: Path) -> Iterator[Said]:
        files = [file for file in expand_paths([path]) if file.suffix.lower() in _AUDIO]
        if not files:
            raise DataError(f"{path}: there is no audio file in it; name a folder with WAV, FLAC, Ogg or MP3 files.")
        transcribed = {} if self._pattern else self._transcribed(files)
        for file in files:
            name = file.relative_to(path).with_suffix("").as_posix() if path.is_dir() else file.stem
            if self._pattern:
                yield self._named(file, name)
            else:
                yield transcribed.get(file) or self._beside(file, name)

    def _named(self, file: Path, name: str) -> Said:
        assert self._pattern is not None
        found = self._pattern.fullmatch(file.stem)
        if found is None:
            raise DataError(
                f"{file}: its name does not match the pattern {self._pattern.pattern!r}; rename it, or give a pattern "
                "that all names match."
            )
        groups = found.groupdict()
        return Said(
            groups.get("id") or name,
            str(file.absolute()),
            0.0,
            None,
            groups.get("text"),
            groups.get("speaker"),
            str(file),
            1,
        )

    def _transcribed(self, files: Sequence[Path]) -> dict[Path, Said]:
        """The utterances of those audio files that LibriSpeech's transcripts beside them name."""
        found = {}
        by_name = {(file.parent, file.stem): file for file in files}
        for folder in dict.fromkeys(file.parent for file in files):
            for transcripts in sorted(folder.glob("*.trans.txt")):
                for number, line in enumerate(read_lines(transcripts, self.files), start=1):
                    name, _, text = line.strip().partition(" ")
                    file = by_name.get((folder, name))
                    if file is not None:
                        audio = str(file.absolute())
                        found[file] = Said(name, audio, 0.0, None, text.strip(), None, str(transcripts), number)
        return found

    def _beside(self, file: Path, name: str) -> Said:
        beside = file.with_suffix(".txt")
        text = None
        if beside.is_file():
            text = " ".join(" ".join(read_lines(beside, self.files)).split())
        elif self._need_text:
            raise DataError(f"{file}: there is no file {beside.name} beside it with what is said; write it.")
        return Said(name, str(file.absolute()), 0.0, None, text, None, str(beside if text is not None else file), 1)


def _compiled(pattern: str | None, need_text: bool) -> re.Pattern[str]:
    if pattern is None:
        raise ConfigError(
            "Names of audio files are read by a pattern; give a regular expression with a group (?P<text>...)."
        )
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise ConfigError(f"The pattern {pattern!r} is no regular expression ({error}); mend it.") from error
    groups = set(compiled.groupindex)
    if need_text and "text" not in groups:
        raise ConfigError(f"The pattern {pattern!r} has no group (?P<text>...) that says what is spoken; add it.")
    if groups - {"text", "speaker", "id"}:
        strange = ", ".join(sorted(groups - {"text", "speaker", "id"}))
        raise ConfigError(
            f"The pattern {pattern!r} has groups that mean nothing ({strange}); use text, speaker and id."
        )
    return compiled
