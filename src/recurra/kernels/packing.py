"""Packed layer calls for backends that want them padded."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence, pad_packed_sequence

from .call import LayerCall, LayerResult

__all__ = ["run_padded"]


def run_padded(run: Callable[[LayerCall], LayerResult], call: LayerCall) -> LayerResult:
    """Run a call, padded first if it is packed, and its outputs packed again."""
    sizes = call.batch_sizes
    if sizes is None:
        return run(call)

    def padded(packed: Tensor) -> tuple[Tensor, Tensor]:
        return pad_packed_sequence(PackedSequence(packed, sizes))

    input, lengths = padded(call.input)
    masks = tuple(padded(masks)[0] for masks in call.zoneout_masks)
    resets = None if call.resets is None else padded(call.resets)[0]
    result = run(replace(call, input=input, lengths=lengths, zoneout_masks=masks, batch_sizes=None, resets=resets))
    counts = torch.arange(input.shape[1], device="cpu")[None, :] < sizes[:, None]
    counts = counts.to(input.device)
    return LayerResult(tuple(output[counts] for output in result.outputs), result.final)
