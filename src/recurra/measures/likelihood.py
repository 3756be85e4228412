"""Losses in nats per token as perplexity and as bits per character."""

from __future__ import annotations

import math

__all__ = ["bits_per_character", "likelihood", "perplexity"]


def perplexity(loss: float) -> float:
    """exp of a loss in nats per token; infinite where it overflows."""
    return math.exp(loss) if loss < 700.0 else math.inf


def bits_per_character(loss: float, tokens: float, characters: float) -> float | None:
    """A loss in nats per token as bits per character of the same text; None when the text's characters are unknown."""
    return loss * tokens / characters / math.log(2.0) if characters else None


def likelihood(loss: float, tokens: float, characters: float) -> dict[str, float]:
    """What is told beside a loss in nats per token: perplexity, and bits per character if the text's are known.

    Args:
        loss: the mean of the tokens.
        tokens, characters: of the same text.
    """
    bits = bits_per_character(loss, tokens, characters)
    return {"perplexity": perplexity(loss)} | ({} if bits is None else {"bits_per_character": bits})
