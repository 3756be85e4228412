"""An encoder and a decoder put together: P(target | source), and one step of it for decoding."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, overload

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...layers.regularize import locked_mask
from ...models.decoder import DecoderOutput, DecoderState, make_decoder
from ...models.encoder import Encoder, locked
from ...models.loss import smoothed_cross_entropy
from ...models.projected_loss import projected_cross_entropy
from .config import TranslationModelConfig

__all__ = ["EncoderDecoder", "EncoderDecoderOutput", "TeacherForcing"]

# Numbers that the largest tensor of a chunk of steps may hold, 64 MiB in float32.
_MOST_NUMBERS = 1 << 24


class EncoderDecoderOutput(NamedTuple):
    """Logits (T, B, V), attention weights (T, B, S) or None, and the decoder's state after the last step.

    Where source tokens are copied, the logits are the logarithms of the mixed probabilities themselves.
    """

    logits: Tensor
    weights: Tensor | None
    state: DecoderState


class TeacherForcing(NamedTuple):
    """Losses of a batch of pairs, scalars: `objective` with label smoothing, `nats` without; attention as above."""

    objective: Tensor
    nats: Tensor
    weights: Tensor | None


class EncoderDecoder(nn.Module):
    """P(next target token | source, target tokens so far) (Sutskever et al., Cho et al. 2014; Bahdanau et al. 2015).

    Args:
        source_size, target_size: numbers of source and target tokens; the same where all embeddings are tied.
        config: the `model` section.
        copied_as: (source_size,) int64, the target token that a source token is copied as, -1: none; None: itself.

    Raises:
        ConfigError: if the cell is not known or a section's values do not fit together.
        ValueError: if embeddings of different vocabularies are to be tied.
    """

    def __init__(
        self, source_size: int, target_size: int, config: TranslationModelConfig, copied_as: Tensor | None = None
    ) -> None:
        super().__init__()
        if (config.tied == "all" or (config.copy_source and copied_as is None)) and source_size != target_size:
            raise ValueError(
                f"vocabularies of {source_size} and {target_size} tokens cannot share an embedding or copy tokens"
            )
        self.config = config
        self.source_size = source_size
        self.target_size = target_size
        width = config.embedding_size
        self.target_embedding = nn.Embedding(target_size, width)
        self.source_embedding = None if config.tied == "all" else nn.Embedding(source_size, width)
        self.encoder = Encoder(config, attended=config.attends, read=config.reads_annotations)
        self.decoder = make_decoder(config)
        self.output = nn.Linear(width, target_size, bias=False) if config.tied == "none" else None
        self.output_bias = nn.Parameter(torch.empty(target_size))
        self.copy_gate = nn.Linear(width, 1) if config.copy_source else None
        # The vocabularies tell it, so it is not kept with the weights.
        self.copied_as: Tensor | None
        self.register_buffer("copied_as", copied_as, persistent=False)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Normal embeddings and output weights of deviation `init_scale`, else E^-1/2; a zero bias.

        With E^-1/2 the first logits lie near zero: the readout is within +-1, and a row's product with it has a
        deviation below one.
        """
        deviation = self.config.init_scale or self.config.embedding_size**-0.5
        for module in (self.target_embedding, self.source_embedding, self.output):
            if module is not None:
                nn.init.normal_(module.weight, std=deviation)
        nn.init.zeros_(self.output_bias)

    @overload
    def forward(self, source: Tensor, lengths: Tensor, target: Tensor) -> EncoderDecoderOutput: ...

    @overload
    def forward(
        self, source: Tensor, lengths: Tensor, target: Tensor, wanted: Tensor, smoothing: float = 0.0
    ) -> TeacherForcing: ...

    def forward(
        self, source: Tensor, lengths: Tensor, target: Tensor, wanted: Tensor | None = None, smoothing: float = 0.0
    ) -> EncoderDecoderOutput | TeacherForcing:
        """Predict the token after each of `target`, the source being known (teacher forcing).

        Args:
            source: (S, B) int64; what lies beyond a length is not looked at.
            lengths: (B,) int64 on the CPU, of the sources.
            target: (T, B) int64, what stands before each token that is to be predicted.
            wanted: (T, B) int64, the tokens to be predicted, -100 where none is; their loss is then given in place of
                logits, of which a few rows at a time are made unless tokens are copied.
            smoothing: share of the loss that is spread over the vocabulary (Szegedy et al. 2016).
        """
        state = self.encode(source, lengths)
        if wanted is None:
            return self.step(target, state)
        features, output = self._features(target, state)
        aims = wanted.flatten()
        if self.copy_gate is None:
            losses = projected_cross_entropy(features.flatten(0, 1), self._matrix, self.output_bias, aims, smoothing)
        else:
            logits = self._logits(features, output)
            losses = smoothed_cross_entropy(logits.flatten(0, 1).float(), aims, smoothing, -100)
        return TeacherForcing(*losses, output.weights)

    def chunks(
        self, source: Tensor, lengths: Tensor, target: Tensor, most: int = _MOST_NUMBERS
    ) -> Iterator[EncoderDecoderOutput]:
        """What `forward` gives, a few target steps after another, for when no gradient is wanted.

        Additive attention compares all target steps with all source positions in a tensor (B, T, S, A), and the logits
        are (T, B, V); both grow without bound on long pairs. The decoder's state carries from chunk to chunk, so the
        numbers are those of one call.

        Args:
            source, lengths, target: as in `forward`.
            most: numbers that the largest tensor of a chunk may hold; a chunk has at least one step.
        """
        with torch.no_grad():
            state = self.encode(source, lengths)
        positions = 0 if self.config.attention == "none" else source.shape[0] * self.config.inner_size
        steps = max(most // (target.shape[1] * max(positions, self.target_size)), 1)
        for part in target.split(steps):
            # Entered anew for each chunk: a context that stays open over a yield would leak into the caller.
            with torch.no_grad():
                output = self.step(part, state)
            state = output.state
            yield output

    def encode(self, source: Tensor, lengths: Tensor) -> DecoderState:
        """Read sources; the decoder's state before its first step. Arguments as in `forward`."""
        read = reverse(source, lengths) if self.config.reverse_source else source
        embedding = self.target_embedding if self.source_embedding is None else self.source_embedding
        encoded = self.encoder(self._embed(embedding, read), lengths)
        if self.config.reverse_source:
            # In the order of the text again, so that attention weights are those of its words.
            encoded = encoded._replace(annotations=reverse(encoded.annotations, lengths))
        state = self.decoder.initial_state(encoded)
        if self.copy_gate is None:
            return state
        return state._replace(copied=source if self.copied_as is None else self.copied_as[source])

    def step(self, tokens: Tensor, state: DecoderState) -> EncoderDecoderOutput:
        """Go on by T tokens (T, B) from a state."""
        features, output = self._features(tokens, state)
        return EncoderDecoderOutput(self._logits(features, output), output.weights, output.state)

    @property
    def _matrix(self) -> Tensor:
        return self.target_embedding.weight if self.output is None else self.output.weight

    def _features(self, tokens: Tensor, state: DecoderState) -> tuple[Tensor, DecoderOutput]:
        """What the output layer reads, (T, B, E), and what else the decoder gave."""
        output = self.decoder(self._embed(self.target_embedding, tokens), state)
        return locked(output.features, self.config.output_dropout, self.training), output

    def _logits(self, features: Tensor, output: DecoderOutput) -> Tensor:
        logits = F.linear(features, self._matrix, self.output_bias)
        return logits if self.copy_gate is None else self._with_copies(logits, features, output)

    def _with_copies(self, logits: Tensor, features: Tensor, output: DecoderOutput) -> Tensor:
        """log(g P(y) + (1 - g) sum of the weights of the source tokens that are y) (See et al. 2017, equation 9).

        The weights of source tokens that cannot be copied go to P(y) instead.

        The gate g is a sigmoid of the readout, which is made of the state, context and word that their equation 8
        takes; it is the switch of Gulcehre et al. (2016), summed over instead of taught. A source word that the
        vocabulary lacks is copied as <unk>, for which it is then written.
        """
        assert self.copy_gate is not None and output.weights is not None and output.state.copied is not None
        # Probabilities and their logarithms want more than the eight bits of bfloat16.
        precise = torch.promote_types(logits.dtype, torch.float32)
        gate = torch.sigmoid(self.copy_gate(features).to(precise))
        weights = output.weights.to(precise)
        # Weights of bfloat16 sum to one only nearly.
        copied = (1 - gate) * weights / weights.sum(-1, keepdim=True)
        tokens = output.state.copied.t()
        written = gate + (copied * (tokens < 0)).sum(-1, keepdim=True)
        places = tokens.clamp(min=0).expand(len(logits), -1, -1)
        mixed = (written * logits.softmax(-1, dtype=precise)).scatter_add(-1, places, copied * (tokens >= 0))
        return mixed.clamp(min=torch.finfo(mixed.dtype).tiny).log()

    def _embed(self, embedding: nn.Embedding, tokens: Tensor) -> Tensor:
        # Undoes the small deviation that the output layer wants of a shared matrix (Vaswani et al. 2017, section 3.4).
        embedded = embedding(tokens) * self.config.embedding_size**0.5
        config = self.config
        if self.training and config.embedding_dropout:
            kept = locked_mask(embedded, config.embedding_dropout, (embedding.num_embeddings, 1))
            embedded = embedded * kept[tokens]
        return locked(embedded, config.input_dropout, self.training)


def reverse(steps: Tensor, lengths: Tensor) -> Tensor:
    """Each row's first `lengths` steps backwards, what follows them in its place: (S, B, ...)."""
    places = torch.arange(steps.shape[0], device=steps.device).unsqueeze(1)
    ends = lengths.to(steps.device)
    index = torch.where(places < ends, ends - 1 - places, places)
    return steps.gather(0, index.view(*index.shape, *[1] * (steps.dim() - 2)).expand_as(steps))
