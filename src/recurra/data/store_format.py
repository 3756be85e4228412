"""What the writer and the reader of a store of examples share: the names of its files, its header, kinds of columns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import numpy as np
import numpy.typing as npt
from pydantic import ConfigDict, Field, StrictInt, StrictStr

from ..bounds import LARGEST
from .source_files import SourceFile

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["FORMAT", "Header", "Part", "Rows", "arrow_type", "examples_file", "header_file", "lengths_file", "schema"]

FORMAT = 1
_NUMBERS = {np.dtype(kind + size).name for kind, sizes in (("i", "1248"), ("u", "1248"), ("f", "48")) for size in sizes}

_Count = Annotated[StrictInt, Field(ge=0, le=LARGEST)]


class Rows(NamedTuple):
    """Lists of numbers one after another.

    Attributes:
        values: (numbers,).
        starts: (rows + 1,) int64, where each list begins in `values`; the last is the number of values.
    """

    values: npt.NDArray[Any]
    starts: npt.NDArray[np.int64]

    def chosen(self, which: npt.NDArray[np.bool_]) -> Rows:
        """The rows for which `which`, (rows,), is true."""
        lengths = np.diff(self.starts)
        return Rows(self.values[np.repeat(which, lengths)], np.concatenate([[0], np.cumsum(lengths[which])]))


@dataclass(frozen=True)
class Part:
    __pydantic_config__ = ConfigDict(extra="forbid")

    rows: Annotated[StrictInt, Field(ge=1, le=LARGEST)]
    start: _Count
    stop: _Count
    crc32: _Count


@dataclass(frozen=True)
class Header:
    """The JSON of a store; `about` is of whoever prepared it."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    format: StrictInt
    columns: dict[str, StrictStr]
    rows: _Count
    size: _Count
    parts: list[Part]
    lengths_size: _Count
    lengths_crc32: _Count
    about: dict[str, Any]
    sources: list[SourceFile]


def examples_file(path: Path) -> Path:
    return path.with_name(path.name + ".arrow")


def lengths_file(path: Path) -> Path:
    return path.with_name(path.name + ".lengths.npy")


def header_file(path: Path) -> Path:
    return path.with_name(path.name + ".json")


def schema(columns: Mapping[str, str]) -> pa.Schema:
    import pyarrow as pa

    return pa.schema([pa.field(name, arrow_type(kind), nullable=False) for name, kind in columns.items()])


def arrow_type(kind: str) -> pa.DataType:
    import pyarrow as pa

    if kind == "text":
        return pa.large_utf8()
    if kind.removesuffix("[]") not in _NUMBERS:
        raise ValueError(f"{kind!r} is no kind of column")
    number = pa.from_numpy_dtype(np.dtype(kind.removesuffix("[]")))
    return pa.large_list(pa.field("item", number, nullable=False)) if kind.endswith("[]") else number
