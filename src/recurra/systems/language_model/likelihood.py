"""How well a language model predicts a long text, read in several places at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from .network import LanguageModel

__all__ = ["stream_nats"]

MOST_STREAMS = 64
TOKENS_PER_STREAM = 4096
WARM_UP = 256
"""Tokens that a stream reads before those it predicts, so that it knows what stands before."""

# Logits of one window hold about this many numbers.
_WINDOW_NUMBERS = 1 << 24


@torch.inference_mode()
def stream_nats(
    model: LanguageModel,
    tokens: np.ndarray,
    eos_id: int,
    progress: Callable[[int, int], None] | None = None,
    *,
    rank: int = 0,
    world_size: int = 1,
) -> tuple[float, int]:
    """Negative log-likelihood, in nats, of all tokens after a line end, and their number; each is predicted once.

    A text below 8,192 tokens is read from beginning to end. A longer one is cut into up to 64 streams of at least 4,096
    tokens, read side by side; each but the first starts 256 tokens early, so that nothing is predicted without context.

    Args:
        model: in evaluation mode.
        tokens: (N,) integers, perhaps mapped from a file; only windows of it are read.
        eos_id: the line end, which stands before the first token.
        progress: called with the tokens done and the tokens in all.
        rank, world_size: which share of the streams this process reads; the sums of all are those of the text.
    """
    count = len(tokens)
    streams = max(1, min(MOST_STREAMS, count // TOKENS_PER_STREAM))
    warm_up = WARM_UP if streams > 1 else 0
    length = -(-(count - warm_up) // streams)
    # The first stream predicts its early tokens as well: nothing stands before them.
    starts = np.arange(rank, streams, world_size) * length
    if not len(starts):
        return 0.0, 0
    counted_from = np.where(starts > 0, starts + warm_up, 0)
    ends = np.minimum(starts + length + warm_up, count)
    device = next(model.parameters()).device
    window = int(max(1, min(256, _WINDOW_NUMBERS // (streams * model.vocab_size))))
    total, predicted, state = 0.0, 0, None
    for offset in range(0, length + warm_up, window):
        positions = starts + (offset + np.arange(min(window, length + warm_up - offset)))[:, None]
        counted = (positions >= counted_from) & (positions < ends)
        positions = np.minimum(positions, count - 1)
        inputs = torch.from_numpy(_take(tokens, positions - 1))
        inputs.masked_fill_(torch.from_numpy(positions == 0), eos_id)
        targets = torch.from_numpy(_take(tokens, positions)).masked_fill_(torch.from_numpy(~counted), -100)
        output = model(inputs.to(device), state)
        state = output.hx
        nats = F.cross_entropy(output.logits.float().flatten(0, 1), targets.to(device).flatten(), reduction="none")
        total += nats.cpu().double().sum().item()
        predicted += int(counted.sum())
        if progress is not None:
            progress(min((offset + window) * streams, count), count)
    return total, predicted


def _take(tokens: Any, positions: np.ndarray) -> np.ndarray:
    """Tokens at these positions as int64; -1, where no token is, reads the first."""
    return np.asarray(tokens[np.maximum(positions, 0)]).astype(np.int64)
