"""Attention weights of tokens as alignments of words: Pharaoh pairs, JSON, and a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

__all__ = ["align_words", "draw_attention", "pharaoh", "word_places", "word_weights"]


def align_words(
    weights: npt.NDArray[np.floating[Any]],
    source: str,
    source_pieces: Sequence[str],
    target: str,
    target_pieces: Sequence[str],
) -> list[tuple[int, int]]:
    """Which source word each target word attends to most, as `pharaoh` gives it.

    Args:
        weights: (target tokens, source tokens), ends left out.
        source, target: normalised sentences; white space parts their words.
        source_pieces, target_pieces: the text of each token.
    """
    places = [
        word_places(" ".join(text.split()), pieces)
        for text, pieces in ((source, source_pieces), (target, target_pieces))
    ]
    return pharaoh(word_weights(weights, *places))


def word_places(text: str, pieces: Sequence[str]) -> list[int | None]:
    """Which word of a text, counted between white space from 0, each token belongs to; None: white space alone.

    Args:
        text: normalised, with single spaces and none at its ends.
        pieces: the text of each token in order. Where tokens hold the white space themselves, they alone tell; where
            none does, as with word tokens, they are looked up in the text.
    """
    if any(piece != piece.strip() for piece in pieces):
        return _places_by_spaces(pieces)
    places: list[int | None] = []
    cursor = 0
    for piece in pieces:
        found = text.find(piece, cursor)
        # What the text does not hold, such as an unknown token, goes with the word before it.
        if found < 0 or not piece:
            places.append(places[-1] if places else 0)
            continue
        places.append(text[:found].count(" "))
        cursor = found + len(piece)
    return places


def _places_by_spaces(pieces: Sequence[str]) -> list[int | None]:
    places: list[int | None] = []
    word, begins = -1, True
    for piece in pieces:
        if not piece.strip():
            begins = True
            places.append(None)
            continue
        word += begins or piece[0].isspace()
        begins = piece[-1].isspace()
        places.append(word)
    return places


def word_weights(
    weights: npt.NDArray[np.floating[Any]], source_places: Sequence[int | None], target_places: Sequence[int | None]
) -> npt.NDArray[np.floating[Any]]:
    """Weights between words: over a source word's tokens they add up, over a target word's they are averaged.

    Args:
        weights: (target tokens, source tokens), ends left out.
        source_places, target_places: as `word_places` gives them.

    Returns:
        (target words, source words).
    """
    source_words = max((place for place in source_places if place is not None), default=-1) + 1
    target_words = max((place for place in target_places if place is not None), default=-1) + 1
    summed = np.zeros((len(target_places), source_words))
    for column, place in enumerate(source_places):
        if place is not None:
            summed[:, place] += weights[:, column]
    result = np.zeros((target_words, source_words))
    counts = np.zeros(target_words)
    for row, place in enumerate(target_places):
        if place is not None:
            result[place] += summed[row]
            counts[place] += 1
    return result / np.maximum(counts, 1)[:, None]


def pharaoh(weights: npt.NDArray[np.floating[Any]]) -> list[tuple[int, int]]:
    """(source word, target word) for each target word, the source word being the one that it attends to most.

    Args:
        weights: (target words, source words), as `word_weights` gives them.
    """
    if not weights.size:
        return []
    return [(int(row.argmax()), target) for target, row in enumerate(weights) if row.any()]


# In order, for what those before lack; matplotlib brings the first, and systems have some of the others.
_FONTS = (
    *("DejaVu Sans", "Noto Sans CJK KR", "Noto Sans CJK JP", "Noto Sans CJK SC", "NanumGothic", "Malgun Gothic"),
    *("Apple SD Gothic Neo", "Hiragino Sans", "PingFang SC", "Yu Gothic", "Microsoft YaHei", "WenQuanYi Zen Hei"),
    *("Arial Unicode MS", "Noto Sans Arabic", "Noto Sans Hebrew", "Noto Sans Devanagari", "Noto Sans Thai"),
)


def draw_attention(
    path: Path, weights: Tensor | npt.NDArray[np.floating[Any]], source: Sequence[str], target: Sequence[str]
) -> None:
    """Draw a matrix of weights as a PNG: source tokens from left to right, target tokens from top to bottom.

    Args:
        path: the file; it is written aside and renamed.
        weights: (target, source).
        source, target: labels; what no font of `_FONTS` on this machine has shows as a box.
    """
    import warnings

    from matplotlib import font_manager
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    table = np.asarray(weights)
    size = (1.6 + 0.32 * max(len(source), 4), 1.4 + 0.28 * max(len(target), 4))
    figure = Figure(figsize=(min(size[0], 40.0), min(size[1], 40.0)), dpi=110, layout="constrained")
    axes = figure.add_subplot()
    axes.imshow(table, cmap="Greys", vmin=0.0, vmax=1.0, aspect="auto", interpolation="nearest")
    axes.set_xticks(range(len(source)), [_label(piece) for piece in source], rotation=90)
    axes.set_yticks(range(len(target)), [_label(piece) for piece in target])
    axes.xaxis.tick_top()
    axes.tick_params(length=0)
    installed = {font.name for font in font_manager.fontManager.ttflist}
    families = [name for name in _FONTS if name in installed]
    for label in (*axes.get_xticklabels(), *axes.get_yticklabels()):
        label.set_fontfamily(families)
    aside = path.with_name(f".{path.name}")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*[Gg]lyph.*missing.*")
        FigureCanvasAgg(figure).print_png(str(aside))
    aside.replace(path)


def _label(piece: str) -> str:
    # A dollar sign would start a formula.
    return piece.strip().replace("$", r"\$") or "␣"
