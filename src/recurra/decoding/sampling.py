"""Choosing the next token from logits: truncated and tempered sampling that a seed reproduces.

The filters work on logits of shape (V,) or (B, V), return a tensor of the same shape and mark a token that may not be
drawn with minus infinity. `filter_logits` applies them in a fixed order: repetition penalty, temperature, top-k, top-p,
min-p; each truncation looks at the distribution that the ones before it left.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import ConfigError

__all__ = [
    "SamplingOptions",
    "apply_temperature",
    "filter_logits",
    "keep_min_p",
    "keep_top_k",
    "keep_top_p",
    "mix_seed",
    "penalize_repetition",
    "sample",
    "sample_generators",
]


@dataclass(frozen=True)
class SamplingOptions:
    """How the next token is drawn.

    Attributes:
        temperature: what the logits are divided by; 0 always takes the likeliest token.
        top_k: draw among the k likeliest tokens; None: among all.
        top_p: draw from the smallest set of tokens that holds this much probability (Holtzman et al. 2020); None: all.
        min_p: draw among tokens at least this fraction as likely as the likeliest (Nguyen et al. 2024); None: all.
        repetition_penalty: what makes tokens that were seen less likely (Keskar et al. 2019); 1: nothing.

    Raises:
        ConfigError: if a value is out of its range.
    """

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    repetition_penalty: float = 1.0

    def __post_init__(self) -> None:
        # Written so that NaN fails every comparison and is refused too.
        if not (0.0 <= self.temperature < math.inf):
            raise ConfigError(f"temperature must be a finite number of 0 or more, not {self.temperature}.")
        if self.top_k is not None and not self.top_k >= 1:
            raise ConfigError(f"top_k must be at least 1 token, not {self.top_k}.")
        if self.top_p is not None and not 0.0 < self.top_p <= 1.0:
            raise ConfigError(f"top_p must be above 0 and at most 1, not {self.top_p}.")
        if self.min_p is not None and not 0.0 <= self.min_p <= 1.0:
            raise ConfigError(f"min_p must be from 0 to 1, not {self.min_p}.")
        if not (0.0 < self.repetition_penalty < math.inf):
            raise ConfigError(f"repetition_penalty must be a finite number above 0, not {self.repetition_penalty}.")


def penalize_repetition(logits: Tensor, seen: Tensor, penalty: float) -> Tensor:
    """Divide positive and multiply negative logits of seen tokens by the penalty (Keskar et al. 2019, section 4.1).

    The paper divides all logits, which would make a seen token with a negative logit *likelier*; multiplying those is
    what every implementation does.

    Args:
        logits: (V,) or (B, V).
        seen: bool, broadcastable to the logits; True for tokens that occurred.
        penalty: above 0; 1 changes nothing.
    """
    if penalty == 1.0:
        return logits
    return torch.where(seen, torch.where(logits > 0, logits / penalty, logits * penalty), logits)


def apply_temperature(logits: Tensor, temperature: float) -> Tensor:
    """Divide the logits by the temperature; at 0 only the likeliest token remains, the first one of several alike."""
    if temperature == 0.0:
        best = torch.zeros_like(logits, dtype=torch.bool)
        best.scatter_(-1, logits.argmax(dim=-1, keepdim=True), True)
        return logits.masked_fill(~best, -math.inf)
    # Dividing after subtracting the largest keeps a tiny temperature from overflowing to inf - inf.
    return (logits - logits.amax(dim=-1, keepdim=True)) / temperature


def keep_top_k(logits: Tensor, k: int) -> Tensor:
    """Keep the k likeliest tokens; tokens that tie with the k-th are kept too."""
    if k >= logits.shape[-1]:
        return logits
    threshold = logits.topk(k, dim=-1).values[..., -1:]
    return logits.masked_fill(logits < threshold, -math.inf)


def keep_top_p(logits: Tensor, p: float) -> Tensor:
    """Keep the nucleus, the smallest set of likeliest tokens that holds probability p or more (Holtzman et al. 2020).

    The likeliest token always stays. Among equal tokens the one with the smaller index comes first.
    """
    if p >= 1.0:
        return logits
    ordered, index = logits.sort(dim=-1, descending=True, stable=True)
    probability = ordered.softmax(dim=-1)
    before = probability.cumsum(dim=-1) - probability
    drop = before >= p
    drop[..., 0] = False
    return logits.masked_fill(torch.zeros_like(drop).scatter_(-1, index, drop), -math.inf)


def keep_min_p(logits: Tensor, p: float) -> Tensor:
    """Keep tokens with at least p times the probability of the likeliest one (Nguyen et al. 2024)."""
    if p <= 0.0:
        return logits
    threshold = logits.amax(dim=-1, keepdim=True) + math.log(p)
    return logits.masked_fill(logits < threshold, -math.inf)


def filter_logits(logits: Tensor, options: SamplingOptions, seen: Tensor | None = None) -> Tensor:
    """Apply every filter of the options, in the order that the module's docstring gives.

    Args:
        logits: (V,) or (B, V).
        options: what to apply.
        seen: bool, broadcastable to the logits: the tokens that the repetition penalty is for; None: no token.
    """
    if seen is not None:
        logits = penalize_repetition(logits, seen, options.repetition_penalty)
    logits = apply_temperature(logits, options.temperature)
    if options.top_k is not None:
        logits = keep_top_k(logits, options.top_k)
    if options.top_p is not None:
        logits = keep_top_p(logits, options.top_p)
    if options.min_p is not None:
        logits = keep_min_p(logits, options.min_p)
    return logits


def sample_generators(seed: int, count: int) -> list[torch.Generator]:
    """One generator a sample, so that sample i draws the same numbers however many samples are asked for.

    Each is seeded from the seed and its index mixed by SplitMix64, which keeps neighbouring seeds unrelated.
    """
    return [torch.Generator("cpu").manual_seed(mix_seed(seed, index)) for index in range(count)]


def sample(
    logits: Tensor, generators: Sequence[torch.Generator], options: SamplingOptions, seen: Tensor | None = None
) -> Tensor:
    """Draw one token a row by inverting the cumulative distribution at one uniform number a row.

    Args:
        logits: (B, V), on any device; computed in double precision where the device has it.
        generators: B generators on the CPU, row by row; each gives exactly one number a call.
        options: temperature, truncations and penalty.
        seen: bool (B, V), the tokens that the repetition penalty is for; None: no token.

    Returns:
        (B,) int64 tokens on the logits' device.

    Raises:
        ConfigError: if the number of generators is not the batch size.
    """
    if len(generators) != logits.shape[0]:
        raise ConfigError(f"sample needs one generator a row: {logits.shape[0]} rows, {len(generators)} generators.")
    if not generators:
        return torch.empty(0, dtype=torch.int64, device=logits.device)
    dtype = torch.float32 if logits.device.type == "mps" else torch.float64
    uniform = torch.stack([torch.rand((), generator=each, dtype=torch.float64, device="cpu") for each in generators])
    probability = filter_logits(logits.to(dtype), options, seen).softmax(dim=-1)
    cumulative = probability.cumsum(dim=-1)
    position = uniform.to(cumulative).unsqueeze(-1) * cumulative[:, -1:]
    chosen = torch.searchsorted(cumulative, position, right=True)
    # Rounding can put the position on the total itself; the last token that may be drawn is then the one.
    last = (cumulative < cumulative[:, -1:]).sum(dim=-1, keepdim=True)
    return torch.minimum(chosen, last).squeeze(-1)


def mix_seed(seed: int, index: int) -> int:
    """A seed of 64 bits for each index, unrelated to all others (SplitMix64; Steele, Lea & Flood 2014)."""
    mask = (1 << 64) - 1
    value = (seed + (index + 1) * 0x9E3779B97F4A7C15) & mask
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & mask
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & mask
    return (value ^ (value >> 31)) & mask
