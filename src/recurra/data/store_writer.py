"""Writing a store of examples; `store` says what it is."""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import numpy as np
import numpy.typing as npt

from ..errors import RunError
from ..files import unwritten
from .source_files import SourceFile
from .store_format import FORMAT, Header, Part, Rows, arrow_type, examples_file, header_file, lengths_file, schema

__all__ = ["StoreWriter"]

_PART = 4096
"""Examples of a part, where they come one by one."""
_PART_VALUES = 1 << 20
"""Numbers or characters after which a part ends early."""
_END = b"\xff\xff\xff\xff\x00\x00\x00\x00"
"""The end of an Arrow stream."""


class StoreWriter:
    """Writes a store in bounded memory, as a context in which `finish` is called last.

    The files are written aside and renamed by `finish`, the JSON last: a store that was not finished is never opened.
    Leaving the context without `finish` removes what was written.

    Args:
        path: the store's name, without an ending; the folder is made if it is missing.
        columns: of each column its kind: "text"; a number as "int64", "float32" and so on; or a list of numbers of any
            length as "uint16[]".

    Raises:
        RunError: here, and from every method, if a file cannot be written, for example for want of space.
    """

    def __init__(self, path: Path, columns: Mapping[str, str]) -> None:
        self._path = path
        self._columns = dict(columns)
        self._schema = schema(columns)
        self._lists = [name for name, kind in columns.items() if kind.endswith("[]")]
        self._waiting: dict[str, list[Any]] = {name: [] for name in columns}
        self._waiting_values = self._waiting_rows = 0
        self._parts: list[Part] = []
        self._lengths_crc = 0
        self._asides: list[Path] = []
        self._opened: list[IO[bytes]] = []
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file, self._lengths = (self._open(name(path)) for name in (examples_file, lengths_file))
            self._file.write(self._schema.serialize())
            self._write_lengths_header(0)
        except OSError as error:
            self._remove()
            raise self._unwritten(error) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._remove()

    def add(self, example: Mapping[str, Any]) -> None:
        """Write one example: for each column a list of numbers, a text or a number.

        Raises:
            ValueError: if it has other columns, or numbers that the column's kind cannot hold.
        """
        self._check_names(example)
        for name, value in example.items():
            self._waiting[name].append(value)
            self._waiting_values += len(value) if hasattr(value, "__len__") else 1
        self._waiting_rows += 1
        if self._waiting_rows == _PART or self._waiting_values > _PART_VALUES:
            self._flush()

    def extend(self, columns: Mapping[str, Sequence[Any] | Rows | npt.NDArray[Any]]) -> None:
        """Write examples column by column, as one part of the file: some thousand at a time are read back best.

        Args:
            columns: of each column its values in all the examples; for lists of numbers these may be `Rows`.

        Raises:
            ValueError: as from `add`, or if the columns are not equally long.
        """
        self._check_names(columns)
        self._flush()
        self._write(columns)

    def finish(self, about: Mapping[str, Any], sources: Sequence[SourceFile] = ()) -> None:
        """Complete the store and put it in its place.

        Args:
            about: whatever its reader must know, as JSON.
            sources: the files that the examples come from.
        """
        self._flush()
        try:
            self._file.write(_END)
            rows = sum(part.rows for part in self._parts)
            self._write_lengths_header(rows)
            sizes = []
            for file in (self._file, self._lengths):
                file.seek(0, os.SEEK_END)
                sizes.append(file.tell())
                file.flush()
                os.fsync(file.fileno())
                file.close()
            header = Header(
                FORMAT, self._columns, rows, sizes[0], self._parts, sizes[1], self._lengths_crc, dict(about),
                list(sources),
            )  # fmt: skip
            with self._open(header_file(self._path)) as last:
                last.write(json.dumps(asdict(header)).encode())
                last.flush()
                os.fsync(last.fileno())
            # The JSON goes last and comes first off: with it in place, the files beside it are its own.
            header_file(self._path).unlink(missing_ok=True)
            for aside in self._asides:
                aside.replace(aside.with_name(aside.name.removesuffix(".tmp")))
        except OSError as error:
            raise self._unwritten(error) from error

    def _check_names(self, given: Mapping[str, Any]) -> None:
        if given.keys() != self._columns.keys():
            raise ValueError(f"the columns {list(given)} are given instead of {list(self._columns)}")

    def _flush(self) -> None:
        if self._waiting_rows:
            waiting = self._waiting
            self._waiting = {name: [] for name in self._columns}
            self._waiting_values = self._waiting_rows = 0
            self._write(waiting)

    def _write(self, columns: Mapping[str, Any]) -> None:
        import pyarrow as pa

        arrays, lengths = [], []
        for name, kind in self._columns.items():
            values = columns[name]
            if kind == "text":
                arrays.append(pa.array(values, pa.large_utf8()))
            elif kind.endswith("[]"):
                rows = values if isinstance(values, Rows) else _joined(values, kind[:-2])
                numbers = _cast(rows.values, kind[:-2])
                arrays.append(
                    pa.LargeListArray.from_arrays(pa.array(rows.starts), pa.array(numbers), type=arrow_type(kind))
                )
                lengths.append(np.diff(rows.starts))
            else:
                arrays.append(pa.array(_cast(np.asarray(values), kind)))
        batch = pa.record_batch(arrays, schema=self._schema)
        batch.validate(full=True)
        count = len(batch)
        if not count:
            return
        data = batch.serialize()
        table = np.ascontiguousarray(np.stack(lengths, 1) if lengths else np.empty((count, 0)), "<i8").tobytes()
        try:
            start = self._file.tell()
            self._file.write(data)
            self._lengths.write(table)
        except OSError as error:
            raise self._unwritten(error) from error
        self._lengths_crc = zlib.crc32(table, self._lengths_crc)
        self._parts.append(Part(count, start, start + data.size, zlib.crc32(data)))

    def _write_lengths_header(self, rows: int) -> None:
        """The header of an .npy, which leaves room for any number of rows, so that it can be written anew."""
        self._lengths.seek(0)
        np.lib.format.write_array_header_1_0(
            self._lengths, {"shape": (rows, len(self._lists)), "fortran_order": False, "descr": "<i8"}
        )

    def _open(self, path: Path) -> IO[bytes]:
        aside = path.with_name(path.name + ".tmp")
        self._asides.append(aside)
        self._opened.append(open(aside, "wb"))  # noqa: SIM115
        return self._opened[-1]

    def _remove(self) -> None:
        for file in self._opened:
            # What is left unwritten for want of space is of no use to anyone.
            with suppress(OSError):
                file.close()
        for aside in self._asides:
            aside.unlink(missing_ok=True)

    def _unwritten(self, error: OSError) -> RunError:
        return RunError(f"{examples_file(self._path)}: the prepared examples cannot be written {unwritten(error)}.")


def _joined(lists: Sequence[Any], dtype: str) -> Rows:
    starts = np.zeros(len(lists) + 1, np.int64)
    np.cumsum([len(each) for each in lists], out=starts[1:])
    return Rows(np.concatenate([np.empty(0, dtype), *(_cast(np.asarray(each), dtype) for each in lists)]), starts)


def _cast(values: npt.NDArray[Any], dtype: str) -> npt.NDArray[Any]:
    if values.dtype == dtype:
        return values
    cast = values.astype(dtype)
    if cast.dtype.kind in "iu" and not np.array_equal(cast, values):
        raise ValueError(f"numbers from {values.min()} to {values.max()} do not fit {dtype}")
    return cast
