"""A text as one long row of token ids in a memory-mapped file, made once and larger than memory if need be."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import ConfigDict, Field, StrictInt, StrictStr, TypeAdapter

from ..bounds import LARGEST
from ..errors import RunError
from ..files import regular, unwritten
from ..strict_json import read_json
from .source_files import SourceFile
from .text import PIECE_SIZE, Progress, read_text
from .tokenizer import Tokenizer

__all__ = ["TokenStream", "prepare"]

_FORMAT = 1
_BLOCK = 1 << 22


_Count = Annotated[StrictInt, Field(ge=0, le=LARGEST)]


@dataclass(frozen=True)
class _Header:
    """The JSON beside a token file; `spare_characters` are those that no token accounts for (spaces between words)."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    format: StrictInt
    dtype: Literal["<u2", "<u4"]
    tokens: _Count
    characters: Annotated[StrictInt, Field(ge=1, le=LARGEST)]
    words: _Count
    bytes: _Count
    spare_characters: Annotated[StrictInt, Field(ge=-LARGEST, le=LARGEST)]
    eos_id: _Count
    tokenizer: StrictStr
    token_characters: list[_Count]
    # Older headers do not tell which files were read.
    files: list[SourceFile] = field(default_factory=list)


class TokenStream:
    """The tokens of a text, read from a file as they are used, and how much text they stand for.

    Attributes:
        tokens: the ids, a read-only memory map (or a part of one) of uint16 or uint32, shape (tokens,).
        tokenizer_fingerprint: `Tokenizer.fingerprint` of the tokenizer that made it.
    """

    def __init__(self, tokens: np.ndarray, header: _Header, whole: bool = True) -> None:
        self.tokens: npt.NDArray[Any] = tokens
        self.tokenizer_fingerprint = header.tokenizer
        self._header = header
        if not whole:
            self._header = self._count()

    @classmethod
    def open(cls, path: str | Path) -> TokenStream:
        """Open what `prepare` wrote.

        Raises:
            RunError: if the file is missing, was not finished, is damaged, or was written by a newer version.
        """
        path = Path(path)
        try:
            tree = read_json(regular(_header_path(path)).read_text(encoding="utf-8"))
            version = tree["format"]
            if version > _FORMAT:
                raise RunError(f"{path}: prepared text of format {version} needs a newer recurra; prepare it again.")
            header = TypeAdapter(_Header).validate_python(tree)
            size = regular(path).stat().st_size
        except OSError as error:
            raise RunError(f"{path}: prepared text cannot be read ({error.strerror}); prepare it again.") from error
        except (ValueError, TypeError, KeyError) as error:
            raise RunError(f"{_header_path(path)}: this is not a header of prepared text; prepare it again.") from error
        dtype = np.dtype(header.dtype)
        if size != header.tokens * dtype.itemsize or not size:
            raise RunError(
                f"{path}: it has {size} bytes instead of {header.tokens * dtype.itemsize}; prepare the text again."
            )
        return cls(np.memmap(path, dtype, mode="r", shape=(header.tokens,)), header)

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def characters(self) -> int:
        """Code points of normalised text. In a slice of `word` tokens the spaces are an estimate; else it is exact."""
        return self._header.characters

    @property
    def files(self) -> list[SourceFile]:
        """The files that were read, as they were then; none where an older recurra prepared them."""
        return self._header.files

    @property
    def words(self) -> int:
        """Words between white space; in a slice an estimate from its share of the tokens."""
        return self._header.words

    @property
    def bytes(self) -> int:
        """Bytes of normalised text in UTF-8; in a slice an estimate from its share of the characters."""
        return self._header.bytes

    def is_of(self, vocab_size: int) -> bool:
        """Whether all ids are below this vocabulary size, and the header has the length of each of its tokens."""
        return len(self._header.token_characters) == vocab_size and int(self.tokens.max()) < vocab_size

    def slice(self, start: int, stop: int) -> TokenStream:
        """The tokens from `start` to before `stop` (as in Python), without copying them."""
        return TokenStream(self.tokens[start:stop], self._header, whole=False)

    def split(self, fraction: float) -> tuple[TokenStream, TokenStream]:
        """Two parts, the second with about `fraction` of the tokens, parted at a line end where one is near.

        The cut is moved to the next line end if that is within a tenth of the smaller part.
        """
        cut = min(max(round(len(self) * (1 - fraction)), 1), len(self) - 1)
        reach = max(1, min(cut, len(self) - cut) // 10)
        ends = np.flatnonzero(self.tokens[cut - 1 : cut - 1 + reach] == self._header.eos_id)
        if len(ends) and cut + int(ends[0]) < len(self):
            cut += int(ends[0])
        return self.slice(0, cut), self.slice(cut, len(self))

    def _count(self) -> _Header:
        whole = self._header
        lengths = np.array(whole.token_characters, np.int64)
        share = len(self.tokens) / whole.tokens
        spare = round(whole.spare_characters * share)
        blocks = (self.tokens[start : start + _BLOCK] for start in range(0, len(self.tokens), _BLOCK))
        characters = sum(int(lengths[block].sum()) for block in blocks) + spare
        return replace(
            whole,
            tokens=len(self.tokens),
            characters=characters,
            words=round(whole.words * share),
            bytes=round(whole.bytes * characters / whole.characters),
            spare_characters=spare,
        )


def prepare(
    paths: Sequence[str | Path], tokenizer: Tokenizer, out: str | Path, *, progress: Progress | None = None
) -> TokenStream:
    """Tokenise text once into a file of ids (uint16 if they fit, else uint32) with a JSON header beside it.

    Memory is bounded whatever the size of the text or of its lines. The file is written aside and renamed when it is
    whole; on failure nothing is left behind.

    Args:
        paths: the files, as `expand_paths` returns them.
        tokenizer: turns the text into ids.
        out: the file to write.
        progress: called with the bytes read so far and the bytes of all files.

    Raises:
        DataError: if the text cannot be read or is empty; see `read_text`.
        RunError: if the file cannot be written, for example for want of space.
    """
    out = Path(out)
    aside = out.with_name(out.name + ".tmp")
    header_aside = _header_path(aside)
    dtype = np.dtype("<u2" if tokenizer.vocab_size <= 1 << 16 else "<u4")
    lengths = tokenizer.token_characters
    tokens = characters = words = size = accounted = 0
    sources: list[SourceFile] = []
    pieces = read_text(paths, PIECE_SIZE, progress=progress, sources=sources)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with open(aside, "wb") as file:
            for piece in pieces:
                text = tokenizer.normalize(piece)
                ids = tokenizer.encode_normalized(text)
                file.write(ids.astype(dtype).tobytes())
                tokens += len(ids)
                characters += len(text)
                words += len(text.split())
                size += len(text.encode())
                accounted += int(lengths[ids].sum())
            file.flush()
            os.fsync(file.fileno())
        header = _Header(
            format=_FORMAT,
            dtype="<u2" if dtype.itemsize == 2 else "<u4",
            tokens=tokens,
            characters=characters,
            words=words,
            bytes=size,
            spare_characters=characters - accounted,
            eos_id=tokenizer.eos_id,
            tokenizer=tokenizer.fingerprint,
            token_characters=lengths.tolist(),
            files=sources,
        )
        with open(header_aside, "w", encoding="utf-8") as file_of_header:
            json.dump(asdict(header), file_of_header)
            file_of_header.flush()
            os.fsync(file_of_header.fileno())
        # The header goes last and comes first off: with it in place, the tokens beside it are its own.
        _header_path(out).unlink(missing_ok=True)
        aside.replace(out)
        header_aside.replace(_header_path(out))
    except OSError as error:
        raise RunError(f"{out}: the prepared text cannot be written {unwritten(error)}.") from error
    finally:
        aside.unlink(missing_ok=True)
        header_aside.unlink(missing_ok=True)
    return TokenStream.open(out)


def _header_path(path: Path) -> Path:
    return path.with_name(path.name + ".json")
