"""The template of every page: its style, its head, and how it is written."""

from __future__ import annotations

from html import escape
from pathlib import Path

from ..errors import RunError
from ..files import unwritten

__all__ = ["write_page"]

_STYLE = """
:root { color-scheme: light dark; --line: #8884; }
body { font: 16px/1.5 system-ui, sans-serif; margin: 0 auto; max-width: 60rem; padding: 1rem; }
h1 { font-size: 1.3rem; } h2 { font-size: 1.05rem; margin: 1.6rem 0 .3rem; }
p, td, th { overflow-wrap: anywhere; }
table { border-collapse: collapse; } td, th { border-bottom: 1px solid var(--line); padding: .2rem .7rem .2rem 0; }
th { text-align: left; } .number { text-align: right; font-variant-numeric: tabular-nums; }
.quiet { opacity: .75; font-size: .9rem; }
"""


def write_page(path: str | Path, title: str, body: str, style: str = "") -> None:
    """Write a page, aside and renamed.

    Args:
        path: of the file.
        title: of the page, as text.
        body: HTML, in which everything that comes from data has been escaped.
        style: CSS of this kind of page.

    Raises:
        RunError: if it cannot be written.
    """
    target = Path(path)
    aside = target.with_name(f".{target.name}")
    # No script and no address can come from elsewhere, whatever a text holds.
    policy = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
    text = f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<title>{escape(title)}</title>
<style>{_STYLE}{style}</style>
</head>
<body>
<h1>{escape(title)}</h1>
{body}
</body>
</html>
"""
    try:
        aside.write_text(text, encoding="utf-8")
        aside.replace(target)
    except OSError as error:
        raise RunError(f"{target}: cannot be written {unwritten(error)}.") from error
