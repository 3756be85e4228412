"""Word vectors that others trained, from the files of word2vec, GloVe and fastText.

- **Text** (GloVe, `.vec` of fastText, word2vec): a line for each word, the word and then its numbers, with spaces
  between. word2vec and fastText put a header before, the number of words and of dimensions.
- **Binary** (word2vec, Mikolov et al. 2013, `word2vec.c`): the same header, then for each word its bytes, a space, the
  numbers as little-endian float32, and a line feed, which some files leave out.

Either may be packed with gzip. A file is read once from its beginning, and only the vectors that are wanted are kept.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ..errors import DataError
from .text import read_blocks, refuse_foreign
from .tokenizer import Tokenizer

__all__ = ["Vectors", "embedding_rows", "read_vectors"]

_HEADER = re.compile(rb"(\d{1,12})[ \t]+(\d{1,6})[ \t]*")
_MARK = b"\xef\xbb\xbf"
_FASTTEXT_MODEL = b"\xba\x16\x4f\x2f"
_HEAD = 1 << 16
_LONGEST_LINE = 1 << 22
_LONGEST_WORD = 1 << 16
_CONTROLS = frozenset(range(0x20)) - frozenset(b"\t\n\r")


@dataclass(frozen=True)
class Vectors:
    """The vectors found for wanted words.

    Attributes:
        index: places of the words found among those wanted, ascending, int64, shape (N,).
        rows: their vectors, float32, shape (N, D).
        wanted: how many words were wanted.
        duplicates: how many lines repeat a word that is wanted; the first one counts.
    """

    index: npt.NDArray[np.int64]
    rows: npt.NDArray[np.float32]
    wanted: int
    duplicates: int

    @property
    def share(self) -> float:
        """The share of the wanted words that have a vector."""
        return len(self.index) / self.wanted if self.wanted else 0.0


def read_vectors(path: str | Path, words: Sequence[str], *, lowercase_fallback: bool = True) -> Vectors:
    """Find the vectors of words in a file.

    Memory grows with the words that are wanted, not with the file. Numbers of other words are not looked at, but lines
    of text are checked for how many there are. A header may name more or fewer words than follow as text, so that files
    can be shortened.

    Args:
        path: text or binary, perhaps packed; told apart by their contents.
        words: each is looked up as it is.
        lowercase_fallback: whether a word that the file does not hold takes the vector of its lower case.

    Raises:
        DataError: if the file cannot be read, holds no vectors, is damaged (the line, or in a binary file the number of
            the vector, is named), or the vector of a wanted word holds a number that is not finite.
    """
    path = Path(path)
    wanted = set(words)
    if lowercase_fallback:
        wanted |= {word.lower() for word in wanted}
    found: dict[str, npt.NDArray[np.float32]] = {}
    duplicates = 0
    size = 0
    for word, where, vector in _entries(path, {word.encode("utf-8", "surrogatepass") for word in wanted}):
        size = len(vector)
        if not np.isfinite(vector).all():
            raise DataError(f"{path}: {where} holds a number that is not finite; mend or remove it.")
        if word in found:
            duplicates += 1
        else:
            found[word] = vector
    keys = [word if word in found or not lowercase_fallback else word.lower() for word in words]
    index = [place for place, key in enumerate(keys) if key in found]
    rows = np.empty((len(index), size), np.float32)
    for row, place in enumerate(index):
        rows[row] = found[keys[place]]
    return Vectors(np.array(index, np.int64), rows, len(words), duplicates)


def embedding_rows(tokenizer: Tokenizer, path: str | Path, *, lowercase_fallback: bool = True) -> Vectors:
    """Find the vectors of a vocabulary's tokens, by the text of each without the space before it.

    The line end, the unknown token, white space and loose bytes have none. A subword that is a part of words takes the
    vector of the word that is spelt like it.

    Args:
        tokenizer: whose vocabulary.
        path, lowercase_fallback: see `read_vectors`.

    Returns:
        `index` holds token ids; `wanted` counts the tokens that have a text.

    Raises:
        DataError: as `read_vectors`.
    """
    texts: dict[int, str] = {}
    for token, content in enumerate(tokenizer.vocabulary_bytes):
        if token in (tokenizer.eos_id, tokenizer.unk_id):
            continue
        try:
            text = content.decode().strip()
        except UnicodeDecodeError:
            continue
        if text:
            texts[token] = text
    found = read_vectors(path, list(texts.values()), lowercase_fallback=lowercase_fallback)
    tokens = np.fromiter(texts, np.int64, len(texts))
    return Vectors(tokens[found.index], found.rows, found.wanted, found.duplicates)


_Entry = tuple[str, str, npt.NDArray[np.float32]]
"""A wanted word, where in the file it stands, and its vector (D,)."""


def _entries(path: Path, wanted: set[bytes]) -> Iterator[_Entry]:
    blocks = read_blocks(path)
    head = b""
    for block in blocks:
        head += block
        if len(head) >= _HEAD:
            break
    refuse_foreign(path, head)
    if head.startswith(_FASTTEXT_MODEL):
        raise DataError(f"{path}: this is a model of fastText, not its vectors; name its .vec file.")
    head = head.removeprefix(_MARK)
    line, _, rest = head.partition(b"\n")
    header = _HEADER.fullmatch(line.rstrip(b"\r"))
    if header is None:
        return _from_text(path, chain([head], blocks), wanted, 0)
    count, size = int(header[1]), int(header[2])
    if not size:
        raise DataError(f"{path}: line 1 says that vectors have 0 dimensions; fetch the file again.")
    if _is_binary(rest, size):
        return _from_binary(path, chain([rest], blocks), wanted, count, size)
    return _from_text(path, chain([head], blocks), wanted, size)


def _is_binary(data: bytes, size: int) -> bool:
    """Whether what follows a header is no text."""
    line = data.partition(b"\n")[0]
    if _numbers(line.rsplit(None, size)[1:]) is not None:
        return False
    start = data[:_HEAD]
    try:
        start.decode()
    except UnicodeDecodeError as error:
        # The data may end inside a character.
        if len(start) - error.start > 3:
            return True
    return not _CONTROLS.isdisjoint(start)


def _from_text(path: Path, blocks: Iterable[bytes], wanted: set[bytes], size: int) -> Iterator[_Entry]:
    """The wanted entries of a text.

    Args:
        path: for messages.
        blocks: the file's bytes.
        wanted: words.
        size: D as the header has it; 0 where there is no header.
    """
    skipped = 1 if size else 0
    rows = 0
    for number, raw in enumerate(_lines(path, blocks), 1):
        line = raw.rstrip(b" \t\r")
        if number <= skipped or not line:
            continue
        # The word of the first line may have spaces in it.
        size = size or _trailing_numbers(line)
        if size and line.count(b" ") == size and b"\t" not in line:
            word, _, rest = line.partition(b" ")
            values = None
        else:
            # White space of any length, and spaces in the word.
            word, *values = line.rsplit(None, size) or [b""]
            blank = line[: len(line) - len(line.lstrip())]
            if blank and len(values) == size - 1:
                # The word itself is white space, before the space that parts it from its numbers.
                word, values = blank[:-1], [word, *values]
            if not size or len(values) != size:
                raise DataError(
                    f"{path}: line {number} has {len(values)} numbers after its word, not {size or 'at least one'}; "
                    "mend or remove it."
                )
        rows += 1
        if word in wanted:
            vector = _numbers(rest.split(b" ") if values is None else values)
            if vector is None:
                raise DataError(f"{path}: line {number} has something after its word that is no number; mend it.")
            yield word.decode("utf-8", "surrogatepass"), f"line {number}", vector
    if not rows:
        raise DataError(f"{path}: there are no vectors in it; name a file of word vectors.")


def _from_binary(path: Path, blocks: Iterable[bytes], wanted: set[bytes], count: int, size: int) -> Iterator[_Entry]:
    """The wanted entries of a binary file, after its header of `count` words and `size` dimensions."""
    width = 4 * size
    source = iter(blocks)
    data, place = b"", 0

    def grow() -> bool:
        nonlocal data, place
        block = next(source, b"")
        data, place = data[place:] + block, 0
        return bool(block)

    for number in range(1, count + 1):
        where = f"vector {number:,} of {count:,}"
        while (end := data.find(b" ", place)) < 0 or len(data) < end + 1 + width:
            if end < 0 and len(data) - place > _LONGEST_WORD:
                raise DataError(f"{path}: {where} has no word before it; the file is damaged, so fetch it again.")
            if not grow():
                raise DataError(f"{path}: the file ends in {where}; fetch it again.")
        word = data[place:end].lstrip(b"\n")
        place = end + 1 + width
        if word in wanted:
            vector = np.frombuffer(data, "<f4", size, end + 1).astype(np.float32)
            yield word.decode("utf-8", "surrogatepass"), where, vector


def _lines(path: Path, blocks: Iterable[bytes]) -> Iterator[bytes]:
    rest = b""
    for block in blocks:
        *lines, rest = (rest + block).split(b"\n")
        yield from lines
        if len(rest) > _LONGEST_LINE:
            raise DataError(
                f"{path}: a line has more than {_LONGEST_LINE:,} bytes, so this is no text of vectors; check the file."
            )
    yield rest


def _trailing_numbers(line: bytes) -> int:
    """How many numbers stand at the end of a line that begins with a word."""
    fields = line.split()[1:]
    numbers = 0
    while numbers < len(fields) and _numbers(fields[len(fields) - numbers - 1 :][:1]) is not None:
        numbers += 1
    return numbers


def _numbers(fields: Sequence[bytes]) -> npt.NDArray[np.float32] | None:
    """The numbers of a line; None where something is no number, or nothing is there."""
    try:
        found = [float(field) for field in fields]
    except ValueError:
        return None
    # Numbers beyond float32 become infinite, and are refused as such.
    with np.errstate(over="ignore"):
        return np.array(found, np.float32) if found else None
