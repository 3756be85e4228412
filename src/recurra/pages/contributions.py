"""A page of texts whose tokens are coloured by what they add to an answer."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import NamedTuple

from ..shown import visible
from .page import page_script, write_page

__all__ = ["Contributions", "write_contributions"]

_STYLE = """
.text { line-height: 2.1; } .text span { border-radius: .25rem; padding: .15rem .1rem; white-space: pre-wrap; }
.here { box-shadow: 0 0 0 2px currentColor; }
.bar { display: inline-block; width: 1.2rem; height: .8rem; border-radius: .2rem; vertical-align: baseline; }
"""
# Orange and blue, which people who do not tell red from green can tell apart.
_KEPT = "\n\t"
_FOR, _AGAINST = "230, 130, 20", "50, 110, 220"


class Contributions(NamedTuple):
    """A text and what its tokens add.

    Attributes:
        heading: what was answered.
        remark: how the sum came about.
        pieces: the tokens as they stand in the text, each with what it adds.
    """

    heading: str
    remark: str
    pieces: Sequence[tuple[str, float]]


def write_contributions(path: str | Path, title: str, texts: Sequence[Contributions]) -> None:
    """Write a page: orange tokens speak for the answer, blue ones against it, stronger ones more so.

    Raises:
        RunError: if it cannot be written.
    """
    legend = (
        f'<p class="quiet"><span class="bar" style="background: rgba({_FOR}, .8)"></span> speaks for the answer, '
        f'<span class="bar" style="background: rgba({_AGAINST}, .8)"></span> against it; the strongest token of each '
        "text has the full colour. Point at a token, or choose it with the arrow keys, to see its number.</p>"
    )
    body = legend + "".join(map(_section, texts))
    write_page(path, title, body, _STYLE, page_script("common", "contributions"))


def _section(text: Contributions) -> str:
    strongest = max((abs(value) for _, value in text.pieces), default=0.0) or 1.0
    spans = "".join(
        f'<span style="background: rgba({_FOR if value > 0 else _AGAINST}, {0.8 * abs(value) / strongest:.3f})" '
        f'title="{value:+.3f}" data-place="{place}">{escape(visible(piece, _KEPT))}</span>'
        for place, (piece, value) in enumerate(text.pieces)
    )
    return (
        f"<h2>{escape(visible(text.heading))}</h2>\n"
        f'<p class="text" role="group" aria-label="Tokens of the text">{spans or "(no tokens)"}</p>\n'
        '<p class="quiet" role="status"></p>\n'
        f'<p class="quiet">{escape(text.remark)}</p>\n'
    )
