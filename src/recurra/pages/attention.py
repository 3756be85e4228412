"""A page of translations in which each word shows the words of the other side that it looks at."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from .page import page_script, write_page

__all__ = ["MOST_WEIGHTS", "Aligned", "write_attention"]

MOST_WEIGHTS = 15_000_000
"""The most weights of a page, a byte each, which base64 makes 20 MB of."""


_STYLE = """
.words { line-height: 2; } .words span { border-radius: .25rem; padding: .15rem .2rem; }
.here { box-shadow: 0 0 0 2px currentColor; }
canvas { border: 1px solid var(--line); max-width: 30rem; width: 100%; }
"""


class Aligned(NamedTuple):
    """A translation and its attention.

    Attributes:
        line: of the input, from 1.
        translation: as it is written.
        source, target: the tokens, ends included.
        weights: (target, source), 0 to 1.
    """

    line: int
    translation: str
    source: Sequence[str]
    target: Sequence[str]
    weights: npt.NDArray[np.floating[Any]]


def write_attention(path: str | Path, title: str, translations: Sequence[Aligned]) -> None:
    """Write the page; weights are rounded to 255 steps, so that none is wrong by more than 1/510.

    Raises:
        RunError: if it cannot be written.
    """
    pairs = [
        {
            "line": each.line,
            "translation": each.translation,
            "source": list(each.source),
            "target": list(each.target),
            "weights": base64.b64encode(_quantised(each.weights)).decode(),
        }
        for each in translations
    ]
    body = (
        '<p class="quiet">Point at a word, or choose one with the arrow keys: the words of the other side are coloured '
        "by the attention between them, the stronger the more. Above stands the source, below it the translation; in "
        "the table each row is a target token and each column a source token.</p>\n"
        '<noscript>This page needs JavaScript.</noscript>\n<div id="pairs"></div>'
    )
    write_page(path, title, body, _STYLE, page_script("common", "attention"), {"pairs": pairs})


def _quantised(weights: npt.NDArray[np.floating[Any]]) -> bytes:
    return np.rint(np.clip(weights, 0.0, 1.0) * 255).astype(np.uint8).tobytes()
