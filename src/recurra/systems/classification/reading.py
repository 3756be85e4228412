"""How a classifier reads a text, for whoever looks at its states."""

from __future__ import annotations

import torch
from torch import Tensor

from ..reading import Reader, Reading, Side
from .batches import padded
from .predict import Classifier

__all__ = ["READER"]


def _read(predictor: Classifier, text: str, most: int) -> Reading:
    limit = predictor.config.data.max_length
    tokenizer, model = predictor.tokenizer, predictor.model
    whole = tokenizer.encode(text)
    most = min(most, limit)
    ids = whole[:most]

    def run() -> Tensor:
        tokens, lengths = padded([ids], tokenizer.eos_id)
        with torch.inference_mode():
            logits: Tensor = model(tokens.to(model.embedding.weight.device), lengths)
        return logits

    side = Side("text", text, tokenizer.places(text)[:most], "recurrent", before=1)
    return Reading(model, (side,), run, limit if len(whole) > limit else None)


READER = Reader(_read)
