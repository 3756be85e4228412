"""Decoders: the recurrent half that writes, and where in a step it attends to what was read.

Every decoder takes embedded target tokens (T, B, E) at once. What does not depend on the step before but through the
recurrence is one fused call over all steps; only where a step's input depends on what was attended (`bahdanau`,
`conditional`, input feeding) or scores know the earlier weights (coverage) are steps taken one by one. A single step of
decoding is the same call with T = 1, so both give the same numbers.

T is target steps, S source positions, B rows, E embedding_size, H hidden_size, M units of an annotation.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ..config.encoder_decoder import DecoderSection
from ..layers import Recurrent
from ..layers.regularize import locked_mask
from ..layers.states import join_layers
from .attention import Attended, Memory, make_attention, remember
from .bridge import Bridge
from .encoder import Encoded, layer_of

__all__ = ["Decoder", "DecoderOutput", "DecoderState", "make_decoder"]


class DecoderState(NamedTuple):
    """What a decoder carries from step to step; every tensor has the batch as second dimension.

    Attributes:
        parts: the states of its recurrent parts, each in the form of hx.
        position: (1, B) int64, steps taken.
        feed: (1, B, E), the readout before, for input feeding.
        coverage: (1, B, S), the sum of all weights so far.
        memory: what is attended over.
        context: (1, B, M), the fixed context of a decoder without attention.
        copied: (S, B) int64, the target tokens that source tokens are copied as, -1: none; where they can be copied.
    """

    parts: tuple[Any, ...]
    position: Tensor
    feed: Tensor | None = None
    coverage: Tensor | None = None
    memory: Memory | None = None
    context: Tensor | None = None
    copied: Tensor | None = None


class DecoderOutput(NamedTuple):
    """`features` (T, B, E) for the output layer, the state after the last step, and `weights` (T, B, S) or None."""

    features: Tensor
    state: DecoderState
    weights: Tensor | None


class Decoder(nn.Module):
    """What all decoders share: the bridge, the attention and the readout.

    The readout is tanh(W [s; c]) of the top state and the context (Luong et al. 2015, equation 5), and with the
    embedded word before, tanh(W [s; c; y]), a deep output (Bahdanau et al. 2015; Pascanu et al. 2014).

    Args:
        config: the `model` section.
    """

    deep_output = True

    def __init__(self, config: DecoderSection) -> None:
        super().__init__()
        self.config = config
        self.context_size = config.annotation_size
        self.attention = None
        if config.attention != "none":
            self.attention = make_attention(
                config.attention,
                config.hidden_size,
                config.annotation_size,
                size=config.inner_size,
                heads=config.attention_heads,
                window=config.attention_window,
                coverage=config.coverage,
            )
        self._make_layers()
        self.bridge = Bridge(
            config.bridge,
            config.hidden_size,
            len(self._cell_states()),
            config.decoder_layers,
            source_size=config.annotation_size,
            source_layers=config.source_layers,
            source_directions=config.source_directions,
        )
        width = config.hidden_size + self._readout_context() + (config.embedding_size if self.deep_output else 0)
        self.readout = nn.Linear(width, config.embedding_size)
        norms = config.layer_norm
        self.state_norm = nn.LayerNorm(config.hidden_size) if norms else nn.Identity()
        self.query_norm = nn.LayerNorm(config.hidden_size) if norms and self.attention is not None else nn.Identity()
        self.readout_norm = nn.LayerNorm(config.embedding_size) if norms else nn.Identity()

    def _make_layers(self) -> None:
        raise NotImplementedError

    def _parts(self) -> list[Recurrent]:
        """The recurrent parts that have a state of their own, from the bottom up."""
        raise NotImplementedError

    def forward(self, embedded: Tensor, state: DecoderState) -> DecoderOutput:
        """Take T steps.

        Args:
            embedded: (T, B, E), the token before each that is to be predicted.
            state: from `initial_state`, or of an earlier call.
        """
        raise NotImplementedError

    def initial_state(self, encoded: Encoded) -> DecoderState:
        """The state before the first step."""
        layers = self.bridge(encoded)
        parts, first = [], 0
        for part in self._parts():
            parts.append(join_layers(layers[first : first + part.num_layers], True, True))
            first += part.num_layers
        annotations = encoded.annotations
        steps, batch = annotations.shape[:2]
        position = torch.zeros((1, batch), dtype=torch.int64, device=annotations.device)
        if self.attention is None:
            return DecoderState(tuple(parts), position, context=encoded.summary)
        return DecoderState(
            tuple(parts),
            position,
            feed=annotations.new_zeros((1, batch, self.config.embedding_size)) if self.config.input_feeding else None,
            coverage=annotations.new_zeros((1, batch, steps)) if self.config.coverage else None,
            memory=remember(self.attention, annotations, encoded.mask),
        )

    def _cell_states(self) -> tuple[str, ...]:
        return tuple(self._parts()[0].cell.states)

    def _readout_context(self) -> int:
        return self.context_size

    def _attend(self, query: Tensor, state: DecoderState) -> tuple[Attended, DecoderState]:
        """Attend from T queries, one after another where the scores know the earlier weights."""
        assert self.attention is not None and state.memory is not None
        query = self.query_norm(query)
        if state.coverage is None:
            attended = self.attention(query, state.memory, None, state.position[0])
        else:
            coverage, each = state.coverage, []
            for step in query.split(1):
                each.append(self.attention(step, state.memory, coverage[0]))
                coverage = coverage + each[-1].weights
            attended = Attended(torch.cat([one.context for one in each]), torch.cat([one.weights for one in each]))
            state = state._replace(coverage=coverage)
        return attended, state._replace(position=state.position + len(query))

    def _read_out(self, top: Tensor, context: Tensor | None, embedded: Tensor) -> Tensor:
        parts = [self.state_norm(top)]
        if context is not None:
            parts.append(context)
        if self.deep_output:
            parts.append(embedded)
        return torch.tanh(self.readout_norm(self.readout(torch.cat(parts, dim=-1))))

    def _fused(self, input_size: int, layers: int) -> Recurrent:
        config = self.config
        return layer_of(
            config,
            input_size,
            config.hidden_size,
            num_layers=layers,
            locked_dropout=config.dropout,
            weight_dropout=config.weight_dropout,
        )


class FixedContextDecoder(Decoder):
    """No attention: the source is one vector, however long it is.

    It sets the first state alone (Sutskever, Vinyals & Le 2014), or also enters every step and the readout (Cho et al.
    2014, equations 11 to 13).
    """

    def _make_layers(self) -> None:
        self.every_step = self.config.fixed_context == "every-step"
        width = self.config.embedding_size + (self.context_size if self.every_step else 0)
        self.recurrent = self._fused(width, self.config.decoder_layers)

    def _parts(self) -> list[Recurrent]:
        return [self.recurrent]

    def _readout_context(self) -> int:
        return self.context_size if self.every_step else 0

    def forward(self, embedded: Tensor, state: DecoderState) -> DecoderOutput:
        context = None
        entering = embedded
        if self.every_step:
            assert state.context is not None
            context = state.context.expand(len(embedded), -1, -1)
            entering = torch.cat([embedded, context], dim=-1)
        top, hx = self.recurrent(entering, state.parts[0])
        state = state._replace(parts=(hx,), position=state.position + len(embedded))
        return DecoderOutput(self._read_out(top, context, embedded), state, None)


class LuongDecoder(Decoder):
    """Attention after the last layer (Luong, Pham & Manning 2015, section 3): no step waits for what was attended."""

    deep_output = False

    def _make_layers(self) -> None:
        self.recurrent = self._fused(self.config.embedding_size, self.config.decoder_layers)

    def _parts(self) -> list[Recurrent]:
        return [self.recurrent]

    def forward(self, embedded: Tensor, state: DecoderState) -> DecoderOutput:
        top, hx = self.recurrent(embedded, state.parts[0])
        attended, state = self._attend(top, state._replace(parts=(hx,)))
        return DecoderOutput(self._read_out(top, attended.context, embedded), state, attended.weights)


class InputFeedingDecoder(Decoder):
    """Luong's decoder with the readout fed into the next step (Luong et al. 2015, section 3.3), step by step."""

    deep_output = False

    def _make_layers(self) -> None:
        config = self.config
        sizes = [2 * config.embedding_size, *[config.hidden_size] * (config.decoder_layers - 1)]
        self.layers = nn.ModuleList([layer_of(config, size, config.hidden_size) for size in sizes])

    def _parts(self) -> list[Recurrent]:
        return list(self.layers)  # type: ignore[arg-type]

    def forward(self, embedded: Tensor, state: DecoderState) -> DecoderOutput:
        assert state.feed is not None
        feed, parts, features, weights = state.feed, list(state.parts), [], []
        masks = [self._mask(embedded) for _ in self.layers]
        for word in embedded.split(1):
            value = torch.cat([word, feed], dim=-1)
            for index, layer in enumerate(self.layers):
                mask = masks[index]
                if index and mask is not None:
                    value = value * mask
                value, parts[index] = layer(value, parts[index])
            attended, state = self._attend(value, state)
            feed = self._read_out(value, attended.context, word)
            features.append(feed)
            weights.append(attended.weights)
        state = state._replace(parts=tuple(parts), feed=feed)
        return DecoderOutput(torch.cat(features), state, torch.cat(weights))

    def _mask(self, like: Tensor) -> Tensor | None:
        # Drawn once for all steps, as the layers themselves do where one call has them all.
        config = self.config
        if not self.training or config.dropout == 0.0:
            return None
        return locked_mask(like, config.dropout, (1, like.shape[1], config.hidden_size))


class _SteppedBottomDecoder(Decoder):
    """A first layer that waits for what was attended in each step, and further layers over all steps at once."""

    def _make_bottom(self) -> None:
        raise NotImplementedError

    def _bottom(self) -> Recurrent:
        raise NotImplementedError

    def _step(self, word: Tensor, hx: Any, state: DecoderState) -> tuple[Tensor, Any, Attended, DecoderState]:
        raise NotImplementedError

    def _make_layers(self) -> None:
        self._make_bottom()
        above = self.config.decoder_layers - 1
        self.upper = self._fused(self.config.hidden_size, above) if above else None

    def _parts(self) -> list[Recurrent]:
        return [self._bottom()] + ([self.upper] if self.upper is not None else [])

    def forward(self, embedded: Tensor, state: DecoderState) -> DecoderOutput:
        hx, outputs, contexts, weights = state.parts[0], [], [], []
        for word in embedded.split(1):
            output, hx, attended, state = self._step(word, hx, state)
            outputs.append(output)
            contexts.append(attended.context)
            weights.append(attended.weights)
        top, parts = torch.cat(outputs), [hx]
        if self.upper is not None:
            config = self.config
            if self.training and config.dropout:
                top = top * locked_mask(top, config.dropout, (1, *top.shape[1:]))
            top, above = self.upper(top, state.parts[1])
            parts.append(above)
        features = self._read_out(top, torch.cat(contexts), embedded)
        return DecoderOutput(features, state._replace(parts=tuple(parts)), torch.cat(weights))


class BahdanauDecoder(_SteppedBottomDecoder):
    """Attention before the recurrence: s_t = f(s_t-1, y_t-1, c_t), c_t attended from s_t-1 (Bahdanau et al. 2015).

    Unlike the paper, the readout takes s_t and a tanh, not s_t-1 and a maxout.
    """

    def _make_bottom(self) -> None:
        self.recurrent = layer_of(self.config, self.config.embedding_size + self.context_size, self.config.hidden_size)

    def _bottom(self) -> Recurrent:
        return self.recurrent

    def _step(self, word: Tensor, hx: Any, state: DecoderState) -> tuple[Tensor, Any, Attended, DecoderState]:
        before = hx if isinstance(hx, Tensor) else hx[0]
        attended, state = self._attend(before, state)
        output, hx = self.recurrent(torch.cat([word, attended.context], dim=-1), hx)
        return output, hx, attended, state


class ConditionalDecoder(_SteppedBottomDecoder):
    """Two cells a step with attention between them, the conditional GRU (Sennrich et al. 2017, section 2.1).

    s' = f1(s_t-1, y_t-1), c_t attended from s', s_t = f2(s', c_t).
    """

    def _make_bottom(self) -> None:
        self.first = layer_of(self.config, self.config.embedding_size, self.config.hidden_size)
        self.second = layer_of(self.config, self.context_size, self.config.hidden_size)

    def _bottom(self) -> Recurrent:
        return self.first

    def _step(self, word: Tensor, hx: Any, state: DecoderState) -> tuple[Tensor, Any, Attended, DecoderState]:
        middle, hx = self.first(word, hx)
        attended, state = self._attend(middle, state)
        output, hx = self.second(attended.context, hx)
        return output, hx, attended, state


class StackedDecoder(Decoder):
    """Attention after the first layer, its context entering the layers above: all layers run over all steps at once.

    As the decoder of Chen et al. (2018), "The Best of Both Worlds", section 3, whose layers above the first take the
    context that the first attends, but without that context's way back into the first layer, which alone would keep the
    steps from running at once; the layers above remember what was attended.
    """

    def _make_layers(self) -> None:
        config = self.config
        self.recurrent = self._fused(config.embedding_size, 1)
        self.upper = self._fused(config.hidden_size + self.context_size, config.decoder_layers - 1)

    def _parts(self) -> list[Recurrent]:
        return [self.recurrent, self.upper]

    def forward(self, embedded: Tensor, state: DecoderState) -> DecoderOutput:
        low, first = self.recurrent(embedded, state.parts[0])
        attended, state = self._attend(low, state)
        if self.training and self.config.dropout:
            low = low * locked_mask(low, self.config.dropout, (1, *low.shape[1:]))
        top, above = self.upper(torch.cat([low, attended.context], dim=-1), state.parts[1])
        features = self._read_out(top, attended.context, embedded)
        return DecoderOutput(features, state._replace(parts=(first, above)), attended.weights)


def make_decoder(config: DecoderSection) -> Decoder:
    """The decoder that the `model` section describes.

    Raises:
        ConfigError: if the cell or the bridge cannot do what is asked of it.
    """
    if config.attention == "none":
        return FixedContextDecoder(config)
    if config.input_feeding:
        return InputFeedingDecoder(config)
    kinds: dict[str, type[Decoder]] = {
        "luong": LuongDecoder,
        "bahdanau": BahdanauDecoder,
        "conditional": ConditionalDecoder,
        "stacked": StackedDecoder,
    }
    return kinds[config.decoder](config)
