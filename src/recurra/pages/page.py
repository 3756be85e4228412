"""The template of every page: its style, its head, its script, and how it is written."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from html import escape
from pathlib import Path
from typing import Any

from ..errors import RunError
from ..files import unwritten, written_whole

__all__ = ["page_script", "write_page"]

_STYLE = """
:root { color-scheme: light dark; --line: #8884; }
body { font: 16px/1.5 system-ui, sans-serif; margin: 0 auto; max-width: 60rem; padding: 1rem; }
h1 { font-size: 1.3rem; } h2 { font-size: 1.05rem; margin: 1.6rem 0 .3rem; }
p, td, th { overflow-wrap: anywhere; }
table { border-collapse: collapse; } td, th { border-bottom: 1px solid var(--line); padding: .2rem .7rem .2rem 0; }
th { text-align: left; } .number { text-align: right; font-variant-numeric: tabular-nums; }
.quiet { opacity: .75; font-size: .9rem; }
:focus-visible { outline: 2px solid #2a78d6; outline-offset: 2px; }
"""
_SCRIPTS = Path(__file__).with_name("scripts")
_SURROGATE = re.compile("[\ud800-\udfff]")


def page_script(*names: str) -> str:
    """The scripts of these names in `pages/scripts`, one after another, for `write_page`."""
    return "".join((_SCRIPTS / f"{name}.js").read_text(encoding="utf-8") for name in names)


def write_page(path: str | Path, title: str, body: str, style: str = "", script: str = "", data: Any = None) -> None:
    """Write a page, aside and renamed.

    Args:
        path: of the file.
        title: of the page, as text.
        body: HTML, in which everything that comes from data has been escaped.
        style: CSS of this kind of page.
        script: JavaScript of this kind of page, the only one that the browser runs: the page names its hash.
        data: what the script finds as JSON in the element `data`; None: there is none.

    Raises:
        RunError: if it cannot be written.
    """
    target = Path(path)
    # No address can come from elsewhere, and no script but ours runs, whatever a text holds.
    policy = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
    scripts = ""
    if script:
        assert "</script" not in script
        hashed = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        policy += f"; script-src 'sha256-{hashed}'"
        scripts = f'<script type="application/json" id="data">{_json(data)}</script>\n'
        scripts += f'<script id="program">{script}</script>\n'
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
{scripts}</body>
</html>
"""
    try:
        with written_whole(target) as aside:
            # Half surrogates, which are no characters, have no place in a file.
            aside.write_text(_SURROGATE.sub("\N{REPLACEMENT CHARACTER}", text), encoding="utf-8", newline="\n")
    except OSError as error:
        raise RunError(f"{target}: cannot be written {unwritten(error)}.") from error


def _json(data: Any) -> str:
    """JSON of ASCII characters, in which nothing ends an element of HTML or a line of JavaScript."""
    text = json.dumps(data, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
