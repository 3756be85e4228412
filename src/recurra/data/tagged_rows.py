"""Sentences with a word in each line and its tags in columns of the line: CoNLL-U, and columns of any number."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from ..errors import ConfigError
from ..names import nearest
from ..shown import counted
from ..strict_json import read_json
from .conllu_ids import IdOrder
from .tagged_formats import Format, Tags, is_blank

__all__ = ["Columns", "Conllu"]

_DOCUMENT = "-DOCSTART-"
_COMMENT = "# "
_AROUND = " \r"
_CELL = re.compile(r"[^ \r]+")


class _Rows(Format):
    """One word a line, its tags in other columns of the line.

    Attributes:
        width: how many columns there are; 0 until it is known.
        places: the index of each tag column; those that the file lacks come after its own.
        word: the index of the words.
    """

    width: int = 0
    word: int = 0
    by_tabs = True

    def __init__(self, file: str, tags: Sequence[str] | None, words: str | None, need_tags: bool) -> None:
        super().__init__(file, tags, words, need_tags)
        self.places: dict[str, int] = {}

    def rows(self, first: int, lines: list[str]) -> list[tuple[int, list[str]]]:
        """Which of the lines hold a word, each with its columns.

        Raises:
            DataError: if a line is not what the format asks for.
        """
        raise NotImplementedError

    def read(self, first: int, lines: list[str]) -> tuple[tuple[str, ...], Tags]:
        rows = self.rows(first, lines)
        if not rows:
            return (), dict.fromkeys(self.tags, ())
        columns = {
            name: None if place >= self.width else [cells[place].strip(_AROUND) for _, cells in rows]
            for name, place in self.places.items()
        }
        words = [cells[self.word].strip(_AROUND) for _, cells in rows]
        return self.checked(words, columns, [first + index for index, _ in rows])

    def write(self, first: int, lines: list[str], tags: Mapping[str, Sequence[str]]) -> list[str]:
        between = "\t" if self.by_tabs or self.width == 1 else " "
        self.check_writable(first, tags, between)
        columns = sorted((self.places[name], column) for name, column in tags.items())
        added = [place for place, _ in columns if place >= self.width]
        if added != [*range(self.width, self.width + len(added))]:
            raise ValueError(f"column {added[-1] + 1} cannot be added without the columns before it")
        written = list(lines)
        for word, (index, _) in enumerate(self.rows(first, lines)):
            line = lines[index]
            for place, column in columns:
                line = self._put(line, place, column[word]) if place < self.width else line + between + column[word]
            written[index] = line
        return written

    def _put(self, line: str, place: int, tag: str) -> str:
        """The line with a tag in a column, and the white space around it as it was."""
        if self.by_tabs:
            cells = line.split("\t")
            old = cells[place]
            start = len(old) - len(old.lstrip(_AROUND))
            cells[place] = old[:start] + tag + old[max(start, len(old.rstrip(_AROUND))) :]
            return "\t".join(cells)
        cell = [*_CELL.finditer(line)][place]
        return line[: cell.start()] + tag + line[cell.end() :]


class Conllu(_Rows):
    """CoNLL-U: ten columns parted by tabs, comments that begin with #, multiword tokens and empty nodes.

    Columns are named as in `NAMES`, in small letters or capitals, or by their numbers from 1. Multiword tokens
    (`15-16`) and empty nodes (`8.1`) are no words and have no tags, but stay when a sentence is written. `_` is a tag
    like any other: in FEATS it says that a word has no features, and a file that was not tagged has nothing else.
    """

    NAMES = ("id", "form", "lemma", "upos", "xpos", "feats", "head", "deprel", "deps", "misc")
    own_tags = ("upos",)
    width = len(NAMES)

    def __init__(self, file: str, tags: Sequence[str] | None, words: str | None, need_tags: bool) -> None:
        super().__init__(file, tags, words, need_tags)
        self.word = self._place(words or "form")
        self.places = {name: self._place(name) for name in self.tags}
        if len({self.word, *self.places.values()}) <= len(self.places):
            raise ConfigError(f"{file}: a column is named twice, as {', '.join(self.tags)}; name each once.")

    def _place(self, name: str) -> int:
        named = name.lower()
        if named in self.NAMES[1:]:
            return self.NAMES.index(named)
        if named in map(str, range(2, self.width + 1)):
            return int(named) - 1
        guess = nearest(named, self.NAMES[1:])
        raise ConfigError(
            f"{self.file}: CoNLL-U has no column {name!r} of words or tags; "
            + (f"the nearest name is {guess}." if guess else f"it has {', '.join(self.NAMES[1:])}.")
        )

    def rows(self, first: int, lines: list[str]) -> list[tuple[int, list[str]]]:
        found = []
        order = IdOrder()
        for index, line in enumerate(lines):
            if line.startswith("#") or is_blank(line):
                continue
            cells = line.split("\t")
            if len(cells) != self.width:
                raise self.error(
                    first + index,
                    f"has {counted(len(cells), 'column')}, and CoNLL-U has {self.width}, parted by tabs; mend the "
                    "line, or name the format that the file has",
                )
            problem = order.problem(cells[0].strip(_AROUND))
            if problem:
                raise self.error(first + index, problem)
            if order.is_word:
                found.append((index, cells))
        problem = order.problem_at_end()
        if problem:
            raise self.error(first, problem)
        return found


class Columns(_Rows):
    """Columns parted by a tab, or by runs of spaces: whichever the first line with a word has holds for its file.

    Columns are named by their numbers from 1; `last` is the last one beside the words. Lines that begin with -DOCSTART-
    are no words, and begin a sentence. So are lines before a sentence's first word that begin with # and a space, as
    long as they have not as many columns as the file.
    """

    own_tags = ("last",)

    def __init__(self, file: str, tags: Sequence[str] | None, words: str | None, need_tags: bool) -> None:
        super().__init__(file, tags, words, need_tags)
        for name in (*self.tags, words or "1"):
            if not re.fullmatch("[1-9][0-9]{0,5}", name) and (name != "last" or name == words):
                raise ConfigError(
                    f"{file}: there is no column {name!r}; columns are named by numbers from 1, and the last tag "
                    "column is last."
                )
        self.word = int(words or 1) - 1
        self._shown = 0

    def begins(self, line: str) -> bool:
        return line.startswith(_DOCUMENT)

    def rows(self, first: int, lines: list[str]) -> list[tuple[int, list[str]]]:
        if not self.width:
            self._learn(first, lines)
        found: list[tuple[int, list[str]]] = []
        for index, line in enumerate(lines):
            if is_blank(line) or line.startswith(_DOCUMENT):
                continue
            cells = self._cells(line)
            if self.width and len(cells) == self.width:
                found.append((index, cells))
            elif found or not line.startswith(_COMMENT):
                has = f"has {counted(len(cells), 'column')}" if cells else "has a tab"
                raise self.error(
                    first + index,
                    f"{has}, but line {self._shown} has {counted(self.width, 'column')} parted by "
                    f"{'tabs' if self.by_tabs else 'spaces'}; mend the line",
                )
        return found

    def _cells(self, line: str) -> list[str]:
        """The columns of a line; none if it has a tab, and those of the file are parted by spaces."""
        if self.by_tabs:
            return line.split("\t")
        return [] if "\t" in line else _CELL.findall(line)

    def _learn(self, first: int, lines: list[str]) -> None:
        """Find out from the first sentence how many columns the file has, and what parts them."""
        rows = [
            (first + index, line)
            for index, line in enumerate(lines)
            if not is_blank(line) and not line.startswith((_DOCUMENT, _COMMENT))
        ]
        if not rows:
            return
        self._shown, line = rows[0]
        self.by_tabs = "\t" in line
        width = len(self._cells(line))
        self._refuse_other_formats(width, [line for _, line in rows])
        if self.word >= width:
            raise self.error(
                self._shown,
                f"has {counted(width, 'column')}, but the words are in column {self.word + 1}; name their column",
            )
        last = max(place for place in range(width + 1) if place != self.word and (place < width or width == 1))
        self.places = {name: last if name == "last" else int(name) - 1 for name in self.tags}
        if len({self.word, *self.places.values()}) <= len(self.places):
            raise ConfigError(f"{self.file}: the columns {', '.join(self.tags)} are not all different; name each once.")
        missing = sorted(place for place in self.places.values() if place >= width)
        if missing and (self.need_tags or missing != [*range(width, width + len(missing))]):
            raise self.error(
                self._shown,
                f"has {counted(width, 'column')}, but tags are to be in column {missing[-1] + 1}; mend the file or "
                "name another column",
            )
        self.width = width

    def _refuse_other_formats(self, width: int, lines: list[str]) -> None:
        if lines[0].startswith("{"):
            try:
                read_json(lines[0])
            except ValueError:
                return
            raise self.error(self._shown, "is a JSON object, not columns; name the format jsonl")
        # CoNLL-U has other IDs among those of the words.
        ids = [cells[0] for cells in map(self._cells, lines) if cells and cells[0].isdecimal()]
        if self.words is None and width >= 3 and len(ids) >= 3 and ids == [*map(str, range(1, len(ids) + 1))]:
            raise self.error(
                self._shown,
                "the first column counts the words instead of holding them; name the column of the words, or the "
                "format conllu",
            )
