"""What each token of a text adds to an answer, by integrated gradients (Sundararajan, Taly & Yan 2017)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from .answers import Explanation, Piece
from .batches import padded
from .network import TextClassifier

__all__ = ["explain"]

_POINTS = 32
"""Points of the Gauss-Legendre rule. The integrand has corners where pooling takes another maximum, so that the sum
misses the integral by some thousandths there; elsewhere it is as good as exact."""


def explain(
    model: TextClassifier,
    first: int,
    ids: npt.NDArray[Any],
    pieces: Sequence[str],
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
        pieces: how each of them stands in the text.
        output: the place of the label.
        text, target: what the explanation says of itself.
    """
    tokens, lengths = padded([ids], first)
    device = model.embedding.weight.device
    with torch.no_grad():
        whole = model.embedding(tokens.to(device)).squeeze(1)
        start = torch.zeros_like(whole)
        start[0] = whole[0]
    places, weights = np.polynomial.legendre.leggauss(_POINTS)
    steps = torch.from_numpy((places + 1) / 2).to(whole).view(1, -1, 1)
    shares = torch.from_numpy(weights / 2).to(whole).view(1, -1, 1)
    with torch.enable_grad():
        path = (start.unsqueeze(1) + steps * (whole - start).unsqueeze(1)).requires_grad_()
        total = model.from_embedded(path, lengths.expand(_POINTS).contiguous())[:, output].sum()
        (slope,) = torch.autograd.grad(total, path)
    added = ((slope * shares).sum(1) * (whole - start)).sum(1)[1:].double().cpu().tolist()
    with torch.no_grad():
        ends = model.from_embedded(torch.stack([start, whole], 1), lengths.expand(2).contiguous())[:, output].tolist()
    return Explanation(text, target, [Piece(*each) for each in zip(pieces, added, strict=True)], ends[1], ends[0])
