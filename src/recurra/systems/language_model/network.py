"""A recurrent language model: embedding, recurrent stack, output layer, with the regularisers of AWD-LSTM."""

from __future__ import annotations

from typing import Any, NamedTuple, overload

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...errors import ConfigError
from ...layers import Recurrent
from ...layers.regularize import locked_mask
from ...models.projected_loss import projected_cross_entropy
from ...models.transformer import TransformerLayers, layers_of
from .config import ModelConfig

__all__ = ["LanguageModel", "LanguageModelLoss", "LanguageModelOutput", "detach_state"]


class LanguageModelOutput(NamedTuple):
    """What a forward pass gives; `raw` and `dropped` are the last layer before and after output dropout, (T, B, H)."""

    logits: Tensor
    hx: Any
    raw: Tensor
    dropped: Tensor


class LanguageModelLoss(NamedTuple):
    """What a forward pass gives that is told the right tokens: the mean nats a token in place of logits."""

    nats: Tensor
    hx: Any
    raw: Tensor
    dropped: Tensor


class LanguageModel(nn.Module):
    """P(next token | tokens so far) by a recurrent stack.

    Regularised as in Merity, Keskar & Socher (2018), "Regularizing and Optimizing LSTM Language Models": dropout of
    whole words (Gal & Ghahramani 2016), dropout on the input, between layers and on the output, locked or (Zaremba et
    al. 2014) drawn anew each step, dropout on the recurrent weights or operands, zoneout. Embedding and output layer
    may share one matrix (Press & Wolf 2017; Inan et al. 2017).

    Args:
        vocab_size: number of tokens V.
        config: the `model` section; `config.cell` is a name of `recurra.cells` or FILE.py:CLASS.

    Raises:
        ConfigError: if the cell is not known or cannot do what the section asks of it.
    """

    def __init__(self, vocab_size: int, config: ModelConfig) -> None:
        super().__init__()
        sizes = config.layer_sizes
        self.vocab_size = vocab_size
        self.config = config
        self.embedding = nn.Embedding(vocab_size, config.input_size)
        self.recurrent = _recurrent(config)
        self.output = None if config.tied else nn.Linear(sizes[-1], vocab_size, bias=False)
        self.output_bias = nn.Parameter(torch.empty(vocab_size))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Embedding and output weights as `init` and `init_scale` say (null: normal, 1/2), and a zero output bias.

        The usual uniform +-0.1 (Zaremba et al. 2014; Merity et al. 2018) is for SGD at a rate of 20 or 30. Adam's steps
        do not grow with the gradient: from start values so small, its loss is higher even at the end of a training
        (experiments/results/defaults). The bias learns the tokens' frequencies within a few steps.
        """
        scale = self.config.start_scale
        for layer in (self.embedding, self.output):
            if layer is not None and self.config.init == "uniform":
                nn.init.uniform_(layer.weight, -scale, scale)
            elif layer is not None:
                nn.init.normal_(layer.weight, std=scale)
        nn.init.zeros_(self.output_bias)
        bound = self.config.recurrent_init_scale
        if bound is not None:
            if isinstance(self.recurrent, TransformerLayers):
                raise ConfigError("model.recurrent_init_scale: a transformer has no recurrent weights; leave it out.")
            self.recurrent.reset_parameters(bound)

    @overload
    def forward(self, tokens: Tensor, hx: Any = None) -> LanguageModelOutput: ...

    @overload
    def forward(self, tokens: Tensor, hx: Any, wanted: Tensor) -> LanguageModelLoss: ...

    def forward(
        self, tokens: Tensor, hx: Any = None, wanted: Tensor | None = None
    ) -> LanguageModelOutput | LanguageModelLoss:
        """Predict the token after each of `tokens`.

        Args:
            tokens: (T, B) int64.
            hx: the state before the first step, in the form that `hx` of an earlier call had; None: the initial state.
            wanted: (T, B) int64, the tokens that follow; logits are then made a few rows at a time for their loss.

        Returns:
            Logits (T, B, V) or the loss, the state after the last step, and the last layer's output.
        """
        raw, hx = self.recurrent(self._embed(tokens), hx)
        dropped = self._drop_output(raw)
        weight = self.embedding.weight if self.output is None else self.output.weight
        if wanted is not None:
            nats, _ = projected_cross_entropy(dropped.flatten(0, 1), weight, self.output_bias, wanted.flatten())
            return LanguageModelLoss(nats, hx, raw, dropped)
        return LanguageModelOutput(F.linear(dropped, weight, self.output_bias), hx, raw, dropped)

    def _embed(self, tokens: Tensor) -> Tensor:
        embedded: Tensor = self.embedding(tokens)
        if not self.training:
            return embedded
        rate = self.config.embedding_dropout
        if rate:
            # A dropped word is dropped wherever it stands; masking after the look-up spares a copy of the whole matrix.
            embedded = embedded * locked_mask(embedded, rate, (self.vocab_size, 1))[tokens]
        # Locked dropout of the input is done by the recurrent layers.
        return embedded if self.config.locked_dropout else F.dropout(embedded, self.config.input_dropout)

    def _drop_output(self, raw: Tensor) -> Tensor:
        rate = self.config.output_dropout
        if not self.training or rate == 0.0:
            return raw
        return raw * locked_mask(raw, rate, (1, *raw.shape[1:])) if self.config.locked_dropout else F.dropout(raw, rate)


def _recurrent(config: ModelConfig) -> Recurrent | TransformerLayers:
    sizes = config.layer_sizes
    return layers_of(
        config,
        config.input_size,
        sizes if len(set(sizes)) > 1 else sizes[0],
        num_layers=config.num_layers,
        input_dropout=config.input_dropout if config.locked_dropout else 0.0,
        locked_dropout=config.dropout if config.locked_dropout else 0.0,
        dropout=0.0 if config.locked_dropout else config.dropout,
        recurrent_dropout=config.recurrent_dropout,
        weight_dropout=config.weight_dropout,
        zoneout=config.zoneout,
        residual=config.residual,
        learn_initial_state=config.learn_initial_state,
    )


def detach_state(hx: Any) -> Any:
    """The same state, cut from the graph that made it: what truncated backpropagation carries on."""
    if isinstance(hx, Tensor):
        return hx.detach()
    if isinstance(hx, list | tuple):
        return type(hx)(detach_state(part) for part in hx)
    return hx
