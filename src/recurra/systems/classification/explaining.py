"""What each token of a text adds to an answer, by integrated gradients (Sundararajan, Taly & Yan 2017)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from .answers import Explanation, Piece
from .batches import padded
from .network import TextClassifier

__all__ = ["explain"]

_POINTS = (32, 128, 512, 2048)
"""Points of the Gauss-Legendre rule, as many as it takes."""
_GAP = 0.01
"""The integral may miss the difference that it stands for by this share of it, or of 1 where that is small."""
_AT_ONCE = 256
"""Points whose texts are read side by side."""


def explain(
    model: TextClassifier,
    first: int,
    ids: npt.NDArray[Any],
    pieces: Sequence[bytes],
    output: int,
    text: str,
    target: str | None,
) -> Explanation:
    """The contribution of each token to one output of a network (equation 1 of the paper).

    The path leads from embeddings of zero to those of the text. The leading token is the same on the whole path.

    Args:
        model: in evaluation mode.
        first: the token that leads each text.
        ids: the text's tokens, (T,); none gives no pieces.
        pieces: the bytes of each of them in the text, as the tokenizer normalises it.
        output: the place of the label.
        text, target: what the explanation says of itself.
    """
    tokens, lengths = padded([ids], first)
    device = model.embedding.weight.device
    with torch.no_grad():
        whole = model.embedding(tokens.to(device)).squeeze(1)
        start = torch.zeros_like(whole)
        start[0] = whole[0]
        ends = model.from_embedded(torch.stack([start, whole], 1), lengths.expand(2).contiguous())[:, output].tolist()
    gap = _GAP * max(abs(ends[1] - ends[0]), 1.0)
    for points in _POINTS:
        added = _added(model, start, whole, lengths, output, points)
        if abs(sum(added) - (ends[1] - ends[0])) <= gap:
            break
    return Explanation(text, target, _whole_characters(pieces, added), ends[1], ends[0])


def _whole_characters(pieces: Sequence[bytes], added: Sequence[float]) -> list[Piece]:
    """Pieces of text; tokens that are parts of one character are one piece, with what they add together."""
    found = []
    waiting, total = b"", 0.0
    for piece, value in zip(pieces, added, strict=True):
        waiting, total = waiting + piece, total + value
        try:
            found.append(Piece(waiting.decode(), total))
        except UnicodeDecodeError:
            continue
        waiting, total = b"", 0.0
    return [*found, Piece(waiting.decode("utf-8", "replace"), total)] if waiting else found


def _added(
    model: TextClassifier, start: Tensor, whole: Tensor, lengths: Tensor, output: int, points: int
) -> list[float]:
    """What each token adds, by a rule of so many points.

    An LSTM answers small embeddings most steeply, so the points lie closer together near the beginning of the path: the
    place is the cube of what the rule runs over.
    """
    places, weights = np.polynomial.legendre.leggauss(points)
    runs = torch.from_numpy((places + 1) / 2)
    steps, shares = runs**3, torch.from_numpy(weights / 2) * 3 * runs**2
    total = torch.zeros_like(whole, dtype=torch.float64)
    for some, their in zip(steps.split(_AT_ONCE), shares.split(_AT_ONCE), strict=True):
        with torch.enable_grad():
            path = (start.unsqueeze(1) + some.to(whole).view(1, -1, 1) * (whole - start).unsqueeze(1)).requires_grad_()
            value = model.from_embedded(path, lengths.expand(len(some)).contiguous())[:, output].sum()
            (slope,) = torch.autograd.grad(value, path)
        total += (slope.double() * their.to(whole.device).view(1, -1, 1)).sum(1)
    found: list[float] = (total * (whole - start).double()).sum(1)[1:].cpu().tolist()
    return found
