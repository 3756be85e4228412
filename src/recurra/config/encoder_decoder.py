"""The sections of systems that read something with an encoder and write a sequence with a decoder."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from ..bounds import MOST_UNITS
from .sections import Section

__all__ = ["DecoderSection", "EncoderSection", "StackSection"]


class StackSection(Section):
    """What an encoder and a decoder have in common."""

    cell: str = Field("gru", description="A cell listed by `recurra cells`, or FILE.py:CLASS for your own (gru).")
    embedding_size: int = Field(
        256, ge=1, le=MOST_UNITS, description="Units of an embedded token, and of the readout (256)."
    )
    hidden_size: int = Field(
        256, ge=1, le=MOST_UNITS, description="Units of each decoder layer and each encoder direction (256)."
    )
    layer_norm: bool = Field(
        False,
        description="Layer normalisation of what the encoder gives, the state that asks, the top state and the readout "
        "(Ba et al. 2016) (false).",
    )
    dropout: float = Field(0.0, ge=0.0, lt=1.0, description="Locked dropout between layers, one mask a sequence (0).")
    weight_dropout: float = Field(
        0.0, ge=0.0, lt=1.0, description="Dropout on the recurrent weights of layers run as one call (0)."
    )
    forget_bias: float | None = Field(1.0, description="Initial bias of the forget gate; null: as torch.nn (1).")


class EncoderSection(StackSection):
    """A recurrent encoder of a sequence."""

    encoder_layers: int = Field(1, ge=1, le=1000, description="Layers of the encoder (1).")
    bidirectional: bool = Field(True, description="Read the source in both directions (true).")
    annotation_dropout: float = Field(
        0.0, ge=0.0, lt=1.0, description="Locked dropout on annotations or the context (0)."
    )

    @property
    def annotation_size(self) -> int:
        """Units of the encoder's output at each source position."""
        return self.hidden_size * (2 if self.bidirectional else 1)


class DecoderSection(StackSection):
    """A recurrent decoder, and how it sees what was encoded."""

    decoder_layers: int = Field(2, ge=1, le=1000, description="Layers of the decoder (2).")
    decoder: Literal["luong", "bahdanau", "conditional", "stacked"] = Field(
        "stacked",
        description="Where the decoder attends: after all layers (luong), before the first (bahdanau), between two "
        "cells of one step (conditional), or after the first layer (stacked) (stacked).",
    )
    attention: Literal["none", "additive", "concat", "dot", "general", "local", "local-monotonic", "multi-head"] = (
        Field("additive", description="How source positions are weighed; none: a fixed context (additive).")
    )
    attention_size: int | None = Field(
        None, ge=1, description="Units of additive or multi-head attention; null: hidden_size (null)."
    )
    attention_heads: int = Field(4, ge=1, le=1_000_000, description="Heads of multi-head attention (4).")
    attention_window: int = Field(5, ge=1, description="Source positions that local attention sees on a side (5).")
    input_feeding: bool = Field(
        False, description="Feed the readout into the next step (Luong et al. 2015); for luong, step by step (false)."
    )
    coverage: bool = Field(
        False, description="Let additive attention know what was attended before (See et al. 2017) (false)."
    )
    fixed_context: Literal["initial", "every-step"] = Field(
        "every-step",
        description="Without attention: the context sets the first state alone (Sutskever et al. 2014), or also enters "
        "every step (Cho et al. 2014) (every-step).",
    )
    bridge: Literal["none", "copy", "dense", "mean"] = Field(
        "dense",
        description="The decoder's first state: zero, the encoder's last, a layer of it, or of the mean (dense).",
    )
    output_dropout: float = Field(0.0, ge=0.0, lt=1.0, description="Locked dropout before the output layer (0).")

    @property
    def annotation_size(self) -> int:
        """Units of what was encoded at each source position; each system says them."""
        raise NotImplementedError

    @property
    def source_layers(self) -> int:
        """Recurrent layers of the encoder, whose last states the bridge takes."""
        return 1

    @property
    def source_directions(self) -> int:
        """Directions in which the encoder reads."""
        return 1

    @property
    def attends(self) -> bool:
        """Whether the decoder attends, rather than see a fixed context."""
        return self.attention != "none"

    @property
    def reads_annotations(self) -> bool:
        """Whether the decoder sees what was encoded other than through its own first state."""
        return self.attends or self.fixed_context == "every-step" or self.bridge == "mean"

    @property
    def inner_size(self) -> int:
        """Units inside the attention."""
        return self.attention_size or self.hidden_size

    @model_validator(mode="after")
    def _decodes(self) -> Self:
        if self.decoder == "stacked" and self.decoder_layers < 2 and self.attends:
            raise ValueError("decoder stacked attends between layers, so decoder_layers must be at least 2")
        if self.input_feeding and (self.decoder != "luong" or not self.attends):
            raise ValueError("input_feeding is for decoder luong with attention; the others feed the context by design")
        if self.coverage and self.attention not in ("additive", "concat"):
            raise ValueError(f"coverage is for additive or concat attention, not for {self.attention}")
        if not self.attends and self.fixed_context == "initial" and self.bridge == "none":
            raise ValueError("a decoder with bridge none and fixed_context initial would never see the source")
        if self.attention == "dot" and self.annotation_size != self.hidden_size:
            raise ValueError(
                f"attention dot needs annotations of hidden_size {self.hidden_size}, but they have "
                f"{self.annotation_size}; set bidirectional to false or attention to general"
            )
        if self.attention == "multi-head" and self.inner_size % self.attention_heads:
            raise ValueError(f"attention_heads {self.attention_heads} does not divide the {self.inner_size} units")
        return self
