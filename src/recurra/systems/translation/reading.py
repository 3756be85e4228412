"""How a translation system reads a source and writes its translation, for whoever looks at its states."""

from __future__ import annotations

import torch
from torch import Tensor

from ...data.token_batches import collate
from ..reading import Reader, Reading, Side
from .predict import Translator

__all__ = ["READER"]


def _read(predictor: Translator, text: str, most: int) -> Reading:
    """A source, or a source, a tab and its translation; without one it is the translation that the model finds."""
    model = predictor.network()
    source, tab, target = text.partition("\t")
    limit = predictor.config.decoding.max_source_length
    reads, writes = predictor.source_tokenizer, predictor.target_tokenizer
    whole = reads.encode(source)
    read = min(most, limit)
    ids = whole[:read]
    if not tab:
        target = predictor.translate([source])[0].best
    written = writes.encode(target)[:most]
    batch = collate([(ids, written)], reads.eos_id, writes.eos_id).to(model.output_bias.device)

    def run() -> Tensor:
        return torch.cat([part.logits for part in model.chunks(batch.source, batch.lengths, batch.before)])

    backwards = model.config.reverse_source
    return Reading(
        model,
        (
            Side("source", source, reads.places(source)[:read], "encoder.", after=1, backwards=backwards),
            Side("translation", target, writes.places(target)[:most], "decoder.", before=1),
        ),
        run,
        limit if len(whole) > limit else None,
    )


READER = Reader(_read)
