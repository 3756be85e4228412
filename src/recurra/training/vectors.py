"""Starting embeddings from word vectors that others trained."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from ..data.tokenizer import Tokenizer
from ..data.vectors import embedding_rows, read_vectors
from ..errors import ConfigError, DataError
from ..shown import tell

__all__ = ["start_from_vectors"]


def start_from_vectors(embedding: nn.Embedding, tokens: Tokenizer | Sequence[str], path: str, key: str) -> None:
    """Give those tokens that a file has a vector for its numbers, and say how many they are; the others keep theirs.

    Args:
        embedding: one row a token.
        tokens: the tokenizer of these tokens, or their texts; a token without a text has no vector.
        path: of a file of word2vec, GloVe or fastText.
        key: of the configuration, that names the file.

    Raises:
        DataError: if the file cannot be read or has none of the tokens.
        ConfigError: if its vectors have another size than the embedding.
    """
    found = embedding_rows(tokens, path) if isinstance(tokens, Tokenizer) else read_vectors(path, tokens)
    if not len(found.index):
        raise DataError(f"{path}: has no vector for any token of the vocabulary; name a file of this language's words.")
    size = found.rows.shape[1]
    if size != embedding.embedding_dim:
        raise ConfigError(
            f"{key}: the vectors of {path} have {size} numbers, and the embeddings {embedding.embedding_dim} units; "
            f"set model.embedding_size={size}."
        )
    with torch.no_grad():
        rows = torch.from_numpy(found.rows).to(embedding.weight)
        embedding.weight[torch.from_numpy(found.index).to(embedding.weight.device)] = rows
    tell(f"recurra: {path}: has vectors for {len(found.index):,} of {found.wanted:,} tokens, {found.share:.1%}.")
