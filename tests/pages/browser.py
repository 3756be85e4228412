"""A page in a headless browser: what it became, and what the browser complained of."""

from __future__ import annotations

import html
import re
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

import pytest

CHROMIUM = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None
)
needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium here")


class Opened(NamedTuple):
    """The document once the page has settled, and what was said on the console."""

    document: str
    console: list[str]

    def text(self, identity: str) -> str:
        """The text of the element of an id."""
        found = re.search(rf'<(\w+)[^>]*\bid="{identity}"[^>]*>(.*?)</\1>', self.document, re.DOTALL)
        assert found is not None, identity
        return html.unescape(re.sub(r"<[^>]*>", "", found[2]))


def opened(page: Path, fragment: str = "", probe: str = "") -> Opened:
    """Open a page.

    Args:
        page: the file.
        fragment: what stands after # in its address.
        probe: JavaScript that runs in a copy of the page whose policy lets any script run, once the page has settled.
    """
    assert CHROMIUM is not None
    if probe:
        text = page.read_text(encoding="utf-8")
        text = re.sub(r"; script-src '[^']*'", "; script-src 'unsafe-inline'", text)
        page = page.with_name(f"probed-{page.name}")
        page.write_text(text.replace("</body>", f"<script>{probe}</script></body>"), encoding="utf-8")
    command = [
        CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--v=0",
        "--virtual-time-budget=5000", f"--user-data-dir={page.parent / 'browser'}", "--dump-dom",
        f"file://{page}{'#' if fragment else ''}{fragment}",
    ]  # fmt: skip
    result = subprocess.run(command, capture_output=True, timeout=120)
    said = [line for line in result.stderr.decode("utf-8", "replace").splitlines() if ":CONSOLE" in line]
    return Opened(result.stdout.decode("utf-8", "replace"), said)
