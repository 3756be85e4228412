"""Drawings read from the forms in which people keep them.

| form | what it is |
|---|---|
| inkml | one InkML document a file: traces with the channels X, Y and maybe T, and annotations |
| omniglot | one character a file: lines `x,y,milliseconds` between START and BREAK, with y upwards |
| jsonl | one JSON object a line, with strokes as QuickDraw has them, [[x, ...], [y, ...], [t, ...]], or as points |
| json | the same, with one such object in the file, or a list of them |

In all drawings y is downwards and times are in milliseconds, whatever the file has.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from ..errors import ConfigError, DataError
from ..names import nearest
from .ink import Drawing, ordered
from .ink_json import InkKeys, read_ink_json
from .ink_omniglot import read_omniglot
from .inkml import read_inkml
from .source_files import SourceFile
from .text import expand_paths

__all__ = ["FORMS", "InkKeys", "InkReader"]

FORMS = ("inkml", "omniglot", "jsonl", "json")

_ENDINGS = {
    ".inkml": "inkml",
    ".xml": "inkml",
    ".txt": "omniglot",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
}


class InkReader:
    """The drawings of files, one after another; memory holds one file of InkML or JSON, or one line.

    Args:
        paths: files, globs or folders.
        form: one of `FORMS`; None: told by the ending of each file's name.
        keys: where JSON objects and the annotations of InkML have what.
        pattern: a regular expression that finds label and writer in the path of a file, in groups of these names, with
            / between folders; it may match anywhere. What the file itself says goes before it. None: that of Omniglot's
            folders, such as Latin/character01/0683_01.txt, for its files, and nothing for others.
        by_time: whether points and strokes are put in the order of their times, for files that do not have them in the
            order of writing; else times that fall are raised to the one before them.
        need_label: whether it is an error if a drawing has no label; without, its label is None.

    Attributes:
        files: that were read to their ends.

    Raises:
        ConfigError: if the form or the pattern is wrong.
        DataError: from the iteration, if a file cannot be read, a drawing is not what it should be (file and line are
            named), or there is no drawing at all.
    """

    def __init__(
        self,
        paths: str | Path | Sequence[str | Path],
        *,
        form: str | None = None,
        keys: InkKeys | None = None,
        pattern: str | None = None,
        by_time: bool = False,
        need_label: bool = True,
    ) -> None:
        self.files: list[SourceFile] = []
        self._paths = [paths] if isinstance(paths, (str, Path)) else list(paths)
        if form is not None and form not in FORMS:
            guess = nearest(form, FORMS)
            raise ConfigError(
                f"There is no form {form!r} of drawings; "
                + (f"the nearest is {guess}." if guess else f"use {', '.join(FORMS[:-1])} or {FORMS[-1]}.")
            )
        self._form, self._keys, self._need_label = form, keys or InkKeys(), need_label
        self._by_time = by_time
        self._pattern = None if pattern is None else _compiled(pattern)

    def __iter__(self) -> Iterator[Drawing]:
        self.files.clear()
        some = False
        for path in expand_paths(self._paths):
            for drawing in self._of_file(path):
                if drawing.label is None and self._need_label:
                    raise DataError(
                        f"{drawing.where}: the drawing {drawing.id!r} has no label; write it, or say where it stands."
                    )
                some = True
                yield drawing
        if not some:
            names = ", ".join(map(str, self._paths[:3])) + (", ..." if len(self._paths) > 3 else "")
            raise DataError(f"{names}: there is no drawing in it; name other files.")

    def _of_file(self, path: Path) -> Iterator[Drawing]:
        form = self._form or _ENDINGS.get(path.suffix.lower())
        if form is None:
            raise DataError(
                f"{path}: drawings are read from .inkml, .txt, .jsonl and .json files; rename it, or say which form it "
                "has."
            )
        pattern = self._pattern or (_OMNIGLOT if form == "omniglot" else None)
        match = pattern.search(path.as_posix()) if pattern else None
        groups = match.groupdict() if match else {}
        label, writer = groups.get("label"), groups.get("writer")
        if form == "inkml":
            found = read_inkml(path, self._keys, self.files)
        elif form == "omniglot":
            found = read_omniglot(path, self.files)
        else:
            found = read_ink_json(path, form == "jsonl", self._keys, self.files)
        for drawing in found:
            yield drawing._replace(
                strokes=ordered(drawing.strokes, by_time=self._by_time and drawing.timed),
                label=label if drawing.label is None else drawing.label,
                writer=writer if drawing.writer is None else drawing.writer,
            )


_OMNIGLOT = re.compile(r"(?P<label>[^/]+/[^/]+)/\d+_(?P<writer>\d+)\.txt$")


def _compiled(pattern: str) -> re.Pattern[str]:
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise ConfigError(f"The pattern {pattern!r} is no regular expression ({error}); mend it.") from error
    groups = set(compiled.groupindex)
    if not groups or groups - {"label", "writer"}:
        raise ConfigError(
            f"The pattern {pattern!r} must have the groups (?P<label>...) or (?P<writer>...) and no others; mend it."
        )
    return compiled
