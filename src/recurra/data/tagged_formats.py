"""How sentences of tagged words stand in a file: what all formats have in common, JSON lines and plain text.

Each format is a class that knows where a sentence ends, which words and tags its lines hold, and how to write other
tags into those lines. CoNLL-U and columns are in `tagged_rows`, the reader is in `tagged`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from ..errors import ConfigError, DataError
from ..strict_json import read_json
from .json_lines import has_half_pair, under, with_list

__all__ = ["Format", "JsonLines", "Plain", "Tags", "is_blank"]

Tags = dict[str, tuple[str, ...] | None]
"""For each tag column its tags, one a word; None where the file has none."""


def is_blank(line: str) -> bool:
    """Whether a line ends a sentence: nothing is in it, or nothing but spaces and tabs."""
    return not line.strip(" \t\r")


class Format:
    """What the formats have in common; an object reads one file.

    Args:
        file: what errors call the file.
        tags: the tag columns, as the format names them; None: the format's own.
        words: where the words are, as the format names it; None: the format's own place.
        need_tags: whether a tag column that the file lacks, or an empty tag, is an error; else its tags are None.

    Raises:
        ConfigError: if the format has no such columns.
    """

    own_tags: tuple[str, ...] = ()

    def __init__(self, file: str, tags: Sequence[str] | None, words: str | None, need_tags: bool) -> None:
        self.file, self.words, self.need_tags = file, words, need_tags
        self.tags = self.own_tags if tags is None else tuple(tags)
        if len({*self.tags, words}) <= len(self.tags):
            raise ConfigError(f"{file}: a column is named twice ({', '.join(self.tags)}); name each once.")

    def pieces(self, lines: Iterable[str]) -> Iterator[tuple[int, list[str]]]:
        """Part the lines of a file: each sentence with the empty line after it, and the number of its first line.

        A further empty line is a piece of its own, so that no piece is longer than a sentence.
        """
        first = 1
        piece: list[str] = []
        for number, line in enumerate(lines, start=1):
            if piece and self.begins(line):
                yield first, piece
                first, piece = number, []
            piece.append(line)
            if is_blank(line):
                yield first, piece
                first, piece = number + 1, []
        if piece:
            yield first, piece

    def begins(self, line: str) -> bool:
        """Whether a sentence begins with this line even if no empty line stands before it."""
        return False

    def read(self, first: int, lines: list[str]) -> tuple[tuple[str, ...], Tags]:
        """The words and tags of a piece; no words if it has none.

        Args:
            first: the number of its first line.
            lines: of the piece.

        Raises:
            DataError: if the lines are not what the format asks for.
        """
        raise NotImplementedError

    def write(self, first: int, lines: list[str], tags: Mapping[str, Sequence[str]]) -> list[str]:
        """The lines of a piece with other tags, as many in each column as there are words; arguments as in `read`.

        Raises:
            DataError: if a tag cannot be written in this format.
        """
        raise NotImplementedError

    def error(self, line: int, problem: str) -> DataError:
        """An error that names the file and a line."""
        return DataError(f"{self.file}:{line}: {problem}.")

    def checked(
        self, words: Sequence[str], tags: Mapping[str, Sequence[str] | None], numbers: Sequence[int]
    ) -> tuple[tuple[str, ...], Tags]:
        """Words and tags, none of them empty.

        Args:
            words, tags: as read; the tags of a column that the file lacks are None.
            numbers: of the line of each word.

        Raises:
            DataError: if a word is empty, or a tag where tags are needed.
        """
        if "" in words:
            raise self.error(numbers[words.index("")], "there is an empty word; write it, or take its line out")
        found: Tags = {}
        for name, column in tags.items():
            found[name] = None if column is None or "" in column else tuple(column)
            if column is not None and "" in column and self.need_tags:
                place = column.index("")
                raise self.error(
                    numbers[place], f"the word {words[place]!r} has an empty tag in column {name}; write its tag"
                )
        return tuple(words), found

    def check_writable(self, first: int, tags: Mapping[str, Sequence[str]], between: str) -> None:
        """Raise DataError if a tag could not be read back from columns that are parted so, a tab or a space."""
        for tag in {tag for column in tags.values() for tag in column}:
            if not tag or tag.strip(" ") != tag or any(c in tag for c in f"\t\r\n{between}"):
                raise self.error(first, f"the tag {tag!r} cannot be written in this file's columns; write JSON lines")


class JsonLines(Format):
    """One JSON object a line, with a list of strings under the key of the words and under that of each tag column.

    A key with dots, such as `tokens.text`, is a path through nested objects.
    """

    own_tags = ("tags",)

    def pieces(self, lines: Iterable[str]) -> Iterator[tuple[int, list[str]]]:
        return ((number, [line]) for number, line in enumerate(lines, start=1))

    def read(self, first: int, lines: list[str]) -> tuple[tuple[str, ...], Tags]:
        if is_blank(lines[0]):
            return (), dict.fromkeys(self.tags, ())
        try:
            tree = read_json(lines[0])
        except ValueError as error:
            raise self.error(first, f"is not one JSON object ({error}); mend the line, or name the format") from error
        key = self.words or "words"
        words = self._strings(first, tree, key)
        if words is None:
            raise self.error(first, f"there are no words under the key {key!r}; mend the line or name another key")
        tags = {name: self._strings(first, tree, name) for name in self.tags}
        for name, column in tags.items():
            if column is None and self.need_tags:
                raise self.error(first, f"there are no tags under the key {name!r}; mend the line or name another key")
            if column is not None and len(column) != len(words):
                raise self.error(
                    first, f"has {len(words)} words, but {len(column)} tags under the key {name!r}; mend the line"
                )
        return self.checked(words, tags, [first] * len(words))

    def _strings(self, first: int, tree: object, key: str) -> list[str] | None:
        value = under(tree, key)
        if value is None:
            return None
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise self.error(
                first, f"what is under the key {key!r} is no list of strings; write each word and tag as a string"
            )
        if any(map(has_half_pair, value)):
            raise self.error(
                first, f"a string under the key {key!r} has half of a surrogate pair, which is no character; mend it"
            )
        return value

    def write(self, first: int, lines: list[str], tags: Mapping[str, Sequence[str]]) -> list[str]:
        text = lines[0]
        for name, column in tags.items():
            try:
                text = with_list(text, name, column)
            except ValueError as error:
                raise self.error(first, f"tags cannot be put under the key {name!r}: {error}") from error
        return [text]


class Plain(Format):
    """One sentence a line, its words parted by white space, without tags.

    There is no room for tags in such a line, so a tagged sentence is written in columns parted by tabs, the word first,
    and an empty line after it.
    """

    def __init__(self, file: str, tags: Sequence[str] | None, words: str | None, need_tags: bool) -> None:
        super().__init__(file, tags, words, need_tags)
        if self.words is not None or (self.tags and need_tags):
            raise ConfigError(f"{file}: plain text has no columns; name another format.")

    def pieces(self, lines: Iterable[str]) -> Iterator[tuple[int, list[str]]]:
        return ((number, [line]) for number, line in enumerate(lines, start=1))

    def read(self, first: int, lines: list[str]) -> tuple[tuple[str, ...], Tags]:
        words = tuple(lines[0].split())
        return words, dict.fromkeys(self.tags, None if words else ())

    def write(self, first: int, lines: list[str], tags: Mapping[str, Sequence[str]]) -> list[str]:
        self.check_writable(first, tags, "\t")
        return ["\t".join(row) for row in zip(lines[0].split(), *tags.values(), strict=True)] + [""]
