"""Fonts for labels of any language, and labels that no font takes for something else."""

from __future__ import annotations

__all__ = ["installed_fonts", "label_text"]

# In order, for what those before lack; matplotlib brings the first, and systems have some of the others.
_FONTS = (
    *("DejaVu Sans", "Noto Sans CJK KR", "Noto Sans CJK JP", "Noto Sans CJK SC", "NanumGothic", "Malgun Gothic"),
    *("Apple SD Gothic Neo", "Hiragino Sans", "PingFang SC", "Yu Gothic", "Microsoft YaHei", "WenQuanYi Zen Hei"),
    *("Arial Unicode MS", "Noto Sans Arabic", "Noto Sans Hebrew", "Noto Sans Devanagari", "Noto Sans Thai"),
)


def installed_fonts() -> list[str]:
    """Those of the fonts that this machine has; what none of them has shows as a box."""
    from matplotlib import font_manager

    installed = {font.name for font in font_manager.fontManager.ttflist}
    return [name for name in _FONTS if name in installed]


def label_text(text: str) -> str:
    """A text as matplotlib draws it letter by letter, with a mark in place of white space alone."""
    # A dollar sign would start a formula.
    return text.strip().replace("$", r"\$") or "␣"
