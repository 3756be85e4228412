"""The pages of attention and of contributions in a browser: what words look at, by pointer and by keyboard."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path

import numpy as np
import pytest

from recurra.pages.attention import Aligned, write_attention
from recurra.pages.contributions import Contributions, write_contributions

from .browser import needs_browser, opened

HOSTILE = ["</script><script>document.title='taken'</script>", "\u202e", "\ud800", "e\u0301", "<eos>"]
WEIGHTS = np.array([[0.1, 0.7, 0.2, 0.0, 0.0], [0.0, 0.0, 0.0, 0.25, 0.75]], np.float32)


@pytest.fixture
def page(tmp_path: Path) -> Path:
    path = tmp_path / "attention.html"
    write_attention(path, "Attention", [Aligned(3, "der <b>", HOSTILE, ["der", "<eos>"], WEIGHTS)])
    return path


def test_weights_are_as_near_as_is_said(page: Path) -> None:
    data = json.loads(re.findall(r'id="data">(.*?)</script>', page.read_text())[0])
    (pair,) = data["pairs"]
    assert pair["source"] == HOSTILE and pair["target"] == ["der", "<eos>"] and pair["line"] == 3
    weights = np.frombuffer(base64.b64decode(pair["weights"]), np.uint8).reshape(2, 5) / 255
    assert np.abs(weights - WEIGHTS).max() <= 1 / 510 + 1e-7


@needs_browser
def test_a_target_word_says_what_it_looks_at(page: Path) -> None:
    found = opened(page)
    assert found.console == [] and "<title>Attention</title>" in found.document
    assert "“der” looks at “[202e]” 0.70, “\ufffd” 0.20, “&lt;/script&gt;" in found.document
    assert "3: der &lt;b&gt;" in found.document


@needs_browser
@pytest.mark.parametrize(
    ("action", "said"),
    [
        ('key(1, "ArrowRight")', "“&lt;eos&gt;” looks at “&lt;eos&gt;” 0.75, “e\u0301” 0.25"),
        ('key(0, "End")', "“&lt;eos&gt;” is looked at by “&lt;eos&gt;” 0.75"),
        ('point(0, 1)', "“[202e]” is looked at by “der” 0.70"),
    ],
)  # fmt: skip
def test_keys_and_pointer_choose_words(page: Path, action: str, said: str) -> None:
    probe = f"""
    const groups = document.querySelectorAll(".words");
    const key = (side, name) => groups[side].dispatchEvent(
      new KeyboardEvent("keydown", {{ key: name, bubbles: true, cancelable: true }}));
    const point = (side, place) => groups[side].querySelector(`[data-place="${{place}}"]`).dispatchEvent(
      new PointerEvent("pointerover", {{ bubbles: true }}));
    {action};
    """
    assert said in opened(page, probe=probe).document


@needs_browser
def test_contributions_are_said_by_keyboard(tmp_path: Path) -> None:
    path = tmp_path / "contributions.html"
    pieces = [("a\x1b", 0.5), (" <i>", -0.25), ("\u2028", 0.0), ("\u202ex", 0.1)]
    write_contributions(path, "Contributions", [Contributions("1: good\u2028", "They add.", pieces)])
    raw = path.read_text(encoding="utf-8")
    assert "\x1b" not in raw and "\u2028" not in raw and "&lt;i&gt;" in raw
    probe = """
    const key = (name) => document.querySelector(".text").dispatchEvent(
      new KeyboardEvent("keydown", { key: name, bubbles: true, cancelable: true }));
    key("ArrowRight"); key("Home"); key("ArrowRight");
    """
    found = opened(path, probe=probe)
    assert (
        "“ &lt;i&gt;” adds -0.250" in found.document
        and "[202e]x" in found.document
        and 'tabindex="0"' in found.document
    )
    assert opened(path).console == []
