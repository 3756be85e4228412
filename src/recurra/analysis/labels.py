"""A user's own labels of a text's tokens, from a file.

The file is UTF-8 text and has one of two forms.

One label for each token: as many lines as the text has tokens, with a label on each. Where texts are lines, the tokens
of all of them follow one another. A line that holds nothing says nothing of its token.

Labels of spans: each line is START, tab, STOP, tab, LABEL. The two numbers count the characters of the text from 0, and
STOP is the first character that no longer has the label. A token has the label of the span that its last character lies
in; spans must not overlap.

If all labels are numbers, they are one property, "label", which says nothing of tokens without a label. Else each
different label is a property of its own, "label:NAME", which is a no for tokens without a label in a file of spans.
"""

from __future__ import annotations

import math
from itertools import islice
from pathlib import Path

import numpy as np

from ..data.text import read_lines
from ..errors import DataError
from .properties import Property
from .recording import SideRecord

__all__ = ["read_labels"]

_MOST_LABELS = 50
_MOST_LINES = 1 << 20


def read_labels(path: str | Path, side: SideRecord) -> list[Property]:
    """The labels of a side's tokens.

    Raises:
        DataError: if the file cannot be read or does not fit the text.
    """
    lines = list(islice(read_lines(path), _MOST_LINES + 1))
    if len(lines) > _MOST_LINES:
        raise DataError(f"{path}: has more than {_MOST_LINES:,} lines; give the labels of a shorter text.")
    rows = [line.split("\t") for line in lines]
    spans = bool(rows) and all(len(row) == 3 and row[0].isdecimal() and row[1].isdecimal() for row in rows)
    labels = _of_spans(path, rows, side) if spans else _of_tokens(path, lines, side)
    given = list(dict.fromkeys(label for label in labels if label is not None))
    if not given:
        raise DataError(f"{path}: holds no labels; write one for each token, or START, tab, STOP, tab, LABEL.")
    numbers = [_number(label) for label in given]
    if all(number is not None for number in numbers):
        values = np.array([math.nan if label is None else float(label) for label in labels])
        return [Property("label", values, set(numbers) <= {0.0, 1.0})]
    if len(given) > _MOST_LABELS:
        raise DataError(f"{path}: has {len(given):,} different labels; {_MOST_LABELS} are the most.")
    unknown = 0.0 if spans else math.nan
    return [
        Property(
            f"label:{name}",
            np.array([unknown if label is None else float(label == name) for label in labels]),
            True,
        )
        for name in sorted(given)
    ]


def _of_tokens(path: str | Path, lines: list[str], side: SideRecord) -> list[str | None]:
    if len(lines) != len(side.places):
        raise DataError(
            f"{path}: has {len(lines):,} lines, but the {side.name} has {len(side.places):,} tokens; write one label "
            "for each, or START, tab, STOP, tab, LABEL in every line."
        )
    return [line.strip() or None for line in lines]


def _of_spans(path: str | Path, rows: list[list[str]], side: SideRecord) -> list[str | None]:
    characters: list[str | None] = [None] * len(side.text)
    for number, (first, last, label) in enumerate(rows, start=1):
        start, stop = int(first[:19]), int(last[:19])
        if not start < stop:
            raise DataError(f"{path}:{number}: the span {first} to {last} is empty; STOP must be above START.")
        # A text that is read up to a limit has fewer characters than its file.
        for place in range(start, min(stop, len(characters))):
            if characters[place] is not None:
                raise DataError(f"{path}:{number}: this span overlaps an earlier one at character {place}; part them.")
            characters[place] = label.strip() or None
    return [characters[max(stop - 1, start)] for start, stop in side.places.tolist()]


def _number(label: str) -> float | None:
    try:
        value = float(label)
    except ValueError:
        return None
    return value if math.isfinite(value) else None
