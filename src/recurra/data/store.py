"""Examples of any system, prepared once into a file that is mapped into memory, larger than memory if need be.

A store NAME is three files. NAME.arrow is a stream of Apache Arrow, which pyarrow, polars and datasets read too, in
parts of some thousand examples. NAME.lengths.npy holds the lengths of all examples, so that batches of like lengths
are made without a look at the examples. NAME.json says what the other two hold, where each part lies and what its
checksum is.
"""

from __future__ import annotations

import zlib
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from pydantic import TypeAdapter, ValidationError

from ..errors import RunError
from ..files import regular
from ..strict_json import read_json
from .store_format import FORMAT, Header, Rows, examples_file, header_file, lengths_file, schema

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["ExampleStore"]


class ExampleStore:
    """Examples of a store by their numbers, read from its file as they are asked for.

    Opening a store checks its sizes and lengths. A part is checked when an example of it is first asked for: its
    checksum, and everything that its lists and texts point to, so that no damage leads out of the mapped file.

    Attributes:
        about: what its writer said of it.
        sources: the files that it was made from.
    """

    def __init__(self, path: Path, header: Header, lengths: npt.NDArray[np.int64]) -> None:
        self.about = header.about
        self.sources = tuple(header.sources)
        self._path = path
        self._columns = header.columns
        self._header = header
        self._schema = schema(header.columns)
        self._lengths = {
            name: lengths[:, place]
            for place, name in enumerate(name for name, kind in header.columns.items() if kind.endswith("[]"))
        }
        self._starts = [0, *accumulate(part.rows for part in header.parts)]
        self._bytes = np.memmap(examples_file(path), np.uint8, mode="r") if header.size else np.empty(0, np.uint8)
        self._parts: list[dict[str, Any] | None] = [None] * len(header.parts)
        self._below: dict[str, int] = {}

    @classmethod
    def open(cls, path: Path) -> ExampleStore:
        """Open what `StoreWriter.finish` completed under this name.

        Raises:
            RunError: if a file of it is missing or damaged, or was written by a newer version.
        """
        try:
            tree: Any = read_json(regular(header_file(path)).read_text(encoding="utf-8"))
            if isinstance(tree, dict) and type(tree.get("format")) is int and tree["format"] > FORMAT:
                raise RunError(
                    f"{header_file(path)}: prepared examples of format {tree['format']} need a newer recurra; prepare "
                    "them again."
                )
            header = TypeAdapter(Header).validate_python(tree)
            _check(header, regular(examples_file(path)).stat().st_size)
            lengths = _read_lengths(regular(lengths_file(path)), header)
            return cls(path, header, lengths)
        except OSError as error:
            raise RunError(
                f"{error.filename or path}: prepared examples cannot be read ({error.strerror or error}); prepare them "
                "again."
            ) from error
        except ValueError as error:
            raise RunError(
                f"{header_file(path)}: this is not the header of whole prepared examples ({_first_line(error)}); "
                "prepare them again."
            ) from error

    def __len__(self) -> int:
        return self._header.rows

    @property
    def columns(self) -> dict[str, str]:
        """The kind of each column, as given to `StoreWriter`."""
        return dict(self._columns)

    def lengths(self, column: str) -> npt.NDArray[np.int64]:
        """The length of each example's list in a column of lists: (examples,), mapped from its file."""
        return self._lengths[column]

    def require_below(self, column: str, bound: int) -> None:
        """Have numbers of a column checked to lie from 0 to below a bound, as token ids must; see `take`."""
        self._below[column] = bound
        self._parts = [None] * len(self._parts)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """One example: its columns by name, lists of numbers as read-only arrays that lie in the file.

        Raises:
            IndexError: if there is no such example.
            RunError: if the part of the file that it lies in is damaged.
        """
        return {name: values[0] for name, values in self.take([index]).items()}

    def take(self, indices: Iterable[int]) -> dict[str, list[Any]]:
        """The columns of some examples, each in the order of `indices`; see `__getitem__`."""
        taken: dict[str, list[Any]] = {name: [] for name in self._columns}
        for index in map(int, indices):
            if not 0 <= index < len(self):
                raise IndexError(f"there is no example {index} among {len(self)}")
            number = bisect_right(self._starts, index) - 1
            part = self._parts[number]
            if part is None:
                part = self._parts[number] = self._load(number)
            row = index - self._starts[number]
            for name, held in part.items():
                if isinstance(held, Rows):
                    taken[name].append(held.values[held.starts[row] : held.starts[row + 1]])
                else:
                    value = held[row]
                    taken[name].append(value if isinstance(held, np.ndarray) else value.as_py())
        return taken

    def parts(self) -> Iterator[dict[str, Any]]:
        """The examples in their order, some thousand at a time: texts as lists, lists as `Rows`, numbers as arrays."""
        for number in range(len(self._parts)):
            part = self._load(number)
            yield {
                name: held if isinstance(held, Rows | np.ndarray) else held.to_pylist() for name, held in part.items()
            }

    def chosen_parts(self, chosen: npt.NDArray[np.bool_]) -> Iterator[tuple[dict[str, Any], list[bool]]]:
        """The parts, each with which of its examples are chosen.

        Args:
            chosen: (examples,).
        """
        for start, stop, part in zip(self._starts, self._starts[1:], self.parts(), strict=False):
            yield part, chosen[start:stop].tolist()

    def _load(self, number: int) -> dict[str, Any]:
        import pyarrow as pa

        part = self._header.parts[number]
        data = self._bytes[part.start : part.stop]
        try:
            if zlib.crc32(data.data) != part.crc32:
                raise ValueError("its checksum is another")
            batch = pa.ipc.read_record_batch(pa.py_buffer(data), self._schema)
            batch.validate(full=True)
            if len(batch) != part.rows or any(column.null_count for column in batch.columns):
                raise ValueError("examples are missing")
            held = {
                name: _held(column, kind)
                for (name, kind), column in zip(self._columns.items(), batch.columns, strict=True)
            }
            for name, column in held.items():
                self._check_column(number, name, column)
        except (pa.ArrowException, ValueError, OSError) as error:
            raise RunError(
                f"{examples_file(self._path)}: prepared examples are damaged from byte {part.start} on "
                f"({_first_line(error)}); remove this file, and they are prepared again."
            ) from error
        return held

    def _check_column(self, number: int, name: str, column: Any) -> None:
        if isinstance(column, Rows):
            said = self._lengths[name][self._starts[number] : self._starts[number + 1]]
            if not np.array_equal(np.diff(column.starts), said):
                raise ValueError(f"{name} has other lengths than {lengths_file(self._path).name} says")
        bound = self._below.get(name)
        values = column.values if isinstance(column, Rows) else column
        if bound is not None and len(values) and not 0 <= values.min() <= values.max() < bound:
            raise ValueError(f"{name} has numbers outside of 0 to {bound - 1}")


def _check(header: Header, size: int) -> None:
    if size != header.size:
        raise ValueError(f"the examples have {size} bytes instead of {header.size}")
    place = 0
    for part in header.parts:
        if not place <= part.start < part.stop <= size:
            raise ValueError("its parts do not fit the file")
        place = part.stop
    if sum(part.rows for part in header.parts) != header.rows:
        raise ValueError("its parts have other numbers of examples")


def _read_lengths(path: Path, header: Header) -> npt.NDArray[np.int64]:
    shape = (header.rows, sum(kind.endswith("[]") for kind in header.columns.values()))
    # What stands before the numbers tells other readers their shape, which is known here.
    offset = header.lengths_size - 8 * shape[0] * shape[1]
    if path.stat().st_size != header.lengths_size or offset < 0:
        raise ValueError(f"{path.name} has another size")
    if not shape[0] * shape[1]:
        return np.zeros(shape, np.int64)
    lengths = np.asarray(np.memmap(path, "<i8", "r", offset, shape))
    if zlib.crc32(lengths.reshape(-1).data) != header.lengths_crc32 or lengths.min() < 0:
        raise ValueError(f"{path.name} is damaged")
    return lengths


def _held(column: pa.Array, kind: str) -> Any:
    if kind == "text":
        return column
    if kind.endswith("[]"):
        return Rows(column.values.to_numpy(), column.offsets.to_numpy())
    return column.to_numpy()


def _first_line(error: Exception) -> str:
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
    return str(error).partition("\n")[0]
