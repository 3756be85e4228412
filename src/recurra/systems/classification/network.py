"""A recurrent classifier of texts: embedding, recurrent stack, pooling, output layers."""

from __future__ import annotations

import re

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...layers import Recurrent
from ...layers.regularize import locked_mask
from ...models.pooling import Pooling
from ...models.transformer import TransformerLayers, layers_of
from .config import ClassificationModelConfig

__all__ = ["TextClassifier"]


class TextClassifier(nn.Module):
    """Logits of labels, or a number, for each text of a batch.

    A text is embedded, read in one or two directions, and pooled to one vector (see `Pooling`), of which the output
    layer makes a number for each label.

    Args:
        vocab_size: number of tokens V.
        outputs: number of labels K; 1 for a number.
        config: the `model` section.

    Attributes:
        temperature: (), what logits are divided by before they become probabilities (Guo et al. 2017). It is fitted to
            the validation data at each evaluation, and kept with the weights.
        thresholds: (K,), the probability from which on a text of several labels has this one; fitted likewise.
        prior: (K,), the share of training texts that has each label, all that is known of a text without tokens.

    Raises:
        ConfigError: if the cell is not known or cannot do what the section asks of it.
    """

    temperature: Tensor
    thresholds: Tensor
    prior: Tensor

    def __init__(self, vocab_size: int, outputs: int, config: ClassificationModelConfig) -> None:
        super().__init__()
        self.vocab_size, self.outputs, self.config = vocab_size, outputs, config
        self.embedding = nn.Embedding(vocab_size, config.input_size)
        self.recurrent = _recurrent(config)
        self.pooling = Pooling(
            config.pooling,
            config.output_size,
            bidirectional=config.bidirectional,
            attention_size=config.attention_size,
            attention_heads=config.attention_heads,
        )
        self.hidden = None if config.head_size is None else nn.Linear(self.pooling.size, config.head_size)
        self.output = nn.Linear(config.head_size or self.pooling.size, outputs)
        self.register_buffer("temperature", torch.ones(()))
        self.register_buffer("thresholds", torch.full((outputs,), 0.5))
        self.register_buffer("prior", torch.zeros(outputs))
        nn.init.normal_(self.embedding.weight, std=config.init_scale)

    def forward(self, tokens: Tensor, lengths: Tensor, frozen: bool = False) -> Tensor:
        """Read texts.

        Args:
            tokens: (T, B) int64; what lies beyond a length is not looked at.
            lengths: (B,) int64 on the CPU, each at least 1.
            frozen: whether embedding and recurrent layers get no gradient in this call.

        Returns:
            (B, K) logits, or the number in deviations from the mean of the training texts.
        """
        with torch.set_grad_enabled(torch.is_grad_enabled() and not frozen):
            outputs = self._read(self._embed(tokens), lengths)
        return self._judge(outputs, lengths)

    def from_embedded(self, embedded: Tensor, lengths: Tensor) -> Tensor:
        """The same of texts that are embedded already: (T, B, E)."""
        return self._judge(self._read(embedded, lengths), lengths)

    def parts(self) -> list[list[Tensor]]:
        """The parameters from the output layers down: these, each recurrent layer from the last on, the embedding."""
        layers: list[list[Tensor]] = [[] for _ in range(self.config.num_layers)]
        for name, parameter in self.recurrent.named_parameters():
            layer = re.search(r"(?:_l|layers\.)(\d+)", name)
            layers[int(layer[1]) if layer else 0].append(parameter)
        head: list[Tensor] = [*self.pooling.parameters(), *self.output.parameters()]
        head += [] if self.hidden is None else self.hidden.parameters()
        return [head, *reversed(layers), [self.embedding.weight]]

    def _embed(self, tokens: Tensor) -> Tensor:
        embedded: Tensor = self.embedding(tokens)
        rate = self.config.embedding_dropout
        if self.training and rate:
            # A dropped word is dropped wherever it stands in the batch.
            embedded = embedded * locked_mask(embedded, rate, (self.vocab_size, 1))[tokens]
        return embedded

    def _read(self, embedded: Tensor, lengths: Tensor) -> Tensor:
        outputs: Tensor = self.recurrent(embedded, lengths=lengths)[0]
        return outputs

    def _judge(self, outputs: Tensor, lengths: Tensor) -> Tensor:
        rate = self.config.output_dropout if self.training else 0.0
        pooled = F.dropout(self.pooling(outputs, lengths), rate)
        if self.hidden is not None:
            pooled = F.dropout(torch.relu(self.hidden(pooled)), rate)
        logits: Tensor = self.output(pooled)
        return logits


def _recurrent(config: ClassificationModelConfig) -> Recurrent | TransformerLayers:
    sizes = config.layer_sizes
    return layers_of(
        config,
        config.input_size,
        sizes if len(set(sizes)) > 1 else sizes[0],
        num_layers=config.num_layers,
        bidirectional=config.bidirectional,
        input_dropout=config.input_dropout,
        locked_dropout=config.dropout,
        weight_dropout=config.weight_dropout,
        residual=config.residual,
        learn_initial_state=config.learn_initial_state,
    )
