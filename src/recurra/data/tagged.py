"""Sentences of tagged words: read from CoNLL-U, columns, JSON lines or plain text, and written back with other tags.

A file is tagged piece by piece, so that a document of any size passes through:

    for piece in TaggedReader(["dev.conllu"], ["upos"]).pieces():
        output.write(rewritten(piece, {"upos": tag(piece.words)}))

where `tag` gives a tag for each word.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import ConfigError, DataError
from ..names import nearest
from .source_files import SourceFile
from .tagged_formats import Format, JsonLines, Plain, Tags
from .tagged_rows import Columns, Conllu
from .text import expand_paths, name_of, read_lines

__all__ = ["FORMATS", "TaggedReader", "TaggedSentence", "format_of", "rewritten"]

FORMATS: dict[str, type[Format]] = {"conllu": Conllu, "columns": Columns, "jsonl": JsonLines, "plain": Plain}
"""The formats by their names."""

_ENDINGS = {
    "conllu": (".conllu",),
    "jsonl": (".jsonl", ".ndjson"),
    "columns": (
        *(".tsv", ".txt", ".tab", ".col", ".conll", ".conll2003", ".ner", ".pos"),
        *(".bio", ".iob", ".iob1", ".iob2", ".iobes", ".bioes", ".bilou", ".bmes"),
    ),
}


@dataclass(frozen=True, slots=True)
class TaggedSentence:
    """A sentence with the tags of its words.

    Attributes:
        words: of the sentence; none for a piece of a file between sentences.
        tags: for each tag column that was asked for, under the name it was asked for by, as many tags as words; None
            where the file has none.
        file: what errors call the file.
        line: number of the sentence's first line, which may be a comment, from 1.
        text: its lines as they are in the file, with the empty line that ends it, each ended by a line feed.
        format: what read it.
    """

    words: tuple[str, ...]
    tags: Tags
    file: str
    line: int
    text: str
    format: Format


class TaggedReader:
    """The sentences of files, read one by one; memory holds the longest sentence, whatever the size of the files.

    Iterating gives the sentences that have words; `pieces` gives the rest of each file too, to write it back. What the
    columns of each format are called, and what each counts as a word, is said at `Conllu` and `Columns` in
    `recurra.data.tagged_rows` and at `JsonLines` and `Plain` in `recurra.data.tagged_formats`:

    ========= ========================================= =============== ==============
    format    columns are called                        words, if None  tags, if None
    ========= ========================================= =============== ==============
    conllu    form, lemma, upos, xpos, ... or 2 to 10   form            upos
    columns   1, 2, 3, ... or last                      1               last
    jsonl     keys, or paths of keys parted by dots     words           tags
    plain     (has none)                                                (none)
    ========= ========================================= =============== ==============

    Args:
        paths: files, globs, folders, or - for standard input.
        tags: the tag columns.
        words: the column of the words.
        format: one of `FORMATS`; None: known by the ending of each file's name, before `.gz` if it has that.
        need_tags: whether it is an error if a tag column is missing or a tag is empty. Without, the tags of such a
            sentence are None, and there may be no sentence; this is for sentences that are to be tagged.

    Attributes:
        files: that were read to their ends.

    Raises:
        ConfigError: from the iteration, if a format or a column has not such a name, or a column has two.
        DataError: from the iteration, if a file cannot be read or is not UTF-8, its ending tells no format, no file has
            a sentence, or a line is not what the format asks for; file and line are named.
    """

    def __init__(
        self,
        paths: str | Path | Sequence[str | Path],
        tags: Sequence[str | int] | None = None,
        *,
        words: str | int | None = None,
        format: str | None = None,
        need_tags: bool = True,
    ) -> None:
        self.files: list[SourceFile] = []
        self._paths = [paths] if isinstance(paths, (str, Path)) else list(paths)
        self._tags = None if tags is None else [str(name) for name in tags]
        self._words = None if words is None else str(words)
        self._format, self._need_tags = format, need_tags

    def __iter__(self) -> Iterator[TaggedSentence]:
        return (piece for piece in self.pieces() if piece.words)

    def pieces(self) -> Iterator[TaggedSentence]:
        """All that the files hold, in order: sentences, and without words what is between them.

        Comments without a sentence and empty lines in a row are such pieces. The `text` of all pieces together is that
        of the files, but for line ends, which are line feeds (the last line has one too), and byte order marks, which
        are left out.
        """
        self.files = []
        some = False
        paths = expand_paths(self._paths)
        kinds = [FORMATS[format_of(name_of(path), self._format)] for path in paths]
        for path, kind in zip(paths, kinds, strict=True):
            format = kind(name_of(path), self._tags, self._words, self._need_tags)
            for line, lines in format.pieces(read_lines(path, self.files)):
                words, tags = format.read(line, lines)
                some = some or bool(words)
                text = "".join(f"{each}\n" for each in lines)
                yield TaggedSentence(words, tags, format.file, line, text, format)
        if not some and self._need_tags:
            names = ", ".join(map(name_of, paths[:3])) + (", ..." if len(paths) > 3 else "")
            raise DataError(f"{names}: there is no sentence with words in it; give a file with sentences.")


def rewritten(sentence: TaggedSentence, tags: Mapping[str | int, Sequence[str]]) -> str:
    """The text of a sentence with other tags, and all else of it as it is in the file.

    Comments, multiword tokens, empty nodes, other columns, other keys and odd spaces stay byte for byte; only line ends
    are line feeds, even where the file has CR LF. A column that the file lacks is added after its last, a key at the
    end of its object. A sentence of plain text comes out in columns, see `Plain`.

    Args:
        sentence: as it was read; without words, its text comes back.
        tags: for some of the columns in `sentence.tags`, or all of them, a new tag for each word.

    Raises:
        DataError: if a tag cannot be written in the sentence's format: it is empty, or has a tab, a line end or, where
            spaces part the columns, a space.
        ValueError: if there are not as many tags as words, or the sentence was read without such a column.
    """
    new = {str(name): column for name, column in tags.items()}
    for name, column in new.items():
        if name not in sentence.tags:
            raise ValueError(f"the sentence was read without the column {name!r}, with {', '.join(sentence.tags)}")
        if len(column) != len(sentence.words):
            raise ValueError(f"{len(column)} tags in the column {name!r} for {len(sentence.words)} words")
    if not new or not sentence.words:
        return sentence.text
    lines = sentence.format.write(sentence.line, sentence.text.split("\n")[:-1], new)
    return "".join(f"{line}\n" for line in lines)


def format_of(file: str, name: str | None = None) -> str:
    """Which of `FORMATS` a file has.

    Args:
        file: its name.
        name: of its format, if the user gave one; None: the ending of the file's name tells it.

    Raises:
        ConfigError: if there is no format of this name.
        DataError: if the ending tells nothing.
    """
    if name is not None:
        if name not in FORMATS:
            guess = nearest(name, FORMATS)
            raise ConfigError(
                f"There is no format {name!r}; " + (f"the nearest is {guess}." if guess else f"use {_names()}.")
            )
        return name
    plain = file.lower().removesuffix(".gz")
    for format, endings in _ENDINGS.items():
        if plain.endswith(endings):
            return format
    raise DataError(f"{file}: its name does not tell what format it has; name the format, {_names()}.")


def _names() -> str:
    *others, last = FORMATS
    return f"{', '.join(others)} or {last}"
