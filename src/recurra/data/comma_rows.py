"""The rows of a CSV file, each with the line that it ends at."""

from __future__ import annotations

import csv
from collections.abc import Iterator

from ..errors import DataError

__all__ = ["comma_rows"]


def comma_rows(name: str, lines: Iterator[str]) -> Iterator[tuple[int, list[str]]]:
    """Rows with the number of their last line, from 1; a row may go on over several lines within quotes.

    Args:
        name: of the file, for errors.
        lines: without their line ends. An empty one is an empty row.

    Raises:
        DataError: if a line is not CSV.
    """
    # Some texts are longer than the limit that Python sets.
    csv.field_size_limit(2**31 - 1)
    rows = csv.reader((f"{line}\n" for line in lines), strict=True)
    try:
        for row in rows:
            yield rows.line_num, row
    except csv.Error as error:
        raise DataError(f"{name}:{rows.line_num}: is not CSV ({error}); mend the line.") from error
